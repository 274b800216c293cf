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

/// What happens to the file that is the area after Holdover was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FileFate {
    /// Nothing.
    Untouched,
    /// An administrator tries to remove, rename, cut, overwrite, share and defragment it. Linux refuses, or leaves the
    /// file in its place, while it is pinned.
    Tried,
    /// Its pin is taken off, which `holdover verify` puts back; then it is moved as well, and `verify` unloads. It is made anew.
    Moved,
    /// Its pin is taken off, it is removed, and other files take its blocks. Nobody asks `verify`.
    Replaced,
}

/// Runs its arguments, and says whether they were done.
const TRY: &str = "try() { \"$@\" > /dev/null 2>&1 && echo \"done: $1\" || echo \"refused: $1\"; }\n";

impl FileFate {
    /// Programs that the guest needs for it.
    pub(crate) fn programs(self, system: FileSystem) -> &'static [&'static str] {
        match (self, system) {
            (Self::Tried, FileSystem::Ext4) => &["e4defrag"],
            (Self::Tried, FileSystem::Xfs) => &["xfs_fsr", "cp"],
            (Self::Tried, FileSystem::Btrfs) => &["cp"],
            _ => &[],
        }
    }

    /// What the guest does after it has loaded with the command `load`. `xfs_fsr` says that it is done, whether it moved anything or not;
    /// `verify` finds out.
    pub(crate) fn after(self, system: FileSystem, load: &str) -> String {
        let area = FileSystem::AREA;
        match self {
            Self::Untouched => String::new(),
            Self::Tried => {
                let more = match system {
                    FileSystem::Ext4 => format!("try e4defrag {area}\n"),
                    FileSystem::Xfs => {
                        format!("try cp --reflink=always {area} {MOUNTED}/shared\ntry xfs_fsr -v {area}\n")
                    }
                    FileSystem::Btrfs => format!(
                        "try cp --reflink=always {area} {MOUNTED}/shared\n\
                         try btrfs subvolume snapshot {MOUNTED} {MOUNTED}/snapshot\n\
                         btrfs filesystem defragment -f {area}; btrfs balance start --full-balance {MOUNTED}\n"
                    ),
                };
                format!(
                    "{TRY}try rm -f {area}\ntry mv {area} {MOUNTED}/moved\ntry truncate -s 1M {area}\n\
                     try dd if=/dev/zero of={area} bs=4k count=1 conv=notrunc\n{more}sync\n\
                     holdover verify\necho \"verified: $?\"\n"
                )
            }
            Self::Moved => format!(
                "swapoff {area}; holdover verify; echo \"loose: $?\"\n\
                 holdover verify --repair; echo \"repaired: $?\"\n\
                 holdover remove {area}\n\
                 swapoff {area}; cp {area} {MOUNTED}/copy; sync; mv {MOUNTED}/copy {area}; sync\n\
                 holdover doctor | grep 'dump area'\n\
                 holdover verify --repair; echo \"moved: $? loaded: $(cat /sys/kernel/kexec_crash_loaded)\"\n\
                 {load}\n\
                 holdover remove {area}; echo \"removed: $?\"\n\
                 holdover format {area} --size 80M; sync\n{load}\n"
            ),
            // A file that is as large as the rest of the disk takes the blocks; ext4 gives them once the change is in its journal.
            Self::Replaced => format!(
                "fallocate -l 320M {MOUNTED}/ballast; swapoff {area}; rm {area}; sync; sleep 1; sync\n\
                 dd if=/dev/zero of={MOUNTED}/after bs=1M 2> /dev/null; sync\n\
                 (cd {MOUNTED} && sha256sum after >> sums); sync\n\
                 holdover doctor | grep 'dump area'\n"
            ),
        }
    }
}
