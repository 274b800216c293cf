//! Files of the host behind the traits of `machine`: crash dumps, and block devices.
//!
//! [`Dump`] is a dead kernel's memory together with what the dump's headers say of it. The file may be an ELF core,
//! such as `/proc/vmcore`, or a kdump-compressed dump, flattened or not. [`BlockFile`] is a file or a disk as a block
//! device, for example a disk with a dump area.
//!
//! Files that the kernel provides, such as `/proc/vmcore`, are read through mapped windows. The module that maps them
//! is the only one with `unsafe`.

#![deny(unsafe_code)]

mod blockfile;
mod compressed;
mod core;
mod dump;
mod flattened;
mod holes;
mod search;
mod view;
mod window;

pub use crate::blockfile::BlockFile;
pub use crate::dump::{Dump, Format, Lack};
pub use crate::holes::next_data;
use crate::view::FileView;

/// Why a dump could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The host's file system refused or failed.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// It is compressed as a whole.
    #[error("a {0} file: unpack it first")]
    Packed(&'static str),
    /// It is an ELF file and no core.
    #[error("an ELF file that is no core of a kernel")]
    NoCore,
    /// It is a core of another kind of machine.
    #[error("an ELF core of an {0} machine; only those of x86-64 kernels are read")]
    ForeignCore(&'static str),
    /// It begins like neither kind of dump.
    #[error("neither an ELF core of an x86-64 kernel nor a kdump-compressed dump")]
    NotADump,
    /// It begins like a flattened file, and its records cannot be followed.
    #[error("flattened file whose record at byte {at} is damaged")]
    BadRecord {
        /// Offset of the record.
        at: u64,
    },
    /// The last records of a flattened file are missing, and nothing can be read without them.
    #[error("the flattened file was cut short, and cannot be read without what is missing: {0}")]
    RecordsCut(Box<DumpError>),
    /// It begins like a dump and ends within its headers.
    #[error("the dump was cut short: not even its headers are within its {len} bytes")]
    HeaderCut {
        /// How many bytes it has.
        len: u64,
    },
    /// It begins like an ELF core, but cannot be read as one.
    #[error(transparent)]
    Core(#[from] vmcore::HeaderError),
    /// It begins like a kdump-compressed dump, but cannot be read as one, or the page is not there.
    #[error(transparent)]
    Kdump(#[from] kdump::ReadError),
    /// Its first bitmap makes no sense.
    #[error("its RAM is in more pieces than that of any machine")]
    Scattered,
    /// The page is not in the core.
    #[error(transparent)]
    Unreadable(#[from] machine::Unreadable),
    /// There is no memory for its tables.
    #[error("out of memory")]
    OutOfMemory,
}

impl From<vmcore::OutOfMemory> for DumpError {
    fn from(_: vmcore::OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<std::collections::TryReserveError> for DumpError {
    fn from(_: std::collections::TryReserveError) -> Self {
        Self::OutOfMemory
    }
}
