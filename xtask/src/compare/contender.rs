//! Who is compared: what is loaded to take over after the panic, and by which lines one sees how far it is.

use std::fmt;

use serde::Serialize;

/// A way to get a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// Holdover, zlib.
    Holdover,
    /// Debian's kernel and makedumpfile, zlib.
    StockZlib,
    /// Debian's kernel and makedumpfile, LZO.
    StockLzo,
}

/// Parts of the console lines that tell how far the capture kernel is; each comes after the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    /// Its first line.
    pub(crate) started: &'static str,
    /// It can begin to look for pages: Holdover has taken over the remapping units, Linux has reached user space.
    pub(crate) ready: &'static str,
    /// The whole dump is on the disk.
    pub(crate) complete: &'static str,
}

impl Contender {
    /// All, in the order in which they take turns.
    pub(crate) const ALL: [Self; 3] = [Self::Holdover, Self::StockZlib, Self::StockLzo];

    /// Its name in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Holdover => "holdover",
            Self::StockZlib => "stock-zlib",
            Self::StockLzo => "stock-lzo",
        }
    }

    /// The crash reservation that it is given: what Holdover asks for, and the least that distributions reserve.
    pub(crate) fn reserved_mib(self) -> u64 {
        match self {
            Self::Holdover => 16,
            Self::StockZlib | Self::StockLzo => 256,
        }
    }

    /// The lines that are timed.
    pub(crate) fn marks(self) -> Marks {
        match self {
            Self::Holdover => {
                Marks { started: "holdover: [", ready: "] takeover done", complete: "] sealed complete" }
            }
            Self::StockZlib | Self::StockLzo => Marks {
                started: "Linux version ",
                ready: "bench: crash kernel's init",
                complete: "bench: dump complete",
            },
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Holdover => "Holdover, zlib",
            Self::StockZlib => "stock kdump, zlib",
            Self::StockLzo => "stock kdump, lzo",
        })
    }
}
