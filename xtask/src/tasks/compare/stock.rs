//! The contenders that are stock kdump: the dump goes straight to the raw disk, or to a file system if the program
//! needs a file.

use anyhow::Result;

use super::contender::Contender;
use crate::guests::initramfs::Archive;
use crate::guests::kernels::Kernel;
use crate::guests::stock::{self, DISK, SecondUse, UserSpace};
use crate::guests::tool::Tool;
use crate::machines::scenario::capture::Syscall;
use crate::machines::scenario::unit::Iommu;
use crate::machines::scenario::{Codec, Scenario};
use crate::witnesses::Readers;

/// What is loaded for them.
pub(crate) struct Stock {
    kernel: Vec<u8>,
    /// A first user space for each.
    initramfs: Vec<(Contender, Vec<u8>)>,
}

impl Stock {
    /// Reads the kernel and makes all initial RAM file systems.
    pub(crate) fn new(scenario: &Scenario, kernel: &Kernel, tool: &Tool) -> Result<Self> {
        let mut made = Vec::new();
        for contender in Contender::ALL {
            if let Some(initramfs) = initramfs(contender, scenario, kernel, tool)? {
                made.push((contender, initramfs));
            }
        }
        Ok(Self { kernel: stock::image(kernel)?, initramfs: made })
    }

    /// Puts the files where [`load_command`] names them.
    pub(crate) fn add_to(&self, archive: &mut Archive) {
        archive.add("stock/kernel", &self.kernel);
        for (contender, initramfs) in &self.initramfs {
            archive.add(&format!("stock/{}", contender.name()), initramfs);
        }
    }

    /// Bytes that the loader puts into the reservation.
    pub(crate) fn loaded_bytes(&self, contender: Contender) -> u64 {
        let of = self.initramfs.iter().find(|(of, _)| *of == contender);
        (self.kernel.len() + of.map_or(0, |(_, initramfs)| initramfs.len())) as u64
    }
}

/// Runs in the guest.
pub(crate) fn load_command(contender: Contender, iommu: Iommu) -> String {
    stock::load_command(
        Syscall::File,
        (SecondUse::On, iommu),
        "/stock/kernel",
        &format!("/stock/{}", contender.name()),
    )
}

/// A first user space that writes the dump as this contender does; `None` for the one that has no user space.
fn initramfs(
    contender: Contender,
    scenario: &Scenario,
    kernel: &Kernel,
    tool: &Tool,
) -> Result<Option<Vec<u8>>> {
    let user_space = UserSpace::new(scenario.disk_model)?;
    let initramfs = match contender {
        Contender::Holdover(_) => return Ok(None),
        Contender::Makedumpfile(codec) => {
            let readers = Readers::of(scenario.kernel, Codec::Zlib)?;
            user_space.with_makedumpfile(&readers)?.writing(kernel, &makedumpfile(codec))?
        }
        Contender::Makedump(codec) => user_space.with_holdover(tool)?.writing(kernel, &makedump(codec))?,
    };
    Ok(Some(initramfs))
}

fn makedumpfile(codec: Codec) -> String {
    let option = match codec {
        Codec::None => "",
        Codec::Zlib => "-c",
        Codec::Lzo => "-l",
        Codec::Zstd => "-z",
    };
    format!("makedumpfile {option} -d 31 --message-level 4 -f /proc/vmcore {DISK}\n")
}

fn makedump(codec: Codec) -> String {
    let codec = codec.name();
    format!(
        "mount -t ext4 {DISK} /mnt\n\
        holdover makedump -d 31 --codec {codec} /proc/vmcore /mnt/vmcore > /dev/null && umount /mnt\n"
    )
}
