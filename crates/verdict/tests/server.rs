//! Takeovers at the scale of a server: hundreds of functions with a domain each, most of which map nothing, in the
//! quarter of a small reservation; and a machine of 8 sockets with 40 units, 4,096 functions and 12 TiB.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests stop at the first surprise")]

use machine::{IoAddress, Level, Permission, PhysicalAddress, Range, SourceId};
use model::scenario::{Attached, DeviceTlb, Domain, Function, Mapping, OldQueue, UnitScenario};
use model::walk::Traits;
use model::{Access, Answer, Direction, Machine, MemoryKind, OwnFrames, Requester, Scenario, Ticks};
use takeover::hazard::Danger;
use takeover::{Limits, Outcome, Report};
use verdict::{DEADLINE, Layout, Taken, isolation, take_over_knowing, told};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::TableMode;

/// A reservation of 64 MiB, of which the tests use as many frames as they say.
const CAPTURE: Range<PhysicalAddress> =
    Range::new(PhysicalAddress::new(0x2000_0000), PhysicalAddress::new(0x2400_0000));
/// The frames in the quarter of 16 MiB that is for tables.
const QUARTER: usize = 1024;
/// The addresses at which working functions map a page.
const MAPPED: [u64; 3] = [0xFFFF_F000, 0xFFE0_0000, 0x1_2345_6000];

/// What a machine has.
#[derive(Clone, Copy)]
struct Size {
    units: usize,
    functions: u16,
    buses: u16,
    /// Each function whose index is a multiple of this works; all others have an empty domain.
    every: u16,
    mode: TableMode,
    memory: u64,
}

impl Size {
    /// The source-id of a function: spread over all buses.
    fn source(&self, index: u16) -> u16 {
        (index % self.buses) << 8 | (index / self.buses)
    }

    /// The unit of a function: that of its bus.
    fn unit(&self, index: u16) -> usize {
        usize::from(index % self.buses) % self.units
    }

    fn is_working(&self, index: u16) -> bool {
        index.is_multiple_of(self.every)
    }

    fn traits(&self) -> Traits {
        let scalable = self.mode == TableMode::SCALABLE;
        let capability =
            Capability::new().with_sagaw(0b0100).with_mgaw(47).with_nd(6).with_fro(0x22).with_sslps(0b11);
        let extended = ExtendedCapability::new().with_qi(true).with_iro(0xF).with_pt(true).with_dt(true);
        let extended = extended.with_smts(scalable).with_ssts(scalable);
        Traits { capability, extended, host_address_bits: 46 }
    }

    fn scenario(&self) -> Scenario {
        let unit = || UnitScenario {
            traits: self.traits(),
            mode: self.mode,
            queue: OldQueue::Idle,
            ..UnitScenario::default()
        };
        Scenario {
            seed: 7,
            memory: vec![
                (Range::new(PhysicalAddress::new(0), CAPTURE.start), MemoryKind::Old),
                (CAPTURE, MemoryKind::Capture),
                (Range::new(CAPTURE.end, PhysicalAddress::new(0x8000_0000)), MemoryKind::Old),
                (Range::from(1 << 32..self.memory), MemoryKind::Old),
            ],
            units: (0..self.units).map(|_| unit()).collect(),
            domains: (0..self.functions).map(|index| self.domain(index)).collect(),
            functions: (0..self.functions).map(|index| self.function(index)).collect(),
            ..Scenario::default()
        }
    }

    fn domain(&self, index: u16) -> Domain {
        let mapping = |(at, iova): (u64, &u64)| Mapping {
            iova: IoAddress::new(*iova),
            memory: PhysicalAddress::new(0x1000_0000 + u64::from(index) * 0x3000 + at * 0x1000),
            level: Level::ONE,
            permission: Permission::ReadWrite,
        };
        let mappings = (0..).zip(&MAPPED).map(mapping).filter(|_| self.is_working(index)).collect();
        Domain { id: index + 1, mappings, ..Domain::default() }
    }

    fn function(&self, index: u16) -> Function {
        // Watching each device at each step would take most of the time.
        let works_at = if index == 0 { vec![MAPPED[0].into()] } else { Vec::new() };
        Function {
            unit: self.unit(index),
            source: self.source(index),
            attached: Attached::To(usize::from(index)),
            works_at,
            ..Function::default()
        }
    }

    /// Checks that each working function of a unit reaches what it reached, and each other one nothing; returns how
    /// many of the working functions are blocked.
    fn blocked(&self, machine: &Machine, unit: usize) -> usize {
        let working =
            (0..self.functions).filter(|index| self.is_working(*index) && self.unit(*index) == unit);
        working
            .filter(|index| MAPPED.iter().any(|iova| is_lost(machine, unit, self.source(*index), *iova)))
            .count()
    }
}

