//! ORC: the tables by which the kernel unwinds its own stacks (`arch/x86/kernel/unwind_orc.c`).
//!
//! A table of instructions' addresses in ascending order, each relative to where it lies, and a table of entries of six bytes that
//! say, from this instruction on, where the caller's frame is. The kernel has such a pair, and so has each module.

use machine::OldMemory;

use crate::btf::Btf;
use crate::symbols::Symbols;
use crate::view::View;

/// Most bytes of a table of entries; Debian's kernels have 4 MiB.
const MOST: u64 = 32 << 20;
/// Bytes of `struct orc_entry`.
const ENTRY: u64 = 6;

/// A kernel's or a module's pair of tables.
pub(crate) struct Table {
    /// Virtual address of the table of instructions.
    start: u64,
    instructions: Vec<u8>,
    entries: Vec<u8>,
}

/// How the caller's frame is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) sp_offset: i16,
    pub(crate) bp_offset: i16,
    pub(crate) sp_base: Base,
    pub(crate) bp_base: Base,
    pub(crate) kind: Kind,
}

/// What a frame, or where the caller's BP is, may be counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// From nothing, or by a number that no kernel is known to use.
    None,
    /// From the caller's frame.
    PreviousSp,
    Ax,
    Dx,
    Di,
    Bp,
    Sp,
    R10,
    R13,
    /// From the word that BP leads to.
    BpIndirect,
    /// From the word that SP leads to.
    SpIndirect,
}

/// What lies at the caller's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing is known.
    Undefined,
    /// There is no caller.
    End,
    /// A return address.
    Call,
    /// All registers that an interrupt or exception saved.
    Registers,
    /// The five registers that the processor itself saves.
    InterruptFrame,
}

/// How this kernel writes its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    packing: Packing,
    numbering: Numbering,
}

impl Format {
    /// The format of a kernel with these types, whose own table this is. Its modules' tables have the same.
    pub(crate) fn of(btf: Option<&Btf>, kernel: &Table) -> Self {
        Self { packing: Packing::of(btf), numbering: Numbering::of(kernel) }
    }
}

/// The numbers of what is counted from: `ORC_REG_*` (`arch/x86/include/asm/orc_types.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbering {
    /// Up to 7.0.
    First,
    /// From 7.1 on (commit 1735858caa4b, "objtool/x86: Reorder ORC register numbering").
    Second,
}

impl Numbering {
    /// The stack pointer, from which most functions' frames are counted, is 5 in the first and 3 in the second, where the other one of
    /// both is a rare base of assembler code. BTF does not tell: these numbers are no type of the kernel's.
    fn of(kernel: &Table) -> Self {
        let bases = || kernel.entries.chunks_exact(ENTRY as usize).map(|entry| entry[4] & 0xF);
        let count = |number| bases().filter(|&base| base == number).count();
        if count(3) > count(5) { Self::Second } else { Self::First }
    }

    fn base(self, number: u16) -> Base {
        use Base::{Ax, Bp, BpIndirect, Di, Dx, None, PreviousSp, R10, R13, Sp, SpIndirect};
        let numbers = match self {
            Self::First => [None, PreviousSp, Dx, Di, Bp, Sp, R10, R13, BpIndirect, SpIndirect, None],
            Self::Second => [None, Ax, Dx, Sp, Bp, Di, R10, R13, PreviousSp, SpIndirect, BpIndirect],
        };
        numbers.get(usize::from(number)).copied().unwrap_or(None)
    }
}

/// How this kernel packs an entry's last two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    /// Two bits say what lies there, and another one that there is no caller (up to 6.3).
    Two,
    /// Three bits say both (from 6.4 on).
    Three,
}

impl Packing {
    /// As BTF describes it; otherwise as it is since 6.4.
    fn of(btf: Option<&Btf>) -> Self {
        match btf.and_then(|btf| btf.member("orc_entry", "type")) {
            Some(member) if member.width == 2 => Self::Two,
            _ => Self::Three,
        }
    }

    fn kind(self, bits: u16) -> Kind {
        match (self, bits & 7) {
            (Self::Two, 4..) | (Self::Three, 1) => Kind::End,
            (Self::Two, 0) | (Self::Three, 2) => Kind::Call,
            (Self::Two, 1) | (Self::Three, 3) => Kind::Registers,
            (Self::Two, 2) | (Self::Three, 4) => Kind::InterruptFrame,
            _ => Kind::Undefined,
        }
    }
}

impl Table {
    /// Reads the kernel's own tables.
    pub(crate) fn of_kernel<M: OldMemory>(
        view: &View<'_, M>,
        symbols: &Symbols,
    ) -> Result<Self, &'static str> {
        let unnamed = "the kernel has no ORC tables (CONFIG_UNWINDER_ORC is off)";
        let place = |name| symbols.address(name).ok_or(unnamed);
        let (start, stop) = (place("__start_orc_unwind_ip")?, place("__stop_orc_unwind_ip")?);
        let entries = place("__start_orc_unwind")?;
        let count = stop.checked_sub(start).ok_or("the ORC tables make no sense")? / 4;
        Self::read(view, start, entries, count).ok_or("the ORC tables cannot be read")
    }

    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.instructions.len() + self.entries.len()) as u64
    }

    /// Reads `count` instructions' addresses, and their entries.
    pub(crate) fn read<M: OldMemory>(
        view: &View<'_, M>,
        start: u64,
        entries: u64,
        count: u64,
    ) -> Option<Self> {
        let instructions = view.bytes(start, count.checked_mul(4)?, MOST)?;
        Some(Self { start, instructions, entries: view.bytes(entries, count.checked_mul(ENTRY)?, MOST)? })
    }

    /// How many entries there are.
    pub(crate) fn count(&self) -> usize {
        self.instructions.len() / 4
    }

    /// The entry for the instruction at this address.
    pub(crate) fn find(&self, instruction: u64, format: Format) -> Option<Entry> {
        let (mut first, mut end) = (0, self.count());
        while first < end {
            let middle = first.midpoint(end);
            if self.instruction(middle)? <= instruction { first = middle + 1 } else { end = middle }
        }
        self.entry(first.checked_sub(1)?, format)
    }

    fn instruction(&self, at: usize) -> Option<u64> {
        let offset = i32::from_le_bytes(*self.instructions.get(at * 4..)?.first_chunk()?);
        Some(self.start.wrapping_add(at as u64 * 4).wrapping_add_signed(offset.into()))
    }

    fn entry(&self, at: usize, format: Format) -> Option<Entry> {
        let bytes: [u8; 6] = *self.entries.get(at * ENTRY as usize..)?.first_chunk()?;
        let [sp_offset, bp_offset, rest] = [0, 2, 4].map(|at| u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let base = |number: u16| format.numbering.base(number & 0xF);
        let (sp_base, kind) = (base(rest), format.packing.kind(rest >> 8));
        // An entry that counts from nothing marks code that no table describes.
        let kind = if sp_base == Base::None && kind != Kind::End { Kind::Undefined } else { kind };
        Some(Entry {
            sp_offset: sp_offset.cast_signed(),
            bp_offset: bp_offset.cast_signed(),
            sp_base,
            bp_base: base(rest >> 4),
            kind,
        })
    }
}
