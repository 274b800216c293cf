//! Stock kdump at its best: Debian's own kernel, with a first user space that holds nothing but what writes the dump.
//!
//! What distributions load takes longer: their initial RAM file systems hold a whole init system and many drivers, and they
//! write through a file system.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::contender::Contender;
use crate::initramfs::{self, Archive};
use crate::kernels::Kernel;
use crate::paths;

/// Drivers of the disk that takes the dump.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// What Debian's kdump-tools pass on and append, without what only a whole system needs. Fewer lines on the console save
/// time, but the kernel's first one (a notice) is wanted, as early as it can be had.
const COMMAND_LINE: &str = "console=ttyS0 earlyprintk=ttyS0 loglevel=6 printk.devkmsg=on panic=1 no_timer_check \
    intel_iommu=on reset_devices nr_cpus=1";

/// The files that are loaded.
pub(crate) struct Stock {
    kernel: Vec<u8>,
    zlib: Vec<u8>,
    lzo: Vec<u8>,
}

impl Stock {
    /// Reads the kernel and makes an initial RAM file system for each codec.
    pub(crate) fn new(kernel: &Kernel) -> Result<Self> {
        let image = fs::read(&kernel.image).with_context(|| format!("no {}", kernel.image.display()))?;
        Ok(Self { kernel: image, zlib: initramfs(kernel, "-c")?, lzo: initramfs(kernel, "-l")? })
    }

    /// Puts the files where [`load_command`] names them.
    pub(crate) fn add_to(&self, archive: &mut Archive) {
        archive.add("stock/kernel", &self.kernel);
        archive.add("stock/stock-zlib", &self.zlib);
        archive.add("stock/stock-lzo", &self.lzo);
    }

    /// Bytes that the loader puts into the reservation.
    pub(crate) fn loaded_bytes(&self) -> u64 {
        (self.kernel.len() + self.zlib.len()) as u64
    }
}

/// Runs in the guest.
pub(crate) fn load_command(contender: Contender) -> String {
    let initramfs = contender.name();
    format!("kexec -s -p /stock/kernel --initrd=/stock/{initramfs} --command-line='{COMMAND_LINE}'\n")
}

/// A first user space that writes the dump with this option of makedumpfile.
fn initramfs(kernel: &Kernel, codec: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let init = paths::repository().join("guest/stock-init");
    archive.add("init", &fs::read(&init).with_context(|| format!("no {}", init.display()))?);
    for folder in ["proc", "sys", "dev", "tmp"] {
        archive.add_folder(Path::new(folder));
    }
    archive.copy_program("busybox")?;
    archive.copy_program("makedumpfile")?;
    initramfs::add_modules(&mut archive, kernel, &MODULES)?;
    let quietly = "--message-level 4";
    archive.add(
        "scenario/dump",
        format!("makedumpfile {codec} -d 31 {quietly} -f /proc/vmcore /dev/vda\n").as_bytes(),
    );
    Ok(archive.finish())
}
