//! The fallback kernel: usually the distribution's own kernel for crashes, to which the capture kernel hands the machine over where it
//! cannot write the dump itself. It is packed into one file ([`handoff::Fallback`]), which travels as the capture kernel's initramfs.

mod kdump_tools;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use handoff::{BzImage, CommandLineTooLong, Fallback, HandOver, NotBootable};

use crate::config::{Configuration, FallbackSource};
use crate::image;
use crate::lockdown::Lockdown;

/// Memory in which a Linux that makes a dump runs, beside its kernel and its initramfs. Debian's 6.1 amd64, loaded by itself with an initramfs
/// of 19.7 MiB that only runs makedumpfile, ran out of memory in a reservation of 119 MiB and dumped in one of 123: beside the kernel's 63.6 MiB
/// and that initramfs twice it took 20 MiB. With a whole systemd, 6.1 cloud-amd64 ran out of memory where it had 56 MiB: it sets up to 64 MiB
/// aside for bounce buffers (SWIOTLB) where it finds them.
const RUNNING: u64 = 64 << 20;
/// Most bytes of a kernel's image or of an initramfs: no reservation has room for more.
const MOST: u64 = 1 << 30;
/// How an archive begins that is not compressed (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
const CPIO: &[u8] = b"07070";

/// A fallback kernel to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackRequest {
    /// Its image.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initramfs: PathBuf,
    /// Its command line. The capture kernel adds what depends on the crash.
    pub command_line: String,
    /// When the machine is handed over to it.
    pub when: HandOver,
}

/// Why no fallback kernel can be loaded.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum FallbackError {
    /// A file cannot be read.
    #[error("cannot read the fallback kernel's file {}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// A file is empty, or larger than any reservation.
    #[error("the fallback kernel's file {} has {bytes} bytes, and cannot be loaded", file.display())]
    Size {
        /// Which.
        file: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// The kernel cannot be entered after a crash.
    #[error("{} cannot be the fallback kernel: {why}", kernel.display())]
    NotBootable {
        /// The kernel's image.
        kernel: PathBuf,
        /// Why.
        why: NotBootable,
    },
    /// This kernel runs with five levels of page tables, which cannot be turned off on the way to another.
    #[error(
        "{} cannot be the fallback kernel: this kernel runs with five levels of page tables, and that one takes four; start this \
         one with no5lvl, or name another",
        kernel.display()
    )]
    FiveLevels {
        /// The kernel's image.
        kernel: PathBuf,
    },
    /// Its command line is too long.
    #[error("the fallback kernel cannot be loaded: {0}")]
    CommandLine(#[from] CommandLineTooLong),
    /// Nobody would check its signature.
    #[error(
        "this kernel is locked down. It checks the signature of the capture kernel's image; the fallback kernel and its initramfs \
         travel as that one's initramfs, whose signature no kernel checks, so that they are not loaded. Leave the fallback out, or \
         turn Secure Boot off"
    )]
    Unchecked,
    /// There is no memory for a copy of it.
    #[error("cannot pack the fallback kernel")]
    Packing(#[source] io::Error),
}

/// A fallback kernel, ready to be loaded.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The file that is the capture kernel's initramfs.
    pub(crate) file: File,
    /// What it is.
    pub(crate) weighed: Weighed,
}

/// What there is to know of a fallback kernel before it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weighed {
    /// Bytes of the reservation that it needs, beside what the capture kernel keeps: whole mebibytes.
    pub(crate) needed: u64,
    /// Its version, if its image has one.
    pub(crate) version: Option<String>,
}

/// The files of a fallback kernel that can be entered after a crash.
struct Files {
    kernel: Vec<u8>,
    initramfs: Vec<u8>,
    image: BzImage,
}

impl FallbackRequest {
    /// The kernel that this configuration names, on the system whose root folder this is.
    pub fn configured(root: &Path, configuration: &Configuration) -> Option<Self> {
        let FallbackSource::KdumpTools = configuration.fallback?;
        Some(Self::of_kdump_tools(root, configuration.handover))
    }

    /// The kernel that kdump-tools would load on the system whose root folder this is.
    pub fn of_kdump_tools(root: &Path, when: HandOver) -> Self {
        kdump_tools::request(root, when)
    }

    /// The files that it depends on.
    pub(crate) fn files(&self) -> [&Path; 2] {
        [&self.kernel, &self.initramfs]
    }

    /// Reads it. `flags` are the processor's features that the running kernel uses, as `/proc/cpuinfo` has them.
    fn read(&self, lockdown: Lockdown, flags: &str) -> Result<Files, FallbackError> {
        if lockdown.is_on() {
            return Err(FallbackError::Unchecked);
        }
        let (kernel, initramfs) = (read(&self.kernel)?, read(&self.initramfs)?);
        let image = self.parsed(&kernel)?;
        if !image.takes_five_levels() && flags.split_ascii_whitespace().any(|flag| flag == "la57") {
            return Err(FallbackError::FiveLevels { kernel: self.kernel.clone() });
        }
        Ok(Files { kernel, initramfs, image })
    }

    /// Reads and packs it, with the same knowledge as it is weighed. `kept` is what the capture kernel keeps of the reservation, in
    /// bytes.
    pub(crate) fn pack(&self, kept: u64, lockdown: Lockdown, flags: &str) -> Result<Packed, FallbackError> {
        let files = self.read(lockdown, flags)?;
        let fallback = self.described(kept, &files);
        let mut packed = fallback.header()?.to_vec();
        packed.extend(&files.kernel);
        packed.resize(fallback.initramfs().start as usize, 0);
        packed.extend(&files.initramfs);
        let file = image::in_memory(&packed).map_err(FallbackError::Packing)?;
        Ok(Packed { file, weighed: weighed(&fallback, &files) })
    }

