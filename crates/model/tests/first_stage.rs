//! First-stage and nested tables as the unit walks them, written word by word as a kernel would write them.

use machine::{Level, Permission, Range};
use model::scenario::{Attached, Domain, Function, Mapping, Stage, UnitScenario};
use model::walk::Traits;
use model::{Access, Answer, Direction, Machine, MemoryKind, Scenario};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::TableMode;
use vtd::fault::FaultReason;
use vtd::paging::AddressWidth;

const DEVICE: u16 = 0x0018;
/// A page in the lower half of four levels' addresses, one in the upper half, and a large one.
const LOW: u64 = 0x1234_5000;
const HIGH: u64 = 0xFFFF_8000_0000_7000;
const LARGE: u64 = 0x7FFF_FFE0_0000;

fn page(iova: u64, memory: u64, permission: Permission) -> Mapping {
    Mapping { iova: iova.into(), memory: memory.into(), level: Level::ONE, permission }
}

/// A machine whose device uses domain 0, of `stage`; domain 1 is its host, if it has one.
fn scenario(stage: Stage, mappings: Vec<Mapping>) -> Scenario {
    let host =
        vec![page(0x10_0000, 0x20_0000, Permission::ReadWrite), page(0x10_1000, 0x30_0000, Permission::Read)];
    let domains = vec![
        Domain { id: 5, stage, mappings, ..Domain::default() },
        Domain { id: 6, width: AddressWidth::BITS_39, mappings: host, ..Domain::default() },
    ];
    let extended = ExtendedCapability::new()
        .with_smts(true)
        .with_ssts(true)
        .with_fsts(true)
        .with_nest(true)
        .with_smpwcs(true)
        .with_qi(true)
        .with_iro(0xF);
    let capability = Capability::new().with_sagaw(0b0010).with_mgaw(38).with_nd(6).with_fro(0x22);
    Scenario {
        seed: 3,
        memory: vec![
            (Range::from(0..0x100_0000), MemoryKind::Old),
            (Range::from(0x100_0000..0x110_0000), MemoryKind::Capture),
        ],
        units: vec![UnitScenario {
            traits: Traits { capability, extended, host_address_bits: 46 },
            mode: TableMode::SCALABLE,
            ..UnitScenario::default()
        }],
        domains,
        functions: vec![Function { source: DEVICE, attached: Attached::To(0), ..Function::default() }],
        ..Scenario::default()
    }
}

fn first_stage() -> Machine {
    let large = Mapping {
        iova: LARGE.into(),
        memory: 0x40_0000.into(),
        level: Level::TWO,
        permission: Permission::ReadWrite,
    };
    let mappings =
        vec![page(LOW, 0x12_3000, Permission::Read), page(HIGH, 0x45_6000, Permission::ReadWrite), large];
    scenario(Stage::First, mappings).machine()
}

/// The cold answer to the device; checks that the warm answer is the same, twice.
fn ask(machine: &Machine, iova: u64, direction: Direction) -> Answer {
    let access = Access { source: DEVICE, pasid: None, iova: iova.into(), direction };
    let cold = machine.answer(0, access);
    assert_eq!([machine.access(0, access), machine.access(0, access)], [cold, cold], "{access}");
    cold
}

#[test]
fn addresses_are_sign_extended_and_pages_are_of_two_sizes() {
    let machine = first_stage();
    assert_eq!(ask(&machine, LOW + 0x678, Direction::Read), Answer::Memory(0x12_3678.into()));
    assert_eq!(ask(&machine, HIGH + 8, Direction::Write), Answer::Memory(0x45_6008.into()));
    assert_eq!(ask(&machine, LARGE + 0x12_3456, Direction::Write), Answer::Memory(0x52_3456.into()));
    assert_eq!(ask(&machine, 0x8000_0000_0000, Direction::Read), Answer::Blocked(FaultReason(0x80).into()));
    assert!(matches!(ask(&machine, LOW, Direction::Write), Answer::Blocked(_)));
    assert!(matches!(ask(&machine, LOW + 0x1000, Direction::Read), Answer::Blocked(_)));
}

/// The entry of an address, read from the tables in memory: PASID entry, then four levels.
fn leaf(machine: &Machine, iova: u64) -> u64 {
    use machine::OldMemory;
    let old = machine.old_memory();
    let word = |address: u64| old.read_u64(address.into()).expect("a table in memory");
    let frame = |word: u64| word & 0x000F_FFFF_FFFF_F000;
    let context = frame(word(machine.root(0).get()));
    let directory = frame(word(context + u64::from(DEVICE) * 32));
    let mut entry = word(frame(word(directory)) + 16);
    for shift in [39, 30, 21, 12] {
        entry = word(frame(entry) + (iova >> shift & 0x1FF) * 8);
    }
    entry
}

#[test]
fn a_read_marks_a_page_accessed_and_a_write_marks_it_dirty_too() {
    const ACCESSED: u64 = 1 << 5;
    const DIRTY: u64 = 1 << 6;
    let marks = |machine: &Machine| leaf(machine, HIGH) & (ACCESSED | DIRTY);
    // Which bits the old kernel left clear is up to chance.
    let scenario = scenario(Stage::First, vec![page(HIGH, 0x45_6000, Permission::ReadWrite)]);
    let mut machines = (0..64).map(|seed| Scenario { seed, ..scenario.clone() }.machine());
    let machine = machines.find(|machine| marks(machine) == 0).expect("one of four machines");
    ask(&machine, HIGH, Direction::Read);
    assert_eq!(marks(&machine), ACCESSED);
    ask(&machine, HIGH, Direction::Write);
    assert_eq!(marks(&machine), ACCESSED | DIRTY);
    machine.run(10);
    assert_eq!(machine.old_pages_changed(), []);
}

#[test]
fn what_a_guest_maps_goes_through_its_host() {
    let mappings = vec![
        page(LOW, 0x10_0000, Permission::ReadWrite),
        page(HIGH, 0x10_1000, Permission::ReadWrite),
        page(0x5000, 0x55_5000, Permission::ReadWrite),
    ];
    let machine = scenario(Stage::Nested(1), mappings).machine();
    assert_eq!(ask(&machine, LOW + 4, Direction::Write), Answer::Memory(0x20_0004.into()));
    assert_eq!(ask(&machine, HIGH + 4, Direction::Read), Answer::Memory(0x30_0004.into()));
    assert!(matches!(ask(&machine, HIGH + 4, Direction::Write), Answer::Blocked(_)));
    assert!(matches!(ask(&machine, 0x5000, Direction::Read), Answer::Blocked(_)));
    let mut reached: Vec<(u64, u64)> =
        machine.reached(0).iter().map(|reached| (reached.iova.get(), reached.memory.start.get())).collect();
    reached.sort_unstable();
    assert_eq!(reached, [(LOW, 0x20_0000), (HIGH, 0x30_0000)]);
}