/// Whether an access reached memory and is blocked now; it must not reach anything else.
fn is_lost(machine: &Machine, unit: usize, source: u16, iova: u64) -> bool {
    let access = Access { source, pasid: None, iova: iova.into(), direction: Direction::Write };
    let (before, now) = (machine.answer_before(unit, access), machine.answer(unit, access));
    assert!(matches!(before, Answer::Memory(_)), "{access} was {before}");
    assert!(before == now || matches!(now, Answer::Blocked(_)), "{access} was {before}, is {now}");
    before != now
}

fn limits() -> Limits {
    Limits { deadline: DEADLINE, ..Limits::default() }
}

/// Takes over a machine of one unit, whose disk is the last function, in a quarter of 16 MiB.
fn take_small(size: Size) -> (Machine, Report, Vec<Danger>) {
    let machine = size.scenario().machine();
    let clock = machine.clock();
    let mut frames = machine.frames(QUARTER);
    let disk = SourceId(size.source(size.functions - 1));
    let layout = Layout { wanted: vec![disk], ..Layout::of(&machine, 0) };
    let mut taken = take_over_knowing(&layout, (&machine, 0), &mut frames, &clock, &limits()).unwrap();
    let report = taken.report().clone();
    let dangers = report.hazards.listed.iter().map(|hazard| hazard.danger).collect();
    assert_eq!(told(&machine), "");
    attach(&machine, &mut taken, &mut frames, disk);
    (machine, report, dangers)
}

/// Gives a device to a driver, and checks that it alone reaches the driver's buffer.
fn attach(machine: &Machine, taken: &mut Taken<'_>, frames: &mut OwnFrames, source: SourceId) {
    let memory = Range::from(CAPTURE.end.get() - 0x4000..CAPTURE.end.get());
    let requester = Requester { source: source.0, pasid: None };
    machine.guard(vec![model::Own { requester, memory }]);
    let device = taken.attach(source, &[], frames).expect("a domain for the disk");
    let old = machine.old_memory();
    let iova = taken.map(&device, memory, Permission::ReadWrite, &old, frames).expect("addresses");
    let access = requester.access(iova, Direction::Write);
    assert!(matches!(machine.answer_before(0, access), Answer::Blocked(_)));
    assert!(MAPPED.iter().all(|mapped| !Range::sized(iova, 0x4000).unwrap().contains((*mapped).into())));
}

fn small(functions: u16, every: u16, mode: TableMode) -> Size {
    Size { units: 1, functions, buses: 120, every, mode, memory: 1 << 34 }
}

#[test]
fn server_with_700_functions_on_120_buses_loses_none_in_legacy_mode() {
    let size = small(700, 7, TableMode::LEGACY);
    let (machine, report, dangers) = take_small(size);
    assert_eq!(dangers, []);
    assert_eq!((report.contexts_accepted(), report.ended(Outcome::Duplicated)), (700, (700, 700)));
    assert_eq!(size.blocked(&machine, 0), 0);
}

/// Context tables for all buses, and PASID directories and tables for all devices, would take more frames than there
/// are.
#[test]
fn server_with_hundreds_of_functions_loses_no_working_one_in_scalable_mode() {
    for functions in [300, 450, 600] {
        let size = small(functions, 5, TableMode::SCALABLE);
        let (machine, report, _) = take_small(size);
        assert_eq!(report.contexts_accepted(), u64::from(functions), "{functions} functions");
        assert_eq!(report.ended(Outcome::Blocked), (0, 0));
        assert_eq!(size.blocked(&machine, 0), 0, "{functions} functions");
    }
}

/// More functions work than frames suffice for: the disk, the last of all, is served all the same.
#[test]
fn server_whose_functions_all_work_keeps_its_disk() {
    for mode in [TableMode::LEGACY, TableMode::SCALABLE] {
        let size = small(900, 1, mode);
        let (machine, ..) = take_small(size);
        let disk = size.source(size.functions - 1);
        assert!(MAPPED.iter().all(|iova| !is_lost(&machine, 0, disk, *iova)));
    }
}

/// Eight sockets of five units each. One function in 21 works, as with one NIC whose virtual functions are mostly unused.
/// Each unit also has a function in pass-through, and one with a device-TLB; that of the third unit never answers.
#[test]
fn server_of_8_sockets_40_units_4096_functions_and_12_tib() {
    let size =
        Size { units: 40, functions: 4096, buses: 200, every: 21, mode: TableMode::LEGACY, memory: 12 << 40 };
    campaign(size, 2500);
}

