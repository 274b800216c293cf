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

mod printer;
mod records;
mod ring;

use core::convert::Infallible;

use machine::{OldMemory, VirtualAddress};

use crate::{AddressSpace, Kernel, Unknown, Unmapped, VmcoreInfo};

use printer::Printer;
use records::Records;
use ring::Ring;

/// Most messages that are looked at; each takes at least 32 bytes of the kernel's buffer, so there are fewer in one of up
/// to 32 MiB.
const MOST_MESSAGES: u64 = 1 << 20;
/// Most bytes of messages that are printed: more than a dump area has room for. A kernel may be told to keep up to 2 GiB, but by
/// default keeps 1 MiB at most.
const MOST_TEXT: u64 = 4 << 20;

/// Bytes of a message that are copied at a time.
const PIECE: u64 = 256;

/// Where the log is and how its messages are laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogLayout {
    Ring(ring::Layout),
    Records(records::Layout),
}

/// The messages of the dead kernel; the newest 4 MiB of them if there are more.
///
/// They are an allegation like all memory of a dead kernel. However they are arranged, printing them ends: about a million
/// messages are looked at. It takes no memory.
#[derive(Debug)]
pub struct Log<'a, M>(Form<'a, M>);

#[derive(Debug)]
enum Form<'a, M> {
    Ring(Ring<'a, M>),
    Records(Records<'a, M>),
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
    /// Whoever asked for it had no more time.
    #[error("the log takes too long to read")]
    Slow,
}

impl Kernel {
    /// Finds the kernel's log.
    ///
    /// `go_on` is asked before each of up to a million messages, and says whether there is more time. If not, the log is what was
    /// looked at by then: its newest messages. (Of a kernel before 5.10, which is read from the oldest on, there is none.)
    pub fn log<'a, M: OldMemory>(
        &'a self,
        memory: &'a M,
        go_on: impl FnMut() -> bool,
    ) -> Result<Log<'a, M>, LogError> {
        let (layout, space) = (self.log?, self.address_space()?);
        let place = Place { memory, space };
        Ok(Log(match layout {
            LogLayout::Ring(layout) => Form::Ring(Ring::find(place, layout, go_on)?),
            LogLayout::Records(layout) => Form::Records(Records::find(place, layout, go_on)?),
        }))
    }
}

impl<M: OldMemory> Log<'_, M> {
    /// How many bytes [`print`](Self::print) gives, unless the memory still changes.
    pub fn len(&self) -> u64 {
        let mut len = 0;
        let Ok(()) = self.print(|text| -> Result<(), Infallible> {
            len += text.len() as u64;
            Ok(())
        });
        len
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Prints the messages as `dmesg` does, from the oldest to the newest: `[    1.234567] message`, with the time before each
    /// line of a message that has several.
    ///
    /// `write` is given pieces of the text: printable ASCII, tabs and line feeds. Any other byte of a message, which may be a
    /// command to a terminal, is printed as `\x1b`. The first error of `write` ends this.
    pub fn print<E>(&self, write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut printer = Printer::new(write);
        match &self.0 {
            Form::Ring(ring) => ring.print(&mut printer)?,
            Form::Records(records) => records.print(&mut printer)?,
        }
        printer.finish()
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

/// A message: when it was printed, in nanoseconds since the kernel's start, and where its text is.
#[derive(Clone, Copy, Debug)]
struct Message {
    time: u64,
    text: VirtualAddress,
    len: u64,
}

impl<M: OldMemory> Place<'_, M> {
    /// Copies bytes from virtual address `base + offset`.
    fn read(&self, base: u64, offset: u64, into: &mut [u8]) -> Result<(), Unmapped> {
        self.space.read(self.memory, base.wrapping_add(offset).into(), into)
    }

    fn read_u32(&self, address: u64) -> Result<u32, Unmapped> {
        let mut bytes = [0; 4];
        self.read(address, 0, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn read_u64(&self, base: u64, offset: u64) -> Result<u64, Unmapped> {
        self.space.read_u64(self.memory, base.wrapping_add(offset).into())
    }

    /// Prints a message up to the first byte that cannot be read.
    fn print<E, W>(&self, message: Message, printer: &mut Printer<W>) -> Result<(), E>
    where
        W: FnMut(&[u8]) -> Result<(), E>,
    {
        let mut buffer = [0; PIECE as usize];
        printer.begin(message.time)?;
        for at in (0..message.len).step_by(PIECE as usize) {
            let len = (message.len - at).min(PIECE);
            let piece = buffer.get_mut(..len as usize).unwrap_or_default();
            if self.read(message.text.get(), at, piece).is_err() {
                break;
            }
            printer.add(piece)?;
        }
        printer.end()
    }
}
