//! **continuity**: for every accepted (source-id, PASID, IOVA), the hardware's answer at every instant of the takeover,
//! cold or warm cache, is the answer it gave before the panic.
//!
//! The model compares the answers between every two steps of the takeover; after the takeover, this module also
//! compares the accesses that no device happened to make.

use model::{Access, Answer, Machine, MemoryKind, Violation};

use crate::{Verdict, ends, ensure, told};

/// Whether some access got another answer than before the panic.
pub fn is_broken(machine: &Machine) -> bool {
    machine.violations().iter().any(|violation| matches!(violation, Violation::Continuity { .. }))
}

/// Checks that nothing went wrong, and that devices still reach everything that they reached before.
pub fn check(machine: &Machine, unit: usize) -> Verdict {
    ensure(machine.violations().is_empty(), || told(machine))?;
    reached_accesses(machine, unit).try_for_each(|access| {
        let (before, now) = (machine.answer_before(unit, access), machine.answer(unit, access));
        let blocked = matches!((before, now), (Answer::Blocked(_), Answer::Blocked(_)));
        let same = blocked || before == now || is_captures(machine, before);
        ensure(same, || format!("{access} was {before}, is {now}"))
    })
}

/// Both ends of every leaf that any requester reached before, for reads and writes.
fn reached_accesses(machine: &Machine, unit: usize) -> impl Iterator<Item = Access> {
    let requesters = machine.requesters_before(unit).into_iter();
    requesters.flat_map(move |requester| machine.reached_before(unit, requester)).flat_map(|leaf| ends(&leaf))
}

/// Whether an answer lies in the capture kernel's memory: in pass-through a device reached that too, and the takeover
/// must end it.
fn is_captures(machine: &Machine, answer: Answer) -> bool {
    let Answer::Memory(address) = answer else { return false };
    machine.ranges(MemoryKind::Capture).iter().any(|own| own.contains(address))
}
