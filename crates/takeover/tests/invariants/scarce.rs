//! What must hold when frames run short, on machines whose large pages reach into the capture kernel's memory: what
//! was mapped is never handed out again (**disjointness**), nothing reaches the capture kernel (**isolation**), what
//! the report calls accepted is translated as before (**continuity**, **accounted**), also after an attach with
//! aliases and a mapping.

use crate::common::{Buffer, Described, buffer, cases, function, holds, is_guests, with_vtd};
use machine::{IoAddress, Level, PAGE_SIZE, Permission, PhysicalAddress, Range, SourceId};
use model::scenario::{Domain, Function, GUEST_TABLES, Mapping, OldQueue, Stage, UnitScenario};
use model::walk::Traits;
use model::{Access, Answer, Direction, Machine, MemoryKind, Own, Requester, Scenario};
use proptest::prelude::*;
use takeover::failure::{InForce, Reason};
use takeover::{Failure, Limits, Outcome};
use verdict::{Taken, accounted, isolation, limits};
use vtd::capability::{Capability, ExtendedCapability};

/// The capture kernel's memory, which starts and ends within pages of 2 MiB.
const CAPTURE: Range<PhysicalAddress> =
    Range::new(PhysicalAddress::new(0x201_3000), PhysicalAddress::new(0x27F_7000));

/// A large page that includes some of the capture kernel's memory.
fn over_ours() -> impl Strategy<Value = Mapping> {
    let large = [0x200_0000, 0x240_0000, 0x260_0000].map(|memory| (Level::TWO, memory));
    let page = prop_oneof![prop::sample::select(large.to_vec()), Just((Level::THREE, 0))];
    (page, 0..200_u64).prop_map(|((level, memory), place)| {
        let iova = IoAddress::new(place * level.span());
        Mapping { iova, memory: memory.into(), level, permission: Permission::ReadWrite }
    })
}

/// Machines on which some domains map large pages over the capture kernel's memory.
fn cramped() -> impl Strategy<Value = Described> {
    let pages = prop::collection::vec((any::<prop::sample::Index>(), over_ours()), 1..8);
    (with_vtd(), pages).prop_map(|(mut scenario, pages)| {
        scenario.memory = memory();
        for unit in &mut scenario.units {
            let traits = &mut unit.traits;
            traits.capability = traits.capability.with_sslps(0b11).with_fs1gp(traits.extended.fsts());
        }
        for (domain, page) in pages {
            let count = scenario.domains.len();
            if count > 0 {
                add(&mut scenario.domains[domain.index(count)], page);
            }
        }
        scenario.into()
    })
}

/// The memory of random machines, with [`CAPTURE`] in it.
fn memory() -> Vec<(Range<PhysicalAddress>, MemoryKind)> {
    vec![
        (Range::from(0..0xA_0000), MemoryKind::Old),
        (Range::from(0x10_0000..CAPTURE.start.get()), MemoryKind::Old),
        (CAPTURE, MemoryKind::Capture),
        (Range::from(CAPTURE.end.get()..0x480_0000), MemoryKind::Old),
        (Range::from(0xFEB0_0000..0xFEC0_0000), MemoryKind::Mmio),
        (Range::from(1 << 32..(1 << 32) + (1 << 30)), MemoryKind::Old),
    ]
}

/// Adds a page to a domain's mappings, if its addresses are free and no guest's.
fn add(domain: &mut Domain, page: Mapping) {
    let span = |mapping: &Mapping| mapping.level.entry_span(mapping.iova);
    let taken = |other: &Mapping| span(other).overlaps(span(&page));
    let others = [machine::INTERRUPT_WINDOW, GUEST_TABLES];
    let free = !domain.mappings.iter().any(taken) && !others.iter().any(|other| other.overlaps(span(&page)));
    let is_guests = matches!(domain.stage, Stage::Nested(_));
    if free && !is_guests && domain.vast.is_none() {
        domain.mappings.push(page);
    }
}

/// A device and its aliases, all of one unit.
struct Family {
    unit: usize,
    source: Requester,
    aliases: Vec<SourceId>,
}

