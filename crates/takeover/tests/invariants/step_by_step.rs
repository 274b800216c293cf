//! One takeover from the panic to a driver's first buffer, to be read from top to bottom.

use crate::common::{PLENTY, buffer, take_over};
use model::scenario::{Attached, Domain, Function, Mapping, OldQueue, UnitScenario};
use model::trace::Event;
use model::walk::Traits;
use model::{Access, Answer, Direction, MemoryKind, Own, Requester, Scenario};
use takeover::Outcome;
use takeover::attach::Inherited;
use verdict::{limits, told};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::TableMode;
use vtd::paging::AddressWidth;

use machine::{Level, Permission, Range, SourceId};

/// 00:02.0, which receives packets.
const NETWORK: u16 = 0x0010;
/// 00:1f.2, which the capture kernel will write the dump to.
const DISK: u16 = 0x00FA;

/// 256 MiB, 4 of them the capture kernel's; a unit like QEMU's.
pub(crate) fn scenario() -> Scenario {
    let page = |iova: u64, memory: u64, permission| Mapping {
        iova: iova.into(),
        memory: memory.into(),
        level: Level::ONE,
        permission,
    };
    let network = Domain {
        id: 7,
        width: AddressWidth::BITS_39,
        mappings: vec![
            page(0xFFFF_E000, 0x0123_4000, Permission::Write),
            page(0xFFFF_F000, 0x0765_4000, Permission::Write),
            page(0xFFF0_0000, 0x0333_3000, Permission::Read),
        ],
        ..Domain::default()
    };
    let large = Mapping {
        iova: 0.into(),
        memory: 0x0080_0000.into(),
        level: Level::TWO,
        permission: Permission::ReadWrite,
    };
    let disk = Domain { id: 9, width: AddressWidth::BITS_39, mappings: vec![large], ..Domain::default() };
    Scenario {
        seed: 4,
        memory: vec![
            (Range::from(0..0x0C00_0000), MemoryKind::Old),
            (Range::from(0x0C00_0000..0x0C40_0000), MemoryKind::Capture),
            (Range::from(0x0C40_0000..0x1000_0000), MemoryKind::Old),
        ],
        units: vec![UnitScenario {
            traits: Traits {
                capability: Capability::from_bits(0x00D2_008C_2226_0206),
                extended: ExtendedCapability::from_bits(0x00F0_0F4A),
                host_address_bits: 39,
            },
            mode: TableMode::LEGACY,
            queue: OldQueue::Idle,
            ..UnitScenario::default()
        }],
        domains: vec![network, disk],
        functions: vec![
            Function {
                source: NETWORK,
                attached: Attached::To(0),
                works_at: vec![0xFFFF_E800.into(), 0xFFFF_F040.into()],
                ..Function::default()
            },
            Function {
                source: DISK,
                attached: Attached::To(1),
                works_at: vec![0x1000.into(), 0x1F_FFF8.into()],
                ..Function::default()
            },
        ],
        ..Scenario::default()
    }
}

/// 1. The kernel is dead; translation is on; network card and disk go on with DMA through the old tables, and will do so
///    between any two of the following steps.
/// 2. The takeover finds two contexts, two domains and four leaves in five page tables, and duplicates them all.
/// 3. The unit now reads tables in the capture kernel's memory, with all that was on still on. It took the new root before
///    it forgot its contexts, and those before its translations.
/// 4. Nobody noticed: no access was answered otherwise, no page of old memory changed.
/// 5. The disk is given to a driver: it keeps its domain, id 9, and all translations in it.
/// 6. A buffer is mapped for it, at an address that its old domain did not map. The disk reaches it there.
/// 7. The network card does not: at that address it has nothing, as before.
/// 8. The buffer is unmapped: the disk does not reach it any more, even from its caches.
#[test]
fn from_the_panic_to_a_drivers_first_buffer() {
    let machine = scenario().machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let status = machine.status(0);

    let mut taken = take_over(&machine, &mut frames, &clock, &limits()).unwrap();
    let report = taken.report();
    assert_eq!((report.contexts_accepted(), report.domains_reserved(), report.leaf_mappings()), (2, 2, 4));
    assert_eq!(report.tables_duplicated, 2 + 5);
    assert_eq!(report.ended(Outcome::Duplicated), (2, 2));

    let capture = machine.ranges(MemoryKind::Capture)[0];
    assert!(capture.contains(machine.root(0)));
    assert_eq!(machine.status(0), status);
    assert!(machine.status(0).tes());
    let order = [
        |event: &Event| matches!(event, Event::RootTaken { .. }),
        |event: &Event| matches!(event, Event::ForgotContexts),
        |event: &Event| matches!(event, Event::ForgotTranslations),
    ];
    let steps = order.map(|is| machine.trace().events().iter().rfind(|(_, event)| is(event)).unwrap().0);
    assert!(steps.is_sorted(), "{}", machine.trace());

    assert_eq!(told(&machine), "");
    assert_eq!(machine.old_pages_changed(), []);

    let memory = buffer(&machine, 0, 1);
    machine.guard(vec![Own { requester: Requester { source: DISK, pasid: None }, memory }]);
    let disk = taken.attach(SourceId(DISK), &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (9, Inherited::Tables));

    let iova = taken.map(&disk, memory, Permission::ReadWrite, &machine.old_memory(), &mut frames).unwrap();
    assert!(iova.get() >= 0x20_0000, "{iova:#x} was mapped by the old kernel");
    let read =
        |source| Access { source, pasid: None, iova: iova.saturating_add(8), direction: Direction::Read };
    assert_eq!(machine.access(0, read(DISK)), Answer::Memory(memory.start.saturating_add(8)));
    let old = Access { source: DISK, pasid: None, iova: 0x1000.into(), direction: Direction::Write };
    assert_eq!(machine.access(0, old), Answer::Memory(0x0080_1000.into()));

    assert!(matches!(machine.access(0, read(NETWORK)), Answer::Blocked(_)));

    taken.unmap(&disk, Range::new(iova, iova.saturating_add(memory.len())), &mut frames).unwrap();
    assert!(matches!(machine.access(0, read(DISK)), Answer::Blocked(_)));
    machine.run(100);
    assert_eq!(told(&machine), "");
}
