//! The capture kernel's image: which one is loaded, and from where.
//!
//! The first of these that there is: the one that the command line names; the one that the configuration names; the signed copy
//! ([`SIGNED_COPY`]), if it is the image inside this program with a signature; the image inside this program.

mod pe;
mod signer;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fmt, process};

use handoff::setup_header::SIGNATURE;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::{Bytes, small_file};

pub use signer::{Certificate, CertificateError, KeyId};

/// Where `holdover sign` puts the signed image, if it is not told otherwise.
pub const SIGNED_COPY: &str = "/var/lib/holdover/capture.bzImage";

/// More than any image has.
const MOST: Bytes = Bytes(256 << 20);

/// The image that [`carry`] was told.
static CARRIED: OnceLock<&'static [u8]> = OnceLock::new();

/// Tells which image is inside this program, so that `doctor` judges the one that `load` chooses. The first that is told counts.
pub fn carry(image: &'static [u8]) {
    CARRIED.get_or_init(|| image);
}

/// The image inside this program, as far as that was told.
pub(crate) fn carried() -> Option<&'static [u8]> {
    CARRIED.get().copied()
}

/// A capture kernel: a bzImage.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    origin: Origin,
    bytes: Cow<'static, [u8]>,
}

/// Where an image was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In this file.
    File(PathBuf),
    /// In this program.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Program => f.write_str("the image inside this program"),
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}, {} bytes)", self.origin, self.bytes.len())
    }
}

/// Where an image may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageChoice<'a> {
    /// The file that the command line names.
    pub named: Option<&'a Path>,
    /// The file that the configuration names.
    pub configured: Option<&'a Path>,
    /// The image inside this program.
    pub embedded: Option<&'static [u8]>,
}

/// Why there is no image to load.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum ImageError {
    /// There is no file of the image's name.
    #[error(
        "cannot read {image}; name the capture kernel's image, or leave `--image` and `image =` out if this program carries one"
    )]
    Unreadable {
        /// The path that was given.
        image: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// The image is no kernel.
    #[error("{origin} is not a bzImage; `cargo xtask build` makes the capture kernel's image")]
    NotABzImage {
        /// Where it was found.
        origin: Origin,
    },
    /// No image is named, and this program was built without one.
    #[error("this program carries no image; name one with --image, or with `image =` in /etc/holdover.toml")]
    None,
}

impl ImageChoice<'_> {
    /// Reads the image that is to be loaded.
    pub fn choose(self) -> Result<Image, ImageError> {
        self.choose_beside(Path::new(SIGNED_COPY))
    }

    /// The same, with the signed copy in another place.
    pub(crate) fn choose_beside(self, signed_copy: &Path) -> Result<Image, ImageError> {
        if let Some(path) = self.named.or(self.configured) {
            return Image::read(path);
        }
        let embedded = Image::new(Origin::Program, self.embedded.ok_or(ImageError::None)?.into())?;
        // What is no signed copy of this very image is an older one: the image inside the program counts.
        let signed = Image::read(signed_copy).ok().filter(|signed| signed.is_signed_copy_of(&embedded));
        Ok(signed.unwrap_or(embedded))
    }
}

/// What an image says of its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// The image is no PE file, which is what can be signed: an older Holdover made it.
    Impossible,
    /// It has none.
    None,
    /// It was made with the key of this certificate. Only Linux checks that.
    By(Box<Certificate>),
    /// It has one that does not tell who made it.
    Unknown,
}

impl Image {
    /// Reads an image from a file.
    pub fn read(path: &Path) -> Result<Self, ImageError> {
        let image = path.to_owned();
        match small_file::read(path, MOST) {
            Ok(bytes) => Self::new(Origin::File(image), bytes.into()),
            Err(source) => Err(ImageError::Unreadable { image, source }),
        }
    }

    /// Takes a bzImage.
    fn new(origin: Origin, bytes: Cow<'static, [u8]>) -> Result<Self, ImageError> {
        match bytes.get(SIGNATURE..SIGNATURE + 4) {
            Some(b"HdrS") => Ok(Self { origin, bytes }),
            _ => Err(ImageError::NotABzImage { origin }),
        }
    }

    /// Where it was found.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Who signed it. Of several signatures Linux heeds the first only.
    pub fn signature(&self) -> Signature {
        match pe::certificates(&self.bytes) {
            Err(pe::NotPe) => Signature::Impossible,
            Ok([]) => Signature::None,
            Ok(table) => match pe::first_signature(table).and_then(Certificate::of_signer) {
                Some(certificate) => Signature::By(Box::new(certificate)),
                None => Signature::Unknown,
            },
        }
    }

    /// The image without signatures, as it was built; `None` if it can have none.
    pub fn unsigned(&self) -> Option<Vec<u8>> {
        pe::unsigned(&self.bytes).ok()
    }

    pub(crate) fn is_signed(&self) -> bool {
        matches!(self.signature(), Signature::By(_) | Signature::Unknown)
    }

    fn is_signed_copy_of(&self, original: &Self) -> bool {
        self.bytes.len() > original.bytes.len()
            && self.unsigned().is_some_and(|unsigned| Some(unsigned) == original.unsigned())
    }

    /// A file with the image that nobody can write, as the system call wants it.
    pub(crate) fn open(&self) -> io::Result<File> {
        match &self.origin {
            Origin::File(path) => File::open(path),
            Origin::Program => in_memory(&self.bytes),
        }
    }

    /// The file that the image was read from: if it changes, so does what would be loaded.
    pub(crate) fn file(&self) -> io::Result<PathBuf> {
        match &self.origin {
            Origin::File(path) => path.canonicalize(),
            Origin::Program => env::current_exe(),
        }
    }
}

