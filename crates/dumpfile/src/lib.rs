//! Crash dumps as files of the host.
//!
//! [`Core`] is an ELF core such as `/proc/vmcore`: a whole machine's memory. [`Dump`] is either such a core or a
//! kdump-compressed dump, whatever the file turns out to be, for those who only want to know what it says.

#![forbid(unsafe_code)]

mod core;
mod dump;
mod view;

pub use crate::core::Core;
pub use crate::dump::{Dump, Format};
pub use crate::view::FileView;

/// Why a dump could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The host's file system refused or failed.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// It begins like neither kind of dump.
    #[error("neither an ELF core of an x86-64 kernel nor a kdump-compressed dump")]
    NotADump,
    /// It is a kdump-compressed dump, where an ELF core was asked for.
    #[error("it is a kdump-compressed dump already, and no ELF core")]
    Compressed,
    /// It begins like an ELF core and ends within its headers.
    #[error("the core was cut short: not even its headers are within its {len} bytes")]
    HeaderCut {
        /// How many bytes it has.
        len: u64,
    },
    /// It begins like an ELF core and is none that can be read.
    #[error(transparent)]
    Core(#[from] vmcore::HeaderError),
    /// It begins like a kdump-compressed dump and is none that can be read, or the page is not there.
    #[error(transparent)]
    Kdump(#[from] kdump::ReadError),
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
