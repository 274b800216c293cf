//! Stock kdump: Debian's own kernel as crash kernel, with an initial RAM file system that holds only what writes the
//! dump.
//!
//! The initial RAM file systems that distributions load take longer: they hold a whole init system and many drivers.

use std::path::Path;
use std::process::Command;
use std::{fs, iter};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;

use crate::guests::initramfs::{self, Archive, FIND_DISK};
use crate::guests::kernels::{Flavour, Kernel};
use crate::guests::target::Target;
use crate::guests::tool::Tool;
use crate::machines::files::Files;
use crate::machines::scenario::capture::Syscall;
use crate::machines::scenario::device::DiskModel;
use crate::machines::scenario::unit::Iommu;
use crate::process;
use crate::witnesses::Readers;

/// MiB of memory that it is given: the least that distributions reserve.
pub(crate) const RESERVED_MIB: u64 = 256;

/// The line with which its init begins.
pub(crate) const INIT: &str = "bench: crash kernel's init";

/// The line with which its init tells that the dump is on the disk.
pub(crate) const COMPLETE: &str = "bench: dump complete";

/// The line with which it tells that the first of its dumps is where it belongs.
pub(crate) const FIRST_DUMP: &str = "bench: first dump complete";

/// The beginning of the line with which its init tells how much memory it has, in KiB.
pub(crate) const MEMORY: &str = "crash kernel's memory ";

/// What its init calls the disk that takes the dump.
pub(crate) const DISK: &str = "/dev/dump";

/// The driver of [`make_file_system`]'s file system.
pub(crate) const FILE_SYSTEM: &str = "ext4";
/// What that driver asks for, but only by name; newer kernels have it in themselves.
const CHECKSUMS: &str = "crc32c_generic";

/// What Debian's kdump-tools pass on and append, without what only a whole system needs. Fewer lines on the console save
/// time, but the kernel's first one (a notice) is wanted, as early as it can be had.
const COMMAND_LINE: &str = "console=ttyS0 earlyprintk=ttyS0 loglevel=6 printk.devkmsg=on panic=1 no_timer_check \
    reset_devices nr_cpus=1";

/// How the crash kernel is told to use the remapping unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SecondUse {
    /// As most distributions' kernels do by themselves, or are told to.
    On,
    /// Devices pass through.
    PassThrough,
    /// Not at all.
    Off,
    /// In legacy mode, also where the unit has scalable mode, which newer kernels use by themselves.
    Legacy,
}

impl SecondUse {
    /// A unit of AMD's that is there is used without being asked for.
    fn options(self, iommu: Iommu) -> &'static str {
        match (self, iommu) {
            (Self::On, Iommu::Intel) => "intel_iommu=on",
            (Self::PassThrough, Iommu::Intel) => "intel_iommu=on iommu=pt",
            (Self::Off, Iommu::Intel) => "intel_iommu=off",
            (Self::Legacy, Iommu::Intel) => "intel_iommu=on,sm_off",
            (Self::On | Self::Legacy, Iommu::Amd) => "iommu.passthrough=0",
            (Self::PassThrough, Iommu::Amd) => "iommu=pt",
            (Self::Off, Iommu::Amd) => "amd_iommu=off",
        }
    }

    /// The crash kernel's command line.
    fn command_line(self, iommu: Iommu) -> String {
        format!("{COMMAND_LINE} {}", self.options(iommu))
    }
}

/// Runs in the guest: by this system call, loads a kernel and a first user space that lie there under these names.
pub(crate) fn load_command(
    syscall: Syscall,
    (second, iommu): (SecondUse, Iommu),
    kernel: &str,
    initramfs: &str,
) -> String {
    let (letter, line) = (syscall.letter(), second.command_line(iommu));
    format!("kexec -{letter} -p {kernel} --initrd={initramfs} --command-line='{line}'\n")
}

/// The options with which `holdover load` makes that kernel the fallback.
pub(crate) fn fallback_options((second, iommu): (SecondUse, Iommu), kernel: &str, initramfs: &str) -> String {
    format!("--fallback {kernel} {initramfs} '{}'", second.command_line(iommu))
}

