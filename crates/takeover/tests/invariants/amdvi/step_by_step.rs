//! One takeover from the panic to a driver's first buffer, to be read from top to bottom.

use crate::common::{PLENTY, buffer, take_over};
use ::amdvi::feature::ExtendedFeature;
use machine::{Level, Permission, Range, SourceId};
use model::amdvi::Scenario;
use model::amdvi::scenario::{Attached, Domain, Function, Levels, Mapping, Pages, Style, UnitScenario};
use model::amdvi::walk::Traits;
use model::trace::Event;
use model::{Access, Answer, Direction, MemoryKind, Own, Requester, Rights};
use takeover::Outcome;
use takeover::attach::Inherited;
use verdict::{limits, told};

/// 00:02.0, which receives packets.
const NETWORK: u16 = 0x0010;
/// 00:1f.2, which the capture kernel will write the dump to.
const DISK: u16 = 0x00FA;
/// 00:1b.0, which plays sound; its addresses are physical.
const SOUND: u16 = 0x00D8;

/// 256 MiB, 4 of them the capture kernel's; a unit like QEMU's, with what Linux leaves.
pub(crate) fn scenario() -> Scenario {
    let page = |iova: u64, memory: u64, permission| Mapping {
        iova: iova.into(),
        memory: memory.into(),
        level: Level::ONE,
        permission,
    };
    let ring = (0..16).map(|number| page(number << 12, 0x0765_0000 | number << 12, Permission::Write));
    let network = Domain {
        id: 2,
        mappings: ring.chain([page(0x1_2345_6000, 0x0333_3000, Permission::Read)]).collect(),
        style: Style { levels: Levels::Skipped, pages: Pages::Joined },
        ..Domain::default()
    };
    let large = Mapping {
        iova: 0.into(),
        memory: 0x0080_0000.into(),
        level: Level::TWO,
        permission: Permission::ReadWrite,
    };
    let disk = Domain { id: 3, mappings: vec![large], ..Domain::default() };
    let function = |source, attached, works_at: &[u64]| Function {
        source,
        attached,
        works_at: works_at.iter().map(|iova| (*iova).into()).collect(),
        ..Function::default()
    };
    Scenario {
        seed: 4,
        memory: vec![
            (Range::from(0..0x0C00_0000), MemoryKind::Old),
            (Range::from(0x0C00_0000..0x0C40_0000), MemoryKind::Capture),
            (Range::from(0x0C40_0000..0x1000_0000), MemoryKind::Old),
        ],
        units: vec![UnitScenario {
            traits: Traits {
                feature: ExtendedFeature::from_bits(0x29D3),
                host_address_bits: 40,
                ..Traits::default()
            },
            ..UnitScenario::default()
        }],
        domains: vec![network, disk],
        functions: vec![
            function(NETWORK, Attached::To(0), &[0x3800, 0xF040, 0x1_2345_6000]),
            function(DISK, Attached::To(1), &[0x1000, 0x1F_FFF8]),
            function(SOUND, Attached::PassThrough(1, Rights::ALL), &[0x0123_4000]),
        ],
        ..Scenario::default()
    }
}

/// 1. The kernel is dead; translation is on; network card, disk and sound go on with DMA through the old tables, and will do so
///    between any two of the following steps.
/// 2. The takeover finds three devices among the entries of 256. It duplicates the tables of two domains, and gives the third a
///    map of all memory but the capture kernel's.
/// 3. The unit now reads a device table in the capture kernel's memory, with all that was on still on. It forgot entries and
///    translations after that.
/// 4. Nobody noticed: no access was answered otherwise, no page of old memory changed.
/// 5. The disk is given to a driver: it keeps its domain, id 3, and all translations in it.
/// 6. A buffer is mapped for it, at an address that its old domain did not map. The disk reaches it there; the network card does
///    not.
/// 7. The buffer is unmapped: the disk does not reach it any more, even from its caches.
#[test]
fn from_the_panic_to_a_drivers_first_buffer() {
    let machine = scenario().machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());

    let mut taken = take_over(&machine, &mut frames, &clock, &limits()).unwrap();
    let report = taken.report();
    assert_eq!(report.contexts_accepted(), 3);
    let outcome = |source| {
        let context = report.contexts.iter().find(|context| context.source == SourceId(source));
        context.map(|context| context.outcome)
    };
    let all = [NETWORK, DISK, SOUND].map(outcome);
    assert_eq!(all, [Outcome::Duplicated, Outcome::Duplicated, Outcome::Fenced].map(Some));

    let capture = machine.ranges(MemoryKind::Capture)[0];
    assert!(capture.contains(machine.root(0)) && machine.translates(0));
    let trace = machine.trace();
    let last = |is: fn(&Event) -> bool| trace.events().iter().rposition(|(_, event)| is(event));
    let moved = last(|event| matches!(event, Event::DeviceTableTaken { .. })).unwrap();
    let forgot = last(|event| matches!(event, Event::ForgotTranslations | Event::ForgotEverything)).unwrap();
    assert!(moved < forgot, "{trace}");

    assert_eq!(told(&machine), "");
    assert_eq!(machine.old_pages_changed(), []);

    let memory = buffer(&machine, 0, 1);
    machine.guard(vec![Own { requester: Requester { source: DISK, pasid: None }, memory }]);
    let disk = taken.attach(SourceId(DISK), &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (3, Inherited::Tables));

    let iova = taken.map(&disk, memory, Permission::ReadWrite, &machine.old_memory(), &mut frames).unwrap();
    assert!(iova.get() >= 0x20_0000, "{iova:#x} was mapped by the old kernel");
    let read =
        |source| Access { source, pasid: None, iova: iova.saturating_add(8), direction: Direction::Read };
    assert_eq!(machine.access(0, read(DISK)), Answer::Memory(memory.start.saturating_add(8)));
    assert!(matches!(machine.access(0, read(NETWORK)), Answer::Blocked(_)));
    let old = Access { source: DISK, pasid: None, iova: 0x1000.into(), direction: Direction::Write };
    assert_eq!(machine.access(0, old), Answer::Memory(0x0080_1000.into()));

    taken.unmap(&disk, Range::new(iova, iova.saturating_add(memory.len())), &mut frames).unwrap();
    assert!(matches!(machine.access(0, read(DISK)), Answer::Blocked(_)));
    machine.run(100);
    assert_eq!(told(&machine), "");
}