/// A file in memory that is open for reading only.
pub(crate) fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut writable = File::from(memfd_create("holdover", MemfdFlags::CLOEXEC)?);
    writable.write_all(bytes)?;
    // Linux loads no file that is open for writing.
    File::open(path_of(&writable))
}

/// The path by which this process and others reach an open file.
pub(crate) fn path_of(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd()).into()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// A small image, as the build makes it.
    pub(crate) const PLAIN: &[u8] = include_bytes!("../../tests/data/image");
    /// The same image after `sbsign`, with a certificate that another one has issued, which is beside it.
    pub(crate) const SIGNED: &[u8] = include_bytes!("../../tests/data/image-signed");
    /// The signer's certificate.
    pub(crate) const CERTIFICATE: &[u8] = include_bytes!("../../tests/data/certificate.der");

    pub(crate) fn image(bytes: &'static [u8]) -> Image {
        Image::new(Origin::Program, bytes.into()).unwrap()
    }

    fn chosen(signed_copy: &[u8], choice: ImageChoice<'_>) -> Result<Origin, ImageError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("capture.bzImage");
        fs::write(&path, signed_copy).unwrap();
        let image = choice.choose_beside(&path)?;
        Ok(if image.origin == Origin::File(path) { Origin::File("signed copy".into()) } else { image.origin })
    }

    #[test]
    fn the_command_line_comes_before_the_configuration_and_that_before_what_is_inside() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, PLAIN).unwrap();
        fs::write(&two, PLAIN).unwrap();
        let all = ImageChoice { named: Some(&one), configured: Some(&two), embedded: Some(PLAIN) };
        assert_eq!(chosen(SIGNED, all).unwrap(), Origin::File(one.clone()));
        assert_eq!(chosen(SIGNED, ImageChoice { named: None, ..all }).unwrap(), Origin::File(two.clone()));
        let inside = ImageChoice { embedded: Some(PLAIN), ..ImageChoice::default() };
        assert_eq!(chosen(SIGNED, inside).unwrap(), Origin::File("signed copy".into()));
        assert!(matches!(chosen(SIGNED, ImageChoice::default()), Err(ImageError::None)));
    }

    #[test]
    fn the_signed_copy_counts_only_if_it_is_the_image_inside_with_a_signature() {
        let inside = ImageChoice { embedded: Some(PLAIN), ..ImageChoice::default() };
        let mut other = SIGNED.to_vec();
        other[1500] ^= 1;
        for copy in [PLAIN, &other, b"", &SIGNED[..SIGNED.len() - 1]] {
            assert_eq!(chosen(copy, inside).unwrap(), Origin::Program, "{} bytes", copy.len());
        }
    }

    #[test]
    fn what_is_no_kernel_and_what_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        assert!(matches!(Image::read(&path), Err(ImageError::Unreadable { .. })));
        fs::write(&path, [0; 4096]).unwrap();
        assert!(matches!(Image::read(&path), Err(ImageError::NotABzImage { .. })));
    }

    #[test]
    fn a_signature_tells_whose_it_is() {
        assert_eq!(image(PLAIN).signature(), Signature::None);
        let Signature::By(certificate) = image(SIGNED).signature() else {
            panic!("{:?}", image(SIGNED).signature())
        };
        assert_eq!(*certificate, Certificate::parse(CERTIFICATE).unwrap());
        assert_eq!(certificate.subject(), "CN=Example signer,O=Example");
        // As `openssl x509 -ext subjectKeyIdentifier,authorityKeyIdentifier` shows them.
        assert_eq!(certificate.key_id().digits(), "e0596ce65fbd2598c4f7ad9ffe4325946fea9028");
        assert_eq!(certificate.issuer_key_id().unwrap().digits(), "12551bfd678e332c04cf972886e010170883d152");
    }

    #[test]
    fn an_image_that_was_signed_is_the_same_without_its_signature() {
        assert_eq!(image(SIGNED).unsigned().unwrap(), PLAIN);
        assert_eq!(image(PLAIN).unsigned().unwrap(), PLAIN);
    }

    #[test]
    fn an_older_image_cannot_be_signed() {
        let mut bytes = PLAIN.to_vec();
        bytes[..0x120].fill(0);
        let older = Image::new(Origin::Program, bytes.into()).unwrap();
        assert_eq!(older.signature(), Signature::Impossible);
        assert_eq!(older.unsigned(), None);
    }

    #[test]
    fn no_damage_makes_the_reader_panic() {
        for at in 0..SIGNED.len() {
            let mut bytes = SIGNED.to_vec();
            bytes[at] = !bytes[at];
            for bytes in [&bytes[..], &SIGNED[..at]] {
                if let Ok(image) = Image::new(Origin::Program, bytes.to_vec().into()) {
                    let _ = (image.signature(), image.unsigned());
                }
            }
        }
    }

    #[test]
    fn a_certificate_is_read_as_text_and_as_bytes() {
        let certificate = Certificate::parse(CERTIFICATE).unwrap();
        let text = certificate.to_pem().unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n"));
        assert_eq!(Certificate::parse(text.as_bytes()).unwrap(), certificate);
        assert!(Certificate::parse(b"no certificate").is_err());
    }

    #[test]
    fn what_is_handed_over_from_memory_is_the_image_and_nobody_can_write_it() {
        let mut file = image(PLAIN).open().unwrap();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        assert_eq!(bytes, PLAIN);
        assert!(file.write_all(b"x").is_err());
        assert!(path_of(&file).exists());
    }
}
