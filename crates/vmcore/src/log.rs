//! The dead kernel's log, as text.
//!
//! Linux keeps its messages in one of two forms, each described by VMCOREINFO (`kernel/printk/printk.c`):
//!
//! | since | form | module |
//! |---|---|---|
//! | 5.10 | a ring of descriptors, and another of texts | `ring` |
//! | 3.5 | one buffer of records of different lengths | `records` |
//!
//! Older kernels keep plain text, which is not read.

mod records;
mod ring;
mod text;

use alloc::vec::Vec;

use machine::OldMemory;

use crate::{AddressSpace, Kernel, Unknown, Unmapped, VmcoreInfo};

use records::Records;
use ring::Ring;
use text::Tail;

/// Most messages that are looked at; each takes at least 32 bytes of the kernel's buffer, so there are fewer in one of up
/// to 32 MiB.
const MOST: u64 = 1 << 20;

/// Where the log is and how its messages are laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogLayout {
    Ring(ring::Layout),
    Records(records::Layout),
}

/// The messages of the dead kernel, as `dmesg` prints them: `[    1.234567] message`, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The lines: printable ASCII, tabs and line feeds. Any other byte of a message is written as `\x1b`.
    pub text: Vec<u8>,
    /// Whether older messages were left out, because the room or the memory did not suffice.
    pub is_cut: bool,
}

/// Why there is no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The kernel does not say where it is, or keeps it in a form older than 3.5's.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// What describes it cannot be read.
    #[error(transparent)]
    Unmapped(#[from] Unmapped),
    /// What describes it cannot be true.
    #[error("the log's {0} makes no sense")]
    Absurd(&'static str),
}

impl Kernel {
    /// Reads the kernel's log; the newest messages, if `room` bytes do not suffice for all.
    ///
    /// The messages are an allegation like all memory of a dead kernel. However they are arranged, reading them ends:
    /// about a million messages are looked at, and no more text than the kernel's buffer has.
    pub fn read_log(&self, memory: &impl OldMemory, room: usize) -> Result<Log, LogError> {
        let (layout, space) = (self.log?, self.address_space()?);
        let place = Place { memory, space };
        let mut tail = Tail::new(room);
        match layout {
            LogLayout::Ring(layout) => Ring::find(place, layout)?.print(&mut tail),
            LogLayout::Records(layout) => Records::find(place, layout)?.print(&mut tail),
        }
        Ok(tail.finish())
    }
}

impl LogLayout {
    /// The newest form that VMCOREINFO gives.
    pub(crate) fn new(info: VmcoreInfo<'_>) -> Result<Self, Unknown> {
        if info.symbol("prb").is_some() {
            return ring::Layout::new(info).map(Self::Ring);
        }
        records::Layout::new(info).map(Self::Records)
    }
}

/// The memory in which the log is.
#[derive(Debug)]
struct Place<'a, M> {
    memory: &'a M,
    space: &'a AddressSpace,
}

impl<M> Clone for Place<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Place<'_, M> {}

impl<M: OldMemory> Place<'_, M> {
    /// Copies bytes from virtual address `base + offset`.
    fn read(&self, base: u64, offset: u64, into: &mut [u8]) -> Result<(), Unmapped> {
        self.space.read(self.memory, base.wrapping_add(offset).into(), into)
    }

    fn read_u32(&self, base: u64, offset: u64) -> Result<u32, Unmapped> {
        let mut bytes = [0; 4];
        self.read(base, offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn read_u64(&self, base: u64, offset: u64) -> Result<u64, Unmapped> {
        self.space.read_u64(self.memory, base.wrapping_add(offset).into())
    }

    /// Prints a message of `len` bytes at virtual address `base + offset`; what cannot be read is left out.
    fn print(&self, tail: &mut Tail, nanoseconds: u64, (base, offset, len): (u64, u64, u64)) {
        let mut buffer = [0; 256];
        let mut line = tail.begin(nanoseconds);
        let mut at = 0;
        while at < len {
            let piece = (len - at).min(buffer.len() as u64);
            let Some(bytes) = buffer.get_mut(..piece as usize) else { break };
            if self.read(base, offset.wrapping_add(at), bytes).is_err() {
                break;
            }
            line.add(bytes);
            at += piece;
        }
        line.end();
    }
}
