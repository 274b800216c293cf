//! Signs the capture kernel's image for Secure Boot, through `sbsign`, and checks what came out.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::image::{Certificate, CertificateError, Image, Signature};
use crate::secure_boot::{FirmwareState, KeyState};
use crate::small_file;
use crate::unfinished::{IfExists, OutputError, Unfinished};

/// The programs; Debian's package has another name than Fedora's.
const PACKAGES: &str = "the package sbsigntool (Fedora: sbsigntools) has it";
/// Everybody may read the image: it is no secret.
const EVERYBODY_READS: u32 = 0o644;

/// Where keys for kernel modules of this machine's own are: that of DKMS, that of shim's package, that of akmods. They sign kernels as well.
const PLACES: [[&str; 2]; 3] = [
    ["var/lib/dkms/mok.key", "var/lib/dkms/mok.pub"],
    ["var/lib/shim-signed/mok/MOK.priv", "var/lib/shim-signed/mok/MOK.der"],
    ["etc/pki/akmods/private/private_key.priv", "etc/pki/akmods/certs/public_key.der"],
];

/// A private key, and the certificate of its public one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key's file, PEM.
    pub key: PathBuf,
    /// The certificate's file, PEM or DER.
    pub certificate: PathBuf,
}

impl KeyPair {
    /// The pair that this machine has for its kernel modules, if it has one.
    pub fn of_host() -> Option<Self> {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Option<Self> {
        let pairs = PLACES.map(|place| place.map(|path| root.join(path)));
        let pair = pairs.into_iter().find(|pair| pair.iter().all(|path| path.is_file()));
        pair.map(|[key, certificate]| Self { key, certificate })
    }
}

/// What to sign.
#[derive(Clone, Debug)]
pub struct SignRequest {
    /// The image; a signature that it has is replaced, because Linux heeds the first one only.
    pub image: Image,
    /// By which key; `None` takes the one that this machine has for its kernel modules.
    pub pair: Option<KeyPair>,
    /// Where the signed image goes.
    pub out: PathBuf,
}

/// A signed image.
#[derive(Clone, Debug)]
pub struct SignedImage {
    /// Its file.
    pub out: PathBuf,
    /// What signed it.
    pub pair: KeyPair,
    /// The certificate.
    pub certificate: Certificate,
    /// Whether the running kernel knows the key.
    pub key: KeyState,
    /// What firmware checks.
    pub firmware: FirmwareState,
    /// Whether the certificate's file is as `mokutil` wants it: DER.
    pub is_der: bool,
}

/// Why no image was signed.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum SignError {
    /// No key is named, and none is in a known place.
    #[error(
        "no key is named, and neither DKMS nor shim has one for this machine; name one with --key and --cert, or make one: \
         `openssl req -new -x509 -newkey rsa:2048 -nodes -days 36500 -subj \"/CN=Machine owner\" -keyout mok.key -out mok.pem`"
    )]
    NoKey,
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Its name.
        path: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// The certificate is none.
    #[error("{path} is {source}")]
    Certificate {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: CertificateError,
    },
    /// The image is of an older Holdover.
    #[error("the image is no PE file and cannot be signed: an older Holdover made it; take a newer one")]
    NotSignable,
    /// The program is not there.
    #[error("cannot run {program}; {PACKAGES}")]
    NoTool {
        /// Its name.
        program: &'static str,
        /// What the host said.
        source: io::Error,
    },
    /// The program failed.
    #[error(
        "{program} failed: {said}; key and certificate are a pair if `openssl x509 -in CERT -noout -pubkey` and `openssl pkey -in KEY -pubout` print \
         the same"
    )]
    Failed {
        /// Its name.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// What came out is not the image with a signature.
    #[error(
        "sbsign reported success, but what it wrote is not this image with a signature by {subject}; nothing was kept"
    )]
    Wrong {
        /// Who should have signed.
        subject: String,
    },
    /// The signed image cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Signs an image. The signed one gets its name when it is complete and was checked.
pub fn sign(request: &SignRequest) -> Result<SignedImage, SignError> {
    let pair = request.pair.clone().or_else(KeyPair::of_host).ok_or(SignError::NoKey)?;
    let (certificate, is_der) = read_certificate(&pair.certificate)?;
    let plain = request.image.unsigned().ok_or(SignError::NotSignable)?;
    let pem = certificate.to_pem().unwrap_or_default();
    if let Some(folder) = request.out.parent() {
        make_folder(folder)?;
    }
    let input = HandedOver::new(&request.out, "image", &plain)?;
    let pem = HandedOver::new(&request.out, "pem", pem.as_bytes())?;
    let unfinished = Unfinished::create(&request.out, IfExists::Replace)?;
    let signed = run_tools(&pair.key, &pem, &input, &unfinished)
        .and_then(|()| check(&unfinished, &plain, &certificate));
    if let Err(error) = signed {
        unfinished.discard();
        return Err(error);
    }
    unfinished.keep()?;
    let root = Path::new("/");
    let (key, firmware) = (KeyState::below(root, &certificate), FirmwareState::below(root));
    Ok(SignedImage { out: request.out.clone(), pair, certificate, key, firmware, is_der })
}

