//! The contenders: what each loads to take over after the panic, and the lines that show its progress.

use std::fmt;

use handoff::{Completeness, Event};
use serde::{Serialize, Serializer};

use crate::guests::stock;
use crate::machines::console::Line;
use crate::machines::scenario::Codec;

/// A way to get a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Holdover.
    Holdover(Codec),
    /// Stock kdump: Debian's kernel and makedumpfile.
    Makedumpfile(Codec),
    /// Debian's kernel and `holdover makedump`.
    Makedump(Codec),
}

/// The console lines that tell how far the capture kernel is; each comes after the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    /// Its first line.
    pub(crate) started: Mark,
    /// It can begin to look for pages: Holdover has taken over the remapping units, Linux has reached user space.
    pub(crate) ready: Mark,
    /// The whole dump is on the disk.
    pub(crate) complete: Mark,
}

/// How a console line is recognised.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    /// It has this in it.
    Text(&'static str),
    /// Holdover wrote it.
    AnyOfHoldover,
    /// Holdover tells an event by it, one for which this returns true.
    Event(fn(Event) -> bool),
}

impl Mark {
    /// Whether it is this line.
    pub(crate) fn is_on(self, line: &Line) -> bool {
        match self {
            Self::Text(text) => line.text.contains(text),
            Self::AnyOfHoldover => line.holdover().is_some(),
            Self::Event(is_wanted) => line.event().is_some_and(is_wanted),
        }
    }
}

impl Contender {
    /// All, in the order in which they take turns.
    pub(crate) const ALL: [Self; 7] = [
        Self::Holdover(Codec::Zlib),
        Self::Holdover(Codec::Lzo),
        Self::Holdover(Codec::Zstd),
        Self::Makedumpfile(Codec::Zlib),
        Self::Makedump(Codec::Zlib),
        Self::Makedumpfile(Codec::Lzo),
        Self::Makedump(Codec::Lzo),
    ];

    /// Its name in file names.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Holdover(codec) => format!("holdover-{}", codec.name()),
            Self::Makedumpfile(codec) => format!("stock-{}", codec.name()),
            Self::Makedump(codec) => format!("stock-makedump-{}", codec.name()),
        }
    }

    /// Whether it is Holdover, the whole of it.
    pub(crate) fn is_holdover(self) -> bool {
        matches!(self, Self::Holdover(_))
    }

    /// Holdover, compressing as this one does.
    pub(crate) fn opponent(self) -> Self {
        Self::Holdover(self.codec())
    }

    /// How the dump's pages are compressed.
    pub(crate) fn codec(self) -> Codec {
        let (Self::Holdover(codec) | Self::Makedumpfile(codec) | Self::Makedump(codec)) = self;
        codec
    }

    /// The crash reservation that it is given: what Holdover asks for, and what distributions reserve.
    pub(crate) fn reserved_mib(self) -> u64 {
        match self {
            Self::Holdover(_) => 16,
            Self::Makedumpfile(_) | Self::Makedump(_) => stock::RESERVED_MIB,
        }
    }

    /// The lines that are timed.
    pub(crate) fn marks(self) -> Marks {
        match self {
            Self::Holdover(_) => Marks {
                started: Mark::AnyOfHoldover,
                ready: Mark::Event(|event| event == Event::TakeoverDone),
                complete: Mark::Event(|event| {
                    matches!(event, Event::Sealed { completeness: Completeness::Complete, .. })
                }),
            },
            Self::Makedumpfile(_) | Self::Makedump(_) => Marks {
                started: Mark::Text("Linux version "),
                ready: Mark::Text(stock::INIT),
                complete: Mark::Text(stock::COMPLETE),
            },
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::Holdover(codec) => format!("Holdover, {}", codec.name()),
            Self::Makedumpfile(codec) => format!("stock kdump, {}", codec.name()),
            Self::Makedump(codec) => format!("stock kdump, holdover makedump, {}", codec.name()),
        })
    }
}

impl Serialize for Contender {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}