/// A first user space under construction.
pub(crate) struct UserSpace {
    archive: Archive,
    modules: Vec<&'static str>,
}

impl UserSpace {
    /// One that starts the disk, and has no program yet that could write a dump.
    pub(crate) fn new(disk: DiskModel) -> Result<Self> {
        let mut archive = Archive::default();
        archive.add("init", &initramfs::guest_file("stock-init")?);
        archive.add(FIND_DISK, &initramfs::guest_file("find-disk")?);
        archive.add("scenario/disk", disk.disk_in_linux().as_bytes());
        let modules = iter::once("virtio_pci").chain(disk.modules().iter().copied()).collect();
        for folder in ["proc", "sys", "dev", "tmp", "mnt"] {
            archive.add_folder(Path::new(folder));
        }
        archive.copy_program("busybox")?;
        Ok(Self { archive, modules })
    }

    /// Adds makedumpfile.
    pub(crate) fn with_makedumpfile(mut self, readers: &Readers) -> Result<Self> {
        readers.add_makedumpfile(&mut self.archive)?;
        Ok(self)
    }

    /// Adds Holdover's command line, and the file system to which it writes.
    pub(crate) fn with_holdover(mut self, tool: &Tool) -> Result<Self> {
        tool.add_to(&mut self.archive)?;
        self.modules.push(FILE_SYSTEM);
        Ok(self)
    }

    /// Adds what takes the dumps to their target.
    pub(crate) fn with_target(mut self, target: Target, kernel: Flavour, files: &Files) -> Result<Self> {
        self.modules.extend(target.add_to(&mut self.archive, kernel, files)?);
        Ok(self)
    }

    /// The archive of one that writes the dump with these commands.
    pub(crate) fn writing(mut self, kernel: &Kernel, commands: &str) -> Result<Vec<u8>> {
        if initramfs::has_module(kernel, CHECKSUMS)? {
            self.modules.push(CHECKSUMS);
        }
        initramfs::add_modules(&mut self.archive, kernel, &self.modules)?;
        self.archive.add("scenario/dump", commands.as_bytes());
        Ok(self.archive.finish())
    }
}

/// Makes a file system for dumps on a disk image.
pub(crate) fn make_file_system(disk: &Path) -> Result<()> {
    let mut make = Command::new("/sbin/mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=0"]).arg(disk);
    process::stdout(&mut make).map(|_| ())
}

/// Copies a file of that name out of such a file system.
pub(crate) fn take_file(disk: &Path, name: &str, to: &Path) -> Result<()> {
    let request = format!("dump /{name} {}", to.display());
    process::stdout(Command::new("/sbin/debugfs").args(["-R", &request]).arg(disk))?;
    let size = to.metadata().map_or(0, |file| file.len());
    ensure!(size > 0, "the crash kernel's disk has no {name}");
    Ok(())
}

/// The kernel's image, as `kexec` takes it.
pub(crate) fn image(kernel: &Kernel) -> Result<Vec<u8>> {
    fs::read(&kernel.image).with_context(|| format!("no {}", kernel.image.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::PathBuf;

    use super::*;

    /// A disk image with a file system on it.
    fn disk(folder: &tempfile::TempDir) -> PathBuf {
        let disk = folder.path().join("disk");
        File::create(&disk).unwrap().set_len(4 << 20).unwrap();
        make_file_system(&disk).unwrap();
        disk
    }

    #[test]
    fn a_file_comes_back_out_of_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, file) = (disk(&folder), folder.path().join("file"));
        fs::write(&file, "content").unwrap();
        let mut write = Command::new("/sbin/debugfs");
        write.args(["-w", "-R", &format!("write {} vmcore", file.display())]).arg(&disk);
        process::stdout(&mut write).unwrap();
        let back = folder.path().join("back");
        take_file(&disk, "vmcore", &back).unwrap();
        assert_eq!(fs::read(back).unwrap(), b"content");
    }

    #[test]
    fn a_file_that_is_not_in_the_file_system_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(take_file(&disk(&folder), "vmcore", &folder.path().join("back")).is_err());
    }
}
