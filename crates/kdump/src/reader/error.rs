//! Why something could not be read from a dump.

use machine::BlockError;

use crate::layout::Name;

/// Why something could not be read from a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The device refused or failed.
    #[error(transparent)]
    Device(#[from] BlockError),
    /// The file does not begin like a kdump-compressed dump.
    #[error("not a kdump-compressed dump")]
    NotADump,
    /// The file is a dump of a kind that this reader does not support.
    #[error("kdump-compressed dump with {what} {value}, which is not supported")]
    Unsupported {
        /// Which property.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// It is of a machine whose pages this library does not understand.
    #[error("a dump of an {} machine; only those of x86_64 are read", .0.as_str().escape_debug())]
    ForeignMachine(Name),
    /// It is one of several.
    #[error("one of the files of a split dump: `makedumpfile --reassemble` joins them to one")]
    Split,
    /// A part of the file lies outside it.
    #[error("the {0} lie outside the file")]
    OutOfBounds(&'static str),
    /// The page is not among those that were kept.
    #[error("page frame {0:#x} is not in the dump")]
    NotKept(u64),
    /// The page belongs in the dump, but the dump was cut short before it, or its memory could not be read.
    #[error("page frame {0:#x} is missing from the dump")]
    Missing(u64),
    /// The page is there and is damaged.
    #[error("the data of page frame {0:#x} is damaged")]
    Damaged(u64),
    /// No memory for tables or notes.
    #[error("out of memory")]
    OutOfMemory,
}
