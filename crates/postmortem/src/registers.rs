//! A processor's registers: as its crash note has them, and as an interrupt leaves them on a stack.

use machine::OldMemory;

use crate::view::View;

/// Registers that are needed to unwind a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    /// `None` where only the processor's own frame is known.
    pub(crate) others: Option<Others>,
    /// The code segment; its lowest two bits are the privilege level.
    pub(crate) cs: u64,
}

/// Registers that a frame may be counted from besides the stack pointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Others {
    pub(crate) bp: u64,
    pub(crate) r10: u64,
    pub(crate) r13: u64,
    pub(crate) di: u64,
    pub(crate) dx: u64,
    pub(crate) ax: u64,
}

/// Bytes of `struct pt_regs` (`arch/x86/include/asm/ptrace.h`); the last five words are the processor's own frame.
pub(crate) const SAVED: usize = 21 * 8;
/// Bytes before the processor's own frame.
const BEFORE_FRAME: u64 = 16 * 8;
/// Where `struct elf_prstatus` has its registers, in the order of `struct pt_regs`.
const IN_NOTE: usize = 112;
/// Where it has the id of the task.
const PID_IN_NOTE: usize = 32;

/// What the note `NT_PRSTATUS` of a processor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) pid: u32,
    pub(crate) registers: Registers,
}

impl Status {
    /// Reads the content of a note.
    pub(crate) fn parse(content: &[u8]) -> Option<Self> {
        let pid = u32::from_le_bytes(*content.get(PID_IN_NOTE..)?.first_chunk()?);
        let registers = Registers::parse(content.get(IN_NOTE..)?.first_chunk()?);
        Some(Self { pid, registers })
    }
}

impl Registers {
    /// Whether the processor was running a program, not the kernel.
    pub(crate) fn is_user(&self) -> bool {
        self.cs & 3 != 0
    }

    /// All registers that an interrupt saved.
    pub(crate) fn parse(saved: &[u8; SAVED]) -> Self {
        let word = |at: usize| saved[at * 8..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        let others =
            Others { bp: word(4), r10: word(7), r13: word(2), di: word(14), dx: word(12), ax: word(10) };
        Self { ip: word(16), cs: word(17), sp: word(19), others: Some(others) }
    }

    /// All registers, saved at this address.
    pub(crate) fn read<M: OldMemory>(view: &View<'_, M>, address: u64) -> Option<Self> {
        view.array(address).map(|saved| Self::parse(&saved))
    }

    /// The processor's own frame, which is at this address.
    pub(crate) fn read_frame<M: OldMemory>(view: &View<'_, M>, address: u64) -> Option<Self> {
        let mut saved = [0; SAVED];
        view.read(address, &mut saved[BEFORE_FRAME as usize..])?;
        Some(Self { others: None, ..Self::parse(&saved) })
    }
}
