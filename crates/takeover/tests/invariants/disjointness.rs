//! **disjointness**: an IOVA given to a new driver was not mapped by the old kernel in that domain, is no MSI address, no
//! RMRR, no bridge window, and lies within the domain's width.

use crate::common::{
    Buffer, Described, PLENTY, attach, buffer, cases, function, is_guests, plausible, take_over_all,
    unmapped, with_vtd,
};
use machine::{IoAddress, PAGE_SIZE, PhysicalAddress, Range};
use model::damage::{Damage, Harm, Victim};
use model::{Access, Answer, Direction, Machine, MemoryKind, OwnFrames, Requester, Scenario};
use proptest::prelude::*;
use takeover::Attachment;
use verdict::{KEPT_FREE, Taken, continuity, limits, told};

/// The interrupt window as the specification has it.
const INTERRUPTS: Range<IoAddress> = Range::new(IoAddress::new(0xFEE0_0000), IoAddress::new(0xFEF0_0000));

/// Reads and writes of every page of a buffer at its I/O address, and the memory that each should reach.
fn accesses(requester: Requester, buffer: &Buffer) -> impl Iterator<Item = (Access, PhysicalAddress)> {
    let Buffer { iova, memory } = *buffer;
    let offsets = (0..iova.len()).step_by(PAGE_SIZE as usize);
    let pages =
        offsets.map(move |offset| (iova.start.saturating_add(offset), memory.start.saturating_add(offset)));
    let both = [Direction::Read, Direction::Write];
    pages.flat_map(move |(iova, memory)| both.map(|direction| (requester.access(iova, direction), memory)))
}

/// Machines whose devices in scalable mode have a RID_PASID that lies beyond most directories.
fn misdirected() -> impl Strategy<Value = Described> {
    (with_vtd(), prop::sample::select(vec![0x2001, 0x1_2345, 0xF_FFFE])).prop_map(|(mut scenario, pasid)| {
        let victims = scenario.functions.iter().map(|function| Victim::RidPasid(function.source));
        let harm = Harm::Overwrite(pasid);
        scenario.damage.extend(victims.map(|victim| Damage { victim, harm }));
        scenario.into()
    })
}

/// Whether an access reached nothing: it was blocked, or passed through to where there is neither memory nor a
/// register.
fn is_nowhere(machine: &Machine, answer: Answer) -> bool {
    let ranges = || {
        [MemoryKind::Old, MemoryKind::Capture, MemoryKind::Mmio]
            .into_iter()
            .flat_map(|kind| machine.ranges(kind))
    };
    match answer {
        Answer::Blocked(_) => true,
        Answer::Memory(address) => !ranges().any(|range| range.contains(address)),
        Answer::Interrupt | Answer::Remapped(_) => false,
    }
}

/// Whose addresses requests had before the takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The old kernel's: in the same domain.
    Kernels,
    /// A guest's, in tables that are not the domain's: a driver's device leaves them for a new domain.
    Guests,
}

/// Checks that these addresses are not forbidden, and that none of `sharing` used them in this domain. The first of those reaches
/// the buffer at them, cold and warm, unless it keeps what its guest had there although it was told; the others do not.
fn check_buffer(
    (machine, unit): (&Machine, usize),
    (sharing, whose): (&[Requester], Whose),
    buffer: &Buffer,
) -> Result<(), TestCaseError> {
    let forbidden = KEPT_FREE.into_iter().chain([INTERRUPTS, Range::from(0..PAGE_SIZE)]);
    for range in forbidden {
        prop_assert!(!range.overlaps(buffer.iova), "{} is in {range}", buffer.iova);
    }
    for (index, requester) in sharing.iter().enumerate() {
        for (access, memory) in accesses(*requester, buffer) {
            let before = machine.answer_before(unit, access);
            prop_assert!(whose == Whose::Guests || is_nowhere(machine, before), "{access} was {before}");
            let keeps_guests = whose == Whose::Guests && machine.keeps_on(unit, requester.source);
            let warm = (!keeps_guests).then(|| machine.access(unit, access));
            for now in [machine.answer(unit, access)].into_iter().chain(warm) {
                prop_assert_eq!(now == Answer::Memory(memory), index == 0, "{} is {}", access, now);
            }
        }
    }
    Ok(())
}