impl Family {
    /// The function at index `picks[0]`, with those at the other indices as its aliases.
    fn of(scenario: &Described, picks: &[usize]) -> Self {
        let (unit, source) = function(scenario, picks[0]);
        let others = picks[1..].iter().map(|pick| function(scenario, *pick));
        let of_unit = others.filter(|(other, requester)| *other == unit && *requester != source);
        Self { unit, source, aliases: of_unit.map(|(_, requester)| SourceId(requester.source)).collect() }
    }

    fn requesters(&self) -> impl Iterator<Item = Requester> {
        let aliases = self.aliases.iter().map(|alias| Requester { source: alias.0, pasid: None });
        std::iter::once(self.source).chain(aliases)
    }
}

/// Attaches the device and maps buffers for it, as far as that works.
fn attach(
    machine: &Machine,
    taken: &mut Taken,
    frames: &mut model::OwnFrames,
    family: &Family,
) -> Vec<Buffer> {
    let memory: Vec<Range<PhysicalAddress>> =
        (0..).zip([1, 16, 1]).map(|(index, pages)| buffer(machine, index, pages)).collect();
    let own = |requester| memory.iter().map(move |memory| Own { requester, memory: *memory });
    machine.guard(family.requesters().flat_map(own).collect());
    let Ok(device) = taken.attach(SourceId(family.source.source), &family.aliases, frames) else {
        return Vec::new();
    };
    let mut map = |memory: &Range<PhysicalAddress>| {
        let start = taken.map(&device, *memory, Permission::ReadWrite, &machine.old_memory(), frames).ok()?;
        Some(Buffer { iova: Range::new(start, start.saturating_add(memory.len())), memory: *memory })
    };
    memory.iter().filter_map(&mut map).collect()
}

/// Checks that whoever reaches a buffer reached nothing there before.
fn check_buffers(machine: &Machine, family: &Family, buffers: &[Buffer]) -> Result<(), TestCaseError> {
    let unit = family.unit;
    let requesters = machine.requesters_before(unit).into_iter().chain(family.requesters());
    for (requester, buffer) in requesters.flat_map(|requester| buffers.iter().map(move |b| (requester, b))) {
        for page in (0..buffer.iova.len()).step_by(PAGE_SIZE as usize) {
            let access = requester.access(buffer.iova.start.saturating_add(page), Direction::Write);
            let (before, now) = (machine.answer_before(unit, access), machine.answer(unit, access));
            let reaches = matches!(now, Answer::Memory(address) if buffer.memory.contains(address));
            let used = matches!(before, Answer::Memory(address) if is_something(machine, address));
            prop_assert!(!(reaches && used), "{access} was {before}, is {now}");
        }
    }
    Ok(())
}

/// Whether there is memory or a register at this address.
fn is_something(machine: &Machine, address: PhysicalAddress) -> bool {
    let kinds = [MemoryKind::Old, MemoryKind::Capture, MemoryKind::Mmio];
    kinds.into_iter().flat_map(|kind| machine.ranges(kind)).any(|range| range.contains(address))
}

