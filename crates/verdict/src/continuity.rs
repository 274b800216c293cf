//! **continuity**: for every accepted (source-id, PASID, IOVA), the hardware's answer at every instant of the takeover,
//! cold or warm cache, is the answer it gave before the panic.
//!
//! The model compares the answers between every two steps of the takeover; here is also compared, once it is done, what
//! no device happened to ask for.

use model::{Access, Answer, Machine, MemoryKind, Violation};

use crate::{Verdict, ends, ensure, told};

/// Whether some access was answered otherwise than before the panic.
pub fn is_broken(machine: &Machine) -> bool {
    machine.violations().iter().any(|violation| matches!(violation, Violation::Continuity { .. }))
}

/// Nothing went wrong, and everything that could be reached before is reached.
pub fn check(machine: &Machine, unit: usize) -> Verdict {
    ensure(machine.violations().is_empty(), || told(machine))?;
    reached_accesses(machine, unit).try_for_each(|access| {
        let (before, now) = (machine.answer_before(unit, access), machine.answer(unit, access));
        let same = before == now || is_captures(machine, before);
        ensure(same, || format!("{access} was {before}, is {now}"))
    })
}

/// Both ends of every leaf that any requester reached before, read and written.
fn reached_accesses(machine: &Machine, unit: usize) -> impl Iterator<Item = Access> {
    let requesters = machine.requesters_before(unit).into_iter();
    requesters.flat_map(move |requester| machine.reached_before(unit, requester)).flat_map(|leaf| ends(&leaf))
}

/// In pass-through a device reached the capture kernel's memory too; that is nothing to continue.
fn is_captures(machine: &Machine, answer: Answer) -> bool {
    let Answer::Memory(address) = answer else { return false };
    machine.ranges(MemoryKind::Capture).iter().any(|own| own.contains(address))
}
