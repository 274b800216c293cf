//! Why a file cannot be a dump area, or is none any more.

use std::io;
use std::path::PathBuf;

use area::{FormatError as AreaFormatError, OpenError};
use machine::BlockError;

use crate::areas::error::is_failure;
use crate::sysfs::SysfsError;

/// Why a file cannot be a dump area, or is none any more.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum FileError {
    /// It cannot be opened, made or written.
    #[error("cannot use {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// There is one already.
    #[error("there is {path} already; `--force` replaces it")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Its name cannot be written into a list of names.
    #[error(
        "{path:?} cannot be a dump area: the list of areas in /var/lib/holdover has a name on each line; name a file whose path is text, without \
         line breaks, such as `/var/lib/holdover/area`"
    )]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// The requested size is odd.
    #[error("the size must be a multiple of 1 MiB; name one such as `--size 2G`")]
    Size,
    /// The list of mounts cannot be read.
    #[error("cannot list mounts; is /proc mounted?")]
    NoMounts(#[source] io::Error),
    /// The file system is another.
    #[error("{path} is on {kind}; a dump area can be a file on ext4, xfs or btrfs")]
    FileSystem {
        /// The file.
        path: PathBuf,
        /// The file system's name.
        kind: String,
    },
    /// The file system's disk cannot be found, or cannot be used.
    #[error(transparent)]
    Disk(#[from] SysfsError),
    /// The disk must be written in order.
    #[error(
        "{disk} is a zoned disk, whose blocks cannot be written in place; use another one: `lsblk` lists the disks"
    )]
    Zoned {
        /// The kernel's name of the disk.
        disk: String,
    },
    /// After a crash, ext4's journal would be written over the dump.
    #[error(
        "ext4 writes the content of {path} through its journal, and would write old content over a dump after the crash; mount the file system without data=journal, or take the attribute off with `chattr -j {path}`"
    )]
    Journaled {
        /// The file.
        path: PathBuf,
    },
    /// The file system does not say where the file is.
    #[error(
        "the file system does not say where the file's blocks are; use another one, or a partition: `holdover format DEVICE`"
    )]
    Map(#[source] io::Error),
    /// A part of the file has no blocks.
    #[error(
        "the file has a hole at byte {at}, and a dump needs all its blocks; `holdover format --force FILE --size 2G` makes it anew"
    )]
    Hole {
        /// Where.
        at: u64,
    },
    /// Blocks cannot be written without harm, or would not be found again.
    #[error(
        "blocks of the file at byte {at} are {words}: a dump would harm others, or not be found; `holdover format FILE --size 2G` makes one on a \
         file system that does none of this, outside of snapshots"
    )]
    Unusable {
        /// Where in the file.
        at: u64,
        /// What they are.
        words: &'static str,
    },
    /// There is no program to read btrfs' chunk tree.
    #[error("cannot run btrfs; the package btrfs-progs has it")]
    NoBtrfs(#[source] io::Error),
    /// The program failed, or says something else than expected.
    #[error(
        "btrfs does not say where the file's blocks are: {said}; try `btrfs inspect-internal dump-tree -t chunk DEVICE` by hand"
    )]
    Btrfs {
        /// What it said.
        said: String,
    },
    /// btrfs is on several devices.
    #[error("the btrfs file system is on several devices; use one that is on one")]
    SeveralDevices,
    /// btrfs keeps the blocks twice, or in stripes.
    #[error(
        "btrfs keeps the file's blocks more than once or in stripes; use a file system with the data profile `single`"
    )]
    Profile,
    /// btrfs' chunk tree has no such address.
    #[error(
        "btrfs has no chunk for address {logical:#x}; `btrfs check` on the unmounted file system says whether it is damaged"
    )]
    NoChunk {
        /// The address in its address space.
        logical: u64,
    },
    /// There is no program to pin the file.
    #[error("cannot run swapon; the package mount or util-linux has it")]
    NoSwapon(#[source] io::Error),
    /// The file cannot be pinned.
    #[error(
        "{path} cannot be kept in its place as swap space ({said}); where a file system takes no swap files, use another, or a partition: \
         `holdover format DEVICE`"
    )]
    Pin {
        /// The file.
        path: PathBuf,
        /// What swapon said.
        said: String,
    },
    /// Nothing keeps the file in its place.
    #[error("nothing keeps {path} in its place, as after a boot; `holdover load` does")]
    Unpinned {
        /// The file.
        path: PathBuf,
    },
    /// The file is not where it was when it was formatted.
    #[error(
        "{path} has moved on its disk since it was formatted; collect its dump, if there is one, and make it anew with \
         `holdover format --force {path} --size SIZE`"
    )]
    Moved {
        /// The file.
        path: PathBuf,
    },
    /// The extents cannot be an area.
    #[error("cannot format {path}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: AreaFormatError,
    },
    /// The labels are not on the disk.
    #[error(
        "the labels of {path} cannot be read back from {disk}: {reason}; a disk that keeps writes elsewhere takes no dump in a file: use a \
         partition, by `holdover format DEVICE`"
    )]
    NotReadBack {
        /// The file.
        path: PathBuf,
        /// The disk.
        disk: PathBuf,
        /// What is wrong.
        reason: OpenError,
    },
    /// Its labels cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: BlockError,
    },
    /// Its labels cannot be erased. The file is still there.
    #[error(
        "the labels in {path} cannot be erased, and the file was not removed; mend that, and run `holdover remove {path}` again"
    )]
    Erase {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: BlockError,
    },
    /// The kernel gives no random UUID, or no time.
    #[error("{0}")]
    Label(String),
}

impl FileError {
    /// Whether the file's blocks are no longer those that were labelled, or not the file's alone.
    pub(crate) const fn is_another_place(&self) -> bool {
        match self {
            Self::NotReadBack { reason, .. } => !is_failure(reason),
            // The last three: punched out, shared with a snapshot, and moved to a chunk that is kept twice.
            Self::Moved { .. } | Self::Hole { .. } | Self::Unusable { .. } | Self::Profile => true,
            _ => false,
        }
    }
}