/// Checks that no device with an entry of the old kernel reaches, beside the buffers, what it did not reach before.
fn check_nothing_elsewhere(
    scenario: &Described,
    machine: &Machine,
    unit: usize,
    buffers: &[Buffer],
) -> Result<(), TestCaseError> {
    let known = machine.requesters_before(unit);
    for leaf in machine.reached(unit) {
        if !known.contains(&leaf.requester) || is_guests(scenario, leaf.requester) {
            continue;
        }
        let access: Access = leaf.requester.access(leaf.iova, Direction::Read);
        let (before, now) = (machine.answer_before(unit, access), machine.answer(unit, access));
        let ours = buffers.iter().any(|buffer| buffer.memory.contains(leaf.memory.start));
        prop_assert!(
            ours || before == now || matches!(now, Answer::Blocked(_)),
            "{access} was {before}, is {now}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn few_frames_break_no_invariant(
        scenario in cramped(),
        budget in 0..70_usize,
        spare_frames in prop_oneof![Just(0), 0..12_usize, Just(64)],
        picks in prop::collection::vec(0..9_usize, 1..4),
    ) {
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(budget), machine.clock());
        let family = Family::of(&scenario, &picks);
        let limits = Limits { spare_frames, ..limits() };
        let queue = machine.status(family.unit).qies();
        let taken = verdict::take_over(&machine, family.unit, &mut frames, &clock, &limits);
        if let Err(Failure { reason: Reason::OutOfFrames, in_force }) = taken {
            prop_assert_eq!((in_force, machine.status(family.unit).qies()), (InForce::Old, queue));
        }
        let Ok(mut taken) = taken else { return Ok(()) };
        holds(accounted::check(&machine, family.unit, taken.report()))?;
        holds(isolation::check(&machine, family.unit))?;
        let buffers = attach(&machine, &mut taken, &mut frames, &family);
        check_buffers(&machine, &family, &buffers)?;
        check_nothing_elsewhere(&scenario, &machine, family.unit, &buffers)?;
        holds(isolation::check(&machine, family.unit))?;
        prop_assert_eq!(machine.old_pages_changed(), []);
    }

    /// Frames for the tables that lead to bad entries are enough: the others stay where they are.
    #[test]
    fn what_is_good_beside_a_bad_entry_goes_on(
        good in prop::collection::vec(page(), 1..60),
        bad in prop::collection::vec(page(), 1..4),
        spare_frames in LOOKS..8_usize,
    ) {
        let (scenario, bad) = spoiled(good, bad);
        let machine = scenario.machine();
        let mut frames = machine.frames(FIXED + 1 + 3 * bad + spare_frames);
        let clock = machine.clock();
        let limits = Limits { spare_frames, ..limits() };
        let taken = verdict::take_over(&machine, 0, &mut frames, &clock, &limits).expect("a takeover");
        let report = taken.report();
        prop_assert_eq!(report.ended(Outcome::Blocked), (0, 0), "{:?}", report.hazards.listed);
        prop_assert!(machine::Frames::available(&frames) >= spare_frames);
        for mapping in &scenario.domains[0].mappings {
            let access = Requester { source: 0, pasid: None }.access(mapping.iova, Direction::Write);
            let (before, now) = (machine.answer_before(0, access), machine.answer(0, access));
            let is_bad = matches!(before, Answer::Memory(address) if CAPTURE.contains(address));
            prop_assert!(if is_bad { now != before } else { now == before }, "{access} was {before}, is {now}");
        }
        holds(accounted::check(&machine, 0, report))?;
        holds(isolation::check(&machine, 0))?;
    }
}

/// Root table, context table, queue and its status.
const FIXED: usize = 4;
/// Tables that are looked at one below the other, under a root table that is copied: spare frames serve for that.
const LOOKS: usize = 3;

/// Where a page is mapped, and its size: neighbours in one table, or far from each other.
fn page() -> impl Strategy<Value = (IoAddress, Level)> {
    let place = (0..3_u64, 0..3_u64, 0..4_u64, 0..4_u64);
    (place, any::<bool>()).prop_map(|((top, third, second, first), is_large)| {
        let level = if is_large { Level::TWO } else { Level::ONE };
        let iova = top << 39 | third << 30 | second << 21 | first << 12;
        (IoAddress::new(iova).align_down(level.span()), level)
    })
}

/// A machine with one domain, in which bad pages reach the capture kernel, and how many of these there are.
fn spoiled(good: Vec<(IoAddress, Level)>, bad: Vec<(IoAddress, Level)>) -> (Scenario, usize) {
    let mut domain = Domain::default();
    let mapping = |(iova, level), small: u64, large: u64| {
        let memory = if level == Level::ONE { small } else { large }.into();
        Mapping { iova, memory, level, permission: Permission::ReadWrite }
    };
    for page in bad {
        add(&mut domain, mapping(page, 0x210_0000, 0x260_0000));
    }
    let count = domain.mappings.len();
    for page in good {
        add(&mut domain, mapping(page, 0x30_0000, 0x40_0000));
    }
    let capability =
        Capability::new().with_sagaw(0b0100).with_mgaw(47).with_nd(6).with_fro(0x22).with_sslps(0b11);
    let extended = ExtendedCapability::new().with_qi(true).with_iro(0xF);
    let traits = Traits { capability, extended, host_address_bits: 46 };
    let unit = UnitScenario { traits, queue: OldQueue::Idle, ..UnitScenario::default() };
    let works_at = domain.mappings[count..].iter().map(|mapping| mapping.iova).take(9).collect();
    let functions = vec![Function { works_at, ..Function::default() }];
    let (memory, units, domains) = (memory(), vec![unit], vec![domain]);
    (Scenario { seed: 1, memory, units, domains, functions, ..Scenario::default() }, count)
}