fn read_certificate(path: &Path) -> Result<(Certificate, bool), SignError> {
    let bytes = small_file::read(path, small_file::TEXT)
        .map_err(|source| SignError::Read { path: path.to_owned(), source })?;
    match Certificate::parse(&bytes) {
        Ok(certificate) => Ok((certificate, !bytes.starts_with(b"-----"))),
        Err(source) => Err(SignError::Certificate { path: path.to_owned(), source }),
    }
}

fn make_folder(folder: &Path) -> Result<(), SignError> {
    let made = fs::create_dir_all(folder);
    Ok(made.map_err(|source| OutputError::Make { path: folder.to_owned(), source })?)
}

/// A file beside the signed image that the programs read, and that goes with this value. Files in memory have no names where there is
/// no `/proc`, as in a system that is being installed.
struct HandedOver(Unfinished);

impl HandedOver {
    fn new(out: &Path, ending: &str, content: &[u8]) -> Result<Self, SignError> {
        let file = Self(Unfinished::create(&out.with_extension(ending), IfExists::Replace)?);
        let written = file.0.file().write_all(content);
        written.map_err(|source| OutputError::Make { path: file.0.path().to_owned(), source })?;
        Ok(file)
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        // The next run takes its place.
        let _ = fs::remove_file(self.0.path());
    }
}

fn run_tools(
    key: &Path,
    HandedOver(pem): &HandedOver,
    HandedOver(input): &HandedOver,
    out: &Unfinished,
) -> Result<(), SignError> {
    let [pem, input] = [pem.path(), input.path()];
    let own = [OsStr::new("--key"), key.as_ref(), OsStr::new("--cert"), pem.as_ref()];
    let out = out.path().as_os_str();
    // A key's password is asked for on the terminal.
    run("sbsign", &[&own[..], &[OsStr::new("--output"), out, input.as_ref()]].concat())?;
    run("sbverify", &[OsStr::new("--cert"), pem.as_ref(), out])
}

fn run(program: &'static str, arguments: &[&OsStr]) -> Result<(), SignError> {
    let child = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|source| SignError::NoTool { program, source })?;
    let output = child.wait_with_output().map_err(|source| SignError::NoTool { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(SignError::Failed { program, said })
}

/// Checks that a file is the plain image with one signature by the owner of the certificate.
fn check(file: &Unfinished, plain: &[u8], certificate: &Certificate) -> Result<(), SignError> {
    let read = |source| SignError::Read { path: file.path().to_owned(), source };
    let image = Image::read(file.path()).ok();
    let is_right = image.is_some_and(|image| {
        image.signature() == Signature::By(Box::new(certificate.clone()))
            && image.unsigned().is_some_and(|unsigned| unsigned == plain)
    });
    if !is_right {
        return Err(SignError::Wrong { subject: certificate.subject() });
    }
    fs::set_permissions(file.path(), fs::Permissions::from_mode(EVERYBODY_READS)).map_err(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::{CERTIFICATE, PLAIN, SIGNED, image};

    #[test]
    fn the_keys_of_dkms_are_found_and_those_of_shim_after_them() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(KeyPair::below(root.path()), None);
        for [key, certificate] in [PLACES[1], PLACES[0]] {
            for path in [key, certificate] {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                assert_ne!(KeyPair::below(root.path()).map(|pair| pair.key), Some(root.path().join(key)));
                fs::write(path, "").unwrap();
            }
            let pair = KeyPair::below(root.path()).unwrap();
            assert_eq!((pair.key, pair.certificate), (root.path().join(key), root.path().join(certificate)));
        }
    }

    #[test]
    fn a_file_that_is_no_certificate_or_not_there_is_told_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert");
        let request = |image| SignRequest {
            image,
            pair: Some(KeyPair { key: path.clone(), certificate: path.clone() }),
            out: folder.path().join("out"),
        };
        assert!(matches!(sign(&request(image(PLAIN))), Err(SignError::Read { .. })));
        fs::write(&path, "no certificate").unwrap();
        assert!(matches!(sign(&request(image(PLAIN))), Err(SignError::Certificate { .. })));
        fs::write(&path, CERTIFICATE).unwrap();
        // Without `sbsign` this cannot be run; with it, the key is none.
        assert!(matches!(
            sign(&request(image(PLAIN))),
            Err(SignError::NoTool { .. } | SignError::Failed { .. })
        ));
        assert!(!folder.path().join("out").exists() && !folder.path().join("out.unfinished").exists());
    }

    #[test]
    fn only_the_image_with_a_signature_by_this_certificate_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let unfinished = Unfinished::create(&folder.path().join("out"), IfExists::Replace).unwrap();
        let certificate = Certificate::parse(CERTIFICATE).unwrap();
        let check = |bytes: &[u8], plain: &[u8]| {
            fs::write(unfinished.path(), bytes).unwrap();
            check(&unfinished, plain, &certificate).is_ok()
        };
        let mut other = PLAIN.to_vec();
        other[1100] ^= 1;
        assert!(check(SIGNED, PLAIN));
        assert!(!check(PLAIN, PLAIN) && !check(SIGNED, &other) && !check(b"", PLAIN));
    }
}
