//! File systems in which the dump goes to a file.

use clap::ValueEnum;
use serde::Serialize;

/// A file system on the dump's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileSystem {
    /// Linux's usual one.
    Ext4,
    /// The one of Red Hat.
    Xfs,
    /// The one of SUSE, which gives addresses of a space of its own.
    Btrfs,
}

/// Where the guest mounts it.
const MOUNTED: &str = "/mnt";

impl FileSystem {
    /// The file that is the area, in the guest.
    pub(crate) const AREA: &str = "/mnt/area";

    /// The name by which it is mounted.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The command that makes it on the disk image whose path follows.
    pub(crate) fn make(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["mkfs.ext4", "-q", "-F"],
            Self::Xfs => &["mkfs.xfs", "-q"],
            Self::Btrfs => &["mkfs.btrfs", "-q", "--data", "single"],
        }
    }

    /// The command that checks it on the disk image whose path follows, and changes nothing.
    pub(crate) fn check(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["e2fsck", "-f", "-n"],
            Self::Xfs => &["xfs_repair", "-n"],
            Self::Btrfs => &["btrfs", "check", "--readonly"],
        }
    }

    /// Programs that the guest needs for it.
    pub(crate) fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 | Self::Xfs => &[],
            Self::Btrfs => &["btrfs"],
        }
    }

    /// What the guest does before it loads: it makes the area, and other files before and behind it.
    pub(crate) fn prepare(self) -> String {
        let (name, area) = (self.name(), Self::AREA);
        format!(
            "mkdir -p {MOUNTED}; mount -t {name} /dev/vda {MOUNTED}\n\
             dd if=/dev/urandom of={MOUNTED}/before bs=1M count=8 2> /dev/null; sync\n\
             holdover format {area} --size 80M\n\
             dd if=/dev/urandom of={MOUNTED}/behind bs=1M count=8 2> /dev/null\n\
             (cd {MOUNTED} && sha256sum before behind > sums); sync\n"
        )
    }
}