    /// Reads it, and says what it needs. `flags` are the processor's features that the running kernel uses, as `/proc/cpuinfo` has them.
    pub(crate) fn weigh(&self, lockdown: Lockdown, flags: &str) -> Result<Weighed, FallbackError> {
        let files = self.read(lockdown, flags)?;
        let fallback = self.described(0, &files);
        fallback.header()?;
        Ok(weighed(&fallback, &files))
    }

    fn described(&self, kept: u64, files: &Files) -> Fallback<'_> {
        let [kernel, initramfs] = [&files.kernel, &files.initramfs].map(|bytes| bytes.len() as u64);
        Fallback { kept, kernel, initramfs, command_line: self.command_line.trim() }
    }

    fn parsed(&self, kernel: &[u8]) -> Result<BzImage, FallbackError> {
        let parsed = match kernel.first_chunk() {
            Some(first) => BzImage::parse(first, kernel.len() as u64),
            None => Err(NotBootable::NotABzImage),
        };
        parsed.map_err(|why| FallbackError::NotBootable { kernel: self.kernel.clone(), why })
    }
}

/// Where kdump-tools write their dumps, on the system whose root folder this is.
pub(crate) fn dumps_of_kdump_tools(root: &Path) -> PathBuf {
    kdump_tools::dumps(root)
}

/// The packed files, the place of the kernel, what its initramfs unpacks to (compressed ones were seen to have a third to a half of
/// that), and what it needs to run.
fn weighed(fallback: &Fallback<'_>, Files { kernel, initramfs, image }: &Files) -> Weighed {
    let unpacked = if initramfs.starts_with(CPIO) { fallback.initramfs } else { 2 * fallback.initramfs };
    let needed = fallback.length() + image.memory() + 2 * image.alignment() + unpacked + RUNNING;
    Weighed { needed: needed.next_multiple_of(1 << 20), version: BzImage::version(kernel).map(str::to_owned) }
}

fn read(path: &Path) -> Result<Vec<u8>, FallbackError> {
    let file = path.to_owned();
    let unreadable = |source| FallbackError::Unreadable { file: path.to_owned(), source };
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).map_err(unreadable)?;
    opened.take(MOST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 {
        length if length == 0 || length > MOST => Err(FallbackError::Size { file, bytes: length }),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of a kernel of 24 KiB and an initramfs of 100 bytes.
    fn request(folder: &Path) -> FallbackRequest {
        let (kernel, initramfs) = (folder.join("vmlinuz"), folder.join("initrd.img"));
        // For four levels of paging.
        let mut image = fixtures::bz_image().to_vec();
        image.resize(24 << 10, 0);
        image[0x236] = 0x43;
        fs::write(&kernel, image).unwrap();
        fs::write(&initramfs, [b'0'; 100]).unwrap();
        FallbackRequest { kernel, initramfs, command_line: " nr_cpus=1\n".into(), when: HandOver::WhenNeeded }
    }

    fn packed(request: &FallbackRequest, flags: &str) -> Result<Packed, FallbackError> {
        request.pack(16 << 20, Lockdown::None, flags)
    }

    #[test]
    fn what_is_packed_is_what_the_capture_kernel_reads() {
        let folder = tempfile::tempdir().unwrap();
        let mut packed = packed(&request(folder.path()), "fpu sse").unwrap();
        let mut bytes = Vec::new();
        packed.file.read_to_end(&mut bytes).unwrap();
        let fallback = Fallback::parse(bytes.first_chunk().unwrap(), bytes.len() as u64).unwrap();
        assert_eq!((fallback.kept, fallback.command_line), (16 << 20, "nr_cpus=1"));
        let part = |range: core::ops::Range<u64>| &bytes[range.start as usize..range.end as usize];
        assert_eq!(part(fallback.kernel()), fs::read(folder.path().join("vmlinuz")).unwrap());
        assert_eq!(part(fallback.initramfs()), [b'0'; 100]);
        let needed = packed.weighed.needed;
        assert!(needed > RUNNING + (3 << 20) && needed.is_multiple_of(1 << 20), "{needed}");
        assert_eq!(request(folder.path()).weigh(Lockdown::None, "").unwrap(), packed.weighed);
    }

    #[test]
    fn what_could_not_be_entered_after_a_crash_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let good = request(folder.path());
        assert!(matches!(packed(&good, "fpu la57"), Err(FallbackError::FiveLevels { .. })));
        let swapped = FallbackRequest { kernel: good.initramfs.clone(), ..good.clone() };
        assert!(matches!(packed(&swapped, ""), Err(FallbackError::NotBootable { .. })));
        let gone = FallbackRequest { initramfs: folder.path().join("gone"), ..good.clone() };
        assert!(matches!(packed(&gone, ""), Err(FallbackError::Unreadable { .. })));
        fs::write(&good.initramfs, "").unwrap();
        assert!(matches!(packed(&good, ""), Err(FallbackError::Size { bytes: 0, .. })));
    }

    #[test]
    fn where_only_checked_kernels_may_run_there_is_no_fallback() {
        let folder = tempfile::tempdir().unwrap();
        let refused = request(folder.path()).pack(0, Lockdown::Integrity, "").unwrap_err().to_string();
        assert!(refused.contains("Leave the fallback out"), "{refused}");
    }
}