#[test]
fn server_of_32_units_in_scalable_mode() {
    let size = Size {
        units: 32,
        functions: 4096,
        buses: 200,
        every: 41,
        mode: TableMode::SCALABLE,
        memory: 12 << 40,
    };
    campaign(size, 2500);
}

/// The function in pass-through of a unit.
fn passing(unit: usize) -> u16 {
    0xF000 | unit as u16
}

/// The function with a device-TLB of a unit.
fn caching(unit: usize) -> u16 {
    0xF100 | unit as u16
}

const DEAD: usize = 2;

fn campaign(size: Size, budget: usize) {
    let mut scenario = size.scenario();
    for unit in 0..size.units {
        let answer = if unit == DEAD { DeviceTlb::Silent } else { DeviceTlb::Answers };
        let attached = Attached::PassThrough(0xFFFF);
        let passing = Function { unit, source: passing(unit), attached, ..Function::default() };
        let attached = Attached::To(scenario.domains.len());
        let caching =
            Function { source: caching(unit), attached, device_tlb: Some(answer), ..passing.clone() };
        scenario.domains.push(Domain { id: 0xF000 | unit as u16, ..size.domain(0) });
        scenario.functions.extend([passing, caching]);
    }
    let machine = scenario.machine();
    let clock = machine.clock();
    let mut frames = machine.frames(budget);
    let taken = take_all(&size, &machine, &mut frames, &clock);
    for (unit, taken) in taken.iter().enumerate() {
        let report = taken.report();
        assert_eq!(report.ended(Outcome::Blocked), (0, 0), "unit {unit}: {:?}", report.hazards.listed);
        assert_eq!(size.blocked(&machine, unit), 0);
        let silent = report.hazards.listed.iter().filter(|hazard| hazard.danger == Danger::DeviceTlbSilent);
        assert_eq!(silent.count(), usize::from(unit == DEAD));
        assert!(!is_lost(&machine, unit, passing(unit), 11 << 40));
        assert_eq!(isolation::check(&machine, unit), Ok(()));
    }
    // All units share one map of 12 TiB.
    assert_eq!(taken.iter().map(|taken| taken.identity_maps().len()).sum::<usize>(), 1);
    println!("{} frames of {budget} are left", machine::Frames::available(&frames));
}

/// Takes over all units, as the capture kernel does: they share the frames, and the maps in place of pass-through.
fn take_all<'c>(size: &Size, machine: &Machine, frames: &mut OwnFrames, clock: &'c Ticks) -> Vec<Taken<'c>> {
    let mut all = Vec::new();
    let mut maps = Vec::new();
    for unit in 0..size.units {
        let layout = Layout { maps: maps.clone(), ..Layout::of(machine, unit) };
        let limits = limits().among(machine::Frames::available(frames), size.units - unit);
        let taken = take_over_knowing(&layout, (machine, unit), frames, clock, &limits).unwrap();
        maps.extend_from_slice(taken.identity_maps());
        all.push(taken);
    }
    all
}

/// Two units that have the first stage only, with pages of 1 GiB, of which only one says that it has them in the second
/// stage too. Both share one map, and that has the memory that is no RAM.
#[test]
fn server_units_of_one_format_map_the_same_memory() {
    let size =
        Size { units: 2, functions: 2, buses: 2, every: 1, mode: TableMode::SCALABLE, memory: 1 << 34 };
    let other = Range::from(1 << 36..(1 << 36) + (4 << 30));
    let mut scenario = size.scenario();
    scenario.memory.push((other, MemoryKind::Old));
    for (unit, sslps) in [0, 0b11].into_iter().enumerate() {
        let traits = &mut scenario.units[unit].traits;
        traits.capability = traits.capability.with_sslps(sslps).with_fs1gp(true);
        traits.extended = traits.extended.with_ssts(false).with_fsts(true);
        let attached = Attached::PassThrough(0xFFFF);
        scenario.functions.push(Function { unit, source: passing(unit), attached, ..Function::default() });
    }
    scenario.domains.iter_mut().for_each(|domain| domain.stage = model::scenario::Stage::First);
    let machine = scenario.machine();
    let clock = machine.clock();
    let mut frames = machine.frames(QUARTER);
    let mut maps = Vec::new();
    for unit in 0..2 {
        let mut layout =
            Layout { maps: maps.clone(), other_memory: vec![other], ..Layout::of(&machine, unit) };
        layout.memory.retain(|memory| *memory != other);
        let taken = take_over_knowing(&layout, (&machine, unit), &mut frames, &clock, &limits()).unwrap();
        maps.extend_from_slice(taken.identity_maps());
        assert!(!is_lost(&machine, unit, passing(unit), 1 << 36), "unit {unit}");
    }
    assert_eq!(maps.len(), 1);
}
