//! Unwinds a stack by ORC tables, as the kernel itself does it (`arch/x86/kernel/unwind_orc.c`).

use machine::OldMemory;

use crate::orc::{Base, Entry, Kind};
use crate::registers::{Others, Registers};
use crate::view::View;

/// Most frames of a stack that are listed.
const MOST_FRAMES: usize = 128;
/// Words of a stack among which the return address is looked for of a function that no table describes.
const SEARCHED: usize = 256;
/// How many such functions a stack may have.
const MOST_GAPS: u32 = 2;
/// A frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where the processor was, or where it returns to.
    pub(crate) ip: u64,
    /// Whether an interrupt or an exception stopped it there; otherwise it is a return address.
    pub(crate) is_exact: bool,
}

/// The frames of a stack, the innermost first.
pub(crate) struct Unwound {
    pub(crate) frames: Vec<Found>,
    /// How it ended.
    pub(crate) end: End,
}

/// How a stack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// At the first function of the kernel, or at a program.
    Whole,
    /// There are more frames.
    Long,
    /// No entry covers this instruction, or it says that nothing is known.
    Unknown,
    /// A part of the stack is not in the dump, or the entry makes no sense of it.
    Broken,
}

/// Unwinds from registers on. `find` gives the entry of an instruction, `start` the first instruction of its function.
pub(crate) fn unwind<M: OldMemory>(
    view: &View<'_, M>,
    registers: Registers,
    find: impl Fn(u64) -> Option<Entry>,
    start: impl Fn(u64) -> Option<u64>,
) -> Unwound {
    let mut state = State::new(registers);
    let (mut frames, mut gaps) = (Vec::new(), MOST_GAPS);
    let end = loop {
        if frames.len() == MOST_FRAMES {
            break End::Long;
        }
        frames.push(Found { ip: state.ip, is_exact: state.is_exact });
        // A return address may be the first instruction behind its function.
        let inside = state.ip.wrapping_sub(u64::from(!state.is_exact));
        let next = match find(inside).filter(|entry| entry.kind != Kind::Undefined) {
            Some(entry) if entry.kind == Kind::End => break End::Whole,
            Some(entry) => state.step(view, entry),
            // `__crash_kexec`, in which the registers are saved, is such a function.
            None if gaps > 0 => {
                gaps -= 1;
                start(inside).and_then(|function| state.search(view, function))
            }
            None => break End::Unknown,
        };
        match next {
            Some(next) if next.is_user => break End::Whole,
            Some(next) => state = next,
            None => break End::Broken,
        }
    };
    Unwound { frames, end }
}

/// Where the unwinding is.
#[derive(Clone, Copy)]
struct State {
    ip: u64,
    sp: u64,
    bp: u64,
    /// The other registers, as long as they are those of this frame.
    others: Option<Others>,
    is_exact: bool,
    is_user: bool,
}

impl State {
    fn new(registers: Registers) -> Self {
        let Registers { ip, sp, others, .. } = registers;
        let bp = others.map_or(0, |others| others.bp);
        Self { ip, sp, bp, others, is_exact: true, is_user: registers.is_user() }
    }

    /// The caller's state.
    fn step<M: OldMemory>(&self, view: &View<'_, M>, entry: Entry) -> Option<Self> {
        let frame = self.frame(view, entry)?;
        let next = match entry.kind {
            Kind::Undefined | Kind::End => None,
            Kind::Call => {
                let ip = view.u64(frame.checked_sub(8)?)?;
                Some(Self { ip, sp: frame, bp: self.bp, others: None, is_exact: false, is_user: false })
            }
            Kind::Registers => Some(Self::new(Registers::read(view, frame)?)),
            Kind::InterruptFrame => {
                Some(Self { bp: self.bp, ..Self::new(Registers::read_frame(view, frame)?) })
            }
        }?;
        let bp = self.caller_bp(view, entry, frame, next)?;
        Some(Self { bp, ..next })
    }

    /// The caller's state, if the stack has a return address behind an instruction that calls `function`.
    fn search<M: OldMemory>(&self, view: &View<'_, M>, function: u64) -> Option<Self> {
        let places = (0..SEARCHED as u64).map_while(|word| self.sp.checked_add(word * 8));
        let words = places.map_while(|at| Some((at, view.u64(at)?)));
        let (at, ip) = words.into_iter().find(|&(_, ip)| calls(view, ip, function))?;
        Some(Self { ip, sp: at.checked_add(8)?, bp: self.bp, others: None, is_exact: false, is_user: false })
    }

    /// The caller's stack pointer, or where its registers are.
    fn frame<M: OldMemory>(&self, view: &View<'_, M>, entry: Entry) -> Option<u64> {
        let offset = i64::from(entry.sp_offset);
        let from = |register: u64| register.wrapping_add_signed(offset);
        Some(match entry.sp_base {
            Base::Sp => from(self.sp),
            Base::Bp => from(self.bp),
            Base::SpIndirect => from(view.u64(self.sp)?),
            Base::BpIndirect => view.u64(from(self.bp))?,
            Base::R10 => from(self.others?.r10),
            Base::R13 => from(self.others?.r13),
            Base::Di => from(self.others?.di),
            Base::Dx => from(self.others?.dx),
            Base::Ax => from(self.others?.ax),
            Base::None | Base::PreviousSp => return None,
        })
    }

    fn caller_bp<M: OldMemory>(
        &self,
        view: &View<'_, M>,
        entry: Entry,
        frame: u64,
        next: Self,
    ) -> Option<u64> {
        let offset = i64::from(entry.bp_offset);
        match entry.bp_base {
            Base::PreviousSp => view.u64(frame.wrapping_add_signed(offset)),
            Base::Bp => view.u64(self.bp.wrapping_add_signed(offset)),
            _ => Some(next.others.map_or(self.bp, |others| others.bp)),
        }
    }
}

/// Whether the instruction before a return address calls this function: `E8`, and the distance (Intel SDM volume 2, CALL).
fn calls<M: OldMemory>(view: &View<'_, M>, return_address: u64, function: u64) -> bool {
    const CALL: u8 = 0xE8;
    let near = i32::try_from(function.wrapping_sub(return_address).cast_signed());
    let Ok(distance) = near else { return false };
    let instruction = return_address.checked_sub(5).and_then(|at| view.array::<5>(at));
    instruction.is_some_and(|[code, target @ ..]| code == CALL && i32::from_le_bytes(target) == distance)
}