fn check_overlaps(buffers: &[Buffer]) -> Result<(), TestCaseError> {
    for (index, buffer) in buffers.iter().enumerate() {
        prop_assert!(buffers[..index].iter().all(|other| !other.iova.overlaps(buffer.iova)), "{buffers:?}");
    }
    Ok(())
}

/// Checks that nothing unmapped can be reached, warm or cold, except by a device that ignores invalidations, or of which the report
/// says so.
fn check_unmapping(
    (machine, unit): (&Machine, usize),
    taken: &mut Taken,
    frames: &mut OwnFrames,
    device: &Attachment,
    buffer: &Buffer,
) -> Result<(), TestCaseError> {
    unmapped(taken.unmap(device, buffer.iova, frames))?;
    let keeps_on = machine.keeps_on(unit, device.source.0);
    for (access, _) in accesses(Requester { source: device.source.0, pasid: None }, buffer) {
        prop_assert!(matches!(machine.answer(unit, access), Answer::Blocked(_)), "{access}");
        let warm = machine.access(unit, access);
        prop_assert!(keeps_on || matches!(warm, Answer::Blocked(_)), "{access}, warm");
    }
    prop_assert!(taken.unmap(device, buffer.iova, frames).is_err(), "unmapped twice");
    Ok(())
}

/// An address that the old kernel had mapped, or a forbidden one, is found out.
#[test]
fn a_reused_address_is_found_out() {
    let size = model::random::Size { units: 1, domains: 3, functions: 5, runs: 5 };
    let machine = (0..100)
        .map(|seed| Scenario::random(seed, size).machine())
        .find(|machine| machine.accesses().iter().any(|(_, answer)| matches!(answer, Answer::Memory(_))));
    let machine = machine.unwrap();
    let (access, _) =
        machine.accesses().into_iter().find(|(_, answer)| matches!(answer, Answer::Memory(_))).unwrap();
    let page = access.iova.align_down(PAGE_SIZE);
    let memory = buffer(&machine, 0, 1);
    let forbidden = [KEPT_FREE[0].start, KEPT_FREE[1].start, INTERRUPTS.start, IoAddress::new(0)];
    for start in forbidden.into_iter().chain([page]) {
        let buffer = Buffer { iova: Range::new(start, start.saturating_add(PAGE_SIZE)), memory };
        assert!(
            check_buffer((&machine, 0), (&[access.requester()], Whose::Kernels), &buffer).is_err(),
            "{start:#x}"
        );
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn new_addresses_are_nobody_elses(
        scenario in prop_oneof![1 => plausible(), 1 => misdirected()],
        pick in 0..9_usize,
        pages in prop::collection::vec(1..17_u64, 1..12),
    ) {
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let mut taken = take_over_all(&machine, &mut frames, &clock, &limits()).unwrap();
        let (unit, device) = function(&scenario, pick);
        let sharing = machine.sharing_before(unit, device);
        // Accesses before the mapping would record faults.
        let (device, buffers) = attach(&machine, &mut taken[unit], &mut frames, &sharing, &pages)?;
        check_overlaps(&buffers)?;
        let whose = if is_guests(&scenario, sharing[0]) { Whose::Guests } else { Whose::Kernels };
        for buffer in &buffers {
            check_buffer((&machine, unit), (&sharing, whose), buffer)?;
        }
        prop_assert!(whose == Whose::Guests || !continuity::is_broken(&machine), "{}", told(&machine));
        for buffer in &buffers {
            check_unmapping((&machine, unit), &mut taken[unit], &mut frames, &device, buffer)?;
        }
    }
}
