//! The disk that should take the dump: what is on it, and how fast it takes what is written.

use clap::ValueEnum;
use serde::Serialize;

use super::device::DiskTrouble;
use super::events::End;
use super::file_system::FileSystem;
use super::{Display, Scenario};

/// The disk that should take the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Disk {
    /// Carries Holdover's label and is large enough.
    Labelled,
    /// Carries the label, but the dump does not fit.
    TooSmall,
    /// Carries the label; the pages that readers need fit, the dump of a machine of several GiB does not.
    Tight,
    /// Carries the label; a dump of level 31 fits, one of level 1 does not.
    TooSmallForLevel,
    /// Carries another label than the one that was named when Holdover was loaded.
    OtherLabel,
    /// Carries the second of two labels that were named; no disk carries the first.
    AfterMissing,
    /// Carries the second of two labels that were named; the first is on a disk that refuses writes in the middle of the dump.
    AfterFailing,
    /// Has an ext4 file system with a file that is the area.
    FileExt4,
    /// Has an xfs file system with such a file.
    FileXfs,
    /// Has a btrfs file system with such a file.
    FileBtrfs,
    /// Has a partition, from [`Disk::PART`] on, that is the area.
    Partition,
    /// Has the area at the same place, to which Linux gives a device of its own, as to an LVM volume of one piece.
    Volume,
    /// Carries the label, and the dump of a panic before this one, which nobody has collected.
    HoldsDump,
}

impl Disk {
    /// Byte at which a partition or a volume begins.
    pub(crate) const PART: u64 = 1 << 20;
    /// The device of a volume in the guest.
    pub(crate) const VOLUME: &str = "/dev/dm-0";

    /// Byte at which the area begins, unless it is a file.
    pub(crate) fn area_start(self) -> u64 {
        if matches!(self, Self::Partition | Self::Volume) { Self::PART } else { 0 }
    }

    /// What the guest does first if the area is on a volume.
    pub(crate) fn map_volume(self) -> String {
        if self != Self::Volume {
            return String::new();
        }
        format!(
            "disk=/dev/vda; DM_DISABLE_UDEV=1 dmsetup create area --table \"0 $(($(blockdev --getsz $disk) - {start})) linear $disk {start}\"\n",
            start = Self::PART / 512
        )
    }

    /// The file system in which the area is a file, if it is one.
    pub(crate) fn file_system(self) -> Option<FileSystem> {
        match self {
            Self::FileExt4 => Some(FileSystem::Ext4),
            Self::FileXfs => Some(FileSystem::Xfs),
            Self::FileBtrfs => Some(FileSystem::Btrfs),
            _ => None,
        }
    }
}

/// A dump at this rate takes longer than the bench's watchdogs wait.
const WATCHED_RATE: u32 = 2_000_000;
/// A dump at this rate is sealed some times on the way.
const RECORDED_RATE: u32 = 6_000_000;
/// A dump at this rate goes on for seconds after each event that the bench waits for: the bench may be late.
const INTERRUPTED_RATE: u32 = 3_000_000;

impl Scenario {
    /// Bytes per second that the dump's disk takes, if it is not as fast as the host makes it. It must be slow for something to
    /// happen in the middle of the dump.
    pub(crate) fn dump_rate(&self) -> Option<u32> {
        if self.watchdog.is_some() {
            return Some(WATCHED_RATE);
        }
        if self.end == End::Recorded {
            return Some(RECORDED_RATE);
        }
        if self.display == Display::Vga && self.end == End::Reset {
            return Some(INTERRUPTED_RATE);
        }
        let ends = [End::PowerCut, End::PowerCutAfterLog, End::DiskGoneAfterLog].contains(&self.end);
        let hangs = self.disk_trouble == Some(DiskTrouble::Hang);
        if ends || hangs || self.machine_check.is_some() {
            return Some(INTERRUPTED_RATE);
        }
        self.disk_rate
    }
}
