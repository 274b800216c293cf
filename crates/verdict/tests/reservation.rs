//! The reservation that a host demands suffices: with exactly as many frames as [`Remapping`] says, a takeover of all
//! units blocks nothing that worked, and the disk gets its buffers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests stop at the first surprise")]

use handoff::{Mode, Remapping, tables_above};
use machine::{IoAddress, Level, Permission, PhysicalAddress, Range, SourceId};
use model::scenario::{Attached, Domain, Function, Mapping, OldQueue, Process, Stage, UnitScenario};
use model::walk::Traits;
use model::{Machine, MemoryKind, OwnFrames, Scenario, Ticks};
use proptest::prelude::*;
use takeover::{Limits, Outcome};
use verdict::{DEADLINE, Layout, Taken, continuity, isolation, take_over_knowing};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::TableMode;
use vtd::paging::AddressWidth;

/// The capture kernel's memory, which starts and ends within a page of 2 MiB.
const CAPTURE: Range<PhysicalAddress> =
    Range::new(PhysicalAddress::new(0x2000_3000), PhysicalAddress::new(0x2FFF_D000));

/// How the old kernel used a machine.
#[derive(Clone, Debug)]
struct Used {
    numbers: Remapping,
    /// Pages that each working function maps.
    pages: u64,
    /// Bytes from one of these pages to the next.
    stride: u64,
    /// Whether all functions are behind the last unit.
    crowded: bool,
    /// Whether each unit also has a function in pass-through.
    passing: bool,
    /// How many of the functions in use have no driver: firmware maps their reserved memory.
    reserved: u64,
    /// What PCI claims above memory: first and last addresses.
    windows: Vec<(u64, u64)>,
}

/// Windows above all memory, some of them neighbours.
fn windows() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0..30_u64, 1..9_u64), 0..4).prop_map(|windows| {
        let mut start = 8 << 40;
        let place = |(gap, len): (u64, u64)| {
            start += gap * gap * (7 << 30);
            let window = (start, start + len * len * (3 << 28) - 1);
            start = window.1 + 1;
            window
        };
        windows.into_iter().map(place).collect()
    })
}

fn used() -> impl Strategy<Value = Used> {
    let sizes = (1..5_u64, 1..12_u64, 1..90_u64, 0..=100_u64);
    let others = (0..=100_u64, 0..40_u64, windows());
    let memory = prop::sample::select(vec![
        (1 << 12, CAPTURE.end.get() + 0x3000),
        (2 << 20, 16 << 30),
        (1 << 30, 4 << 40),
    ]);
    let mode = prop_oneof![Just(Mode::Legacy), Just(Mode::Scalable)];
    let stride = prop::sample::select(vec![0x1000, 0x8_0000, 0x20_0000, 0x60_0000, 0x4000_0000]);
    let pages = prop_oneof![1..9_u64, 1..60_u64];
    (sizes, memory, mode, (pages, stride), any::<[bool; 2]>(), others).prop_map(
        |(
            (units, buses, functions, share),
            (largest_page, memory_end),
            mode,
            (pages, stride),
            flags,
            others,
        )| {
            let (reserved, processes, windows) = others;
            let domains = (functions * share).div_ceil(100);
            let processes = if mode == Mode::Scalable && domains > 0 { processes } else { 0 };
            let buses = buses.min(functions);
            let window_tables = tables_above(&windows, largest_page);
            let numbers = Remapping {
                functions,
                domains,
                processes,
                buses,
                units,
                device_tables: 0,
                kinds: 1,
                memory_end,
                window_tables,
                largest_page,
                mode,
            };
            let [crowded, passing] = flags;
            Used { numbers, pages, stride, crowded, passing, reserved: domains * reserved / 200, windows }
        },
    )
}

/// Where a process has its stack.
const PROCESS: u64 = 0x7F00_1234_5000;

/// Reserved memory of 16 MiB, mapped to itself in pages of 4 KiB.
fn reserved_memory() -> Vec<Mapping> {
    let page = |page: u64| Mapping {
        iova: IoAddress::new(0x1000_0000 + page * 0x1000),
        memory: PhysicalAddress::new(0x1000_0000 + page * 0x1000),
        level: Level::ONE,
        permission: Permission::ReadWrite,
    };
    (0..4096).map(page).collect()
}

impl Used {
    fn mode(&self) -> TableMode {
        if self.numbers.mode == Mode::Legacy { TableMode::LEGACY } else { TableMode::SCALABLE }
    }

    fn traits(&self) -> Traits {
        let scalable = self.numbers.mode == Mode::Scalable;
        let sslps = match self.numbers.largest_page {
            0x4000_0000 => 0b11,
            0x20_0000 => 0b01,
            _ => 0,
        };
        let capability =
            Capability::new().with_sagaw(0b0100).with_mgaw(47).with_nd(6).with_fro(0x22).with_sslps(sslps);
        let extended = ExtendedCapability::new().with_qi(true).with_iro(0xF).with_pt(true);
        let extended =
            extended.with_smts(scalable).with_ssts(scalable).with_fsts(scalable).with_pasid(scalable);
        Traits { capability, extended, host_address_bits: 46 }
    }

    /// The unit of a function: that of its bus, or the last one.
    fn unit(&self, index: u64) -> usize {
        let units = self.numbers.units;
        (if self.crowded { units - 1 } else { index % self.numbers.buses % units }) as usize
    }

    fn source(&self, index: u64) -> u16 {
        ((index % self.numbers.buses) << 8 | (index / self.numbers.buses)) as u16
    }

    fn disk(&self) -> u64 {
        self.numbers.domains.saturating_sub(1)
    }

    fn domain(&self, index: u64) -> Domain {
        let working = index < self.numbers.domains;
        if index < self.reserved {
            return Domain { id: index as u16 + 1, mappings: reserved_memory(), ..Domain::default() };
        }
        let mapping = |page: u64| Mapping {
            iova: IoAddress::new((1 << 39) - 0x1000 - page * self.stride),
            memory: PhysicalAddress::new(0x1000_0000 + (index * 64 + page) * 0x3000),
            level: Level::ONE,
            permission: Permission::ReadWrite,
        };
        let mappings = (0..self.pages).filter(|_| working).map(mapping).collect();
        Domain { id: index as u16 + 1, mappings, width: AddressWidth::BITS_48, ..Domain::default() }
    }

    fn function(&self, index: u64) -> Function {
        let domain = self.domain(index);
        Function {
            unit: self.unit(index),
            source: self.source(index),
            attached: Attached::To(index as usize),
            works_at: domain.mappings.iter().map(|mapping| mapping.iova).take(3).collect(),
            processes: self.processes_of(index).collect(),
            ..Function::default()
        }
    }

    /// The processes of a function: they are spread over those in use, and their PASIDs over all that there are.
    fn processes_of(&self, index: u64) -> impl Iterator<Item = Process> {
        let Remapping { functions, domains, processes, .. } = self.numbers;
        let all = (0..processes).filter(move |process| index < domains && process % domains == index);
        all.map(move |process| Process {
            pasid: 64 + process as u32 * 700,
            attached: Attached::To((functions + process) as usize),
            works_at: vec![PROCESS.into()],
        })
    }

    /// What a process maps: its stack, its heap, its libraries, and its code.
    fn process(&self, process: u64) -> Domain {
        let places = [PROCESS, 0x5555_0000_0000, 0x7FFF_0000_0000, 0x40_0000];
        let mappings = places.into_iter().map(|iova| Mapping {
            iova: iova.into(),
            memory: PhysicalAddress::new(0x1800_0000 + process * 0x1000),
            level: Level::ONE,
            permission: Permission::ReadWrite,
        });
        let id = (self.numbers.functions + process) as u16 + 1;
        Domain { id, stage: Stage::First, mappings: mappings.collect(), ..Domain::default() }
    }

    fn scenario(&self) -> Scenario {
        let unit = UnitScenario {
            traits: self.traits(),
            mode: self.mode(),
            queue: OldQueue::Idle,
            ..UnitScenario::default()
        };
        let numbers = &self.numbers;
        let passing = (0..numbers.units as u16).filter(|_| self.passing).map(|unit| Function {
            unit: unit.into(),
            source: 0xF000 | unit,
            attached: Attached::PassThrough(0xFFFF),
            works_at: vec![0x1000_0000.into(), (numbers.memory_end - 0x1000).into()],
            ..Function::default()
        });
        let memory = [
            (Range::new(PhysicalAddress::new(0), CAPTURE.start), MemoryKind::Old),
            (CAPTURE, MemoryKind::Capture),
            (Range::from(CAPTURE.end.get()..numbers.memory_end.min(0x8000_0000)), MemoryKind::Old),
            (Range::from(1 << 32..numbers.memory_end.max(1 << 32)), MemoryKind::Old),
        ];
        Scenario {
            seed: 7,
            memory: memory.into_iter().filter(|(range, _)| !range.is_empty()).collect(),
            units: vec![unit; numbers.units as usize],
            domains: (0..numbers.functions)
                .map(|index| self.domain(index))
                .chain((0..numbers.processes).map(|process| self.process(process)))
                .collect(),
            functions: (0..numbers.functions).map(|index| self.function(index)).chain(passing).collect(),
            ..Scenario::default()
        }
    }

    /// Takes over all units, as the capture kernel does.
    fn take_all<'c>(&self, machine: &Machine, frames: &mut OwnFrames, clock: &'c Ticks) -> Vec<Taken<'c>> {
        let (mut all, mut maps) = (Vec::new(), Vec::new());
        let units = self.numbers.units as usize;
        for unit in 0..units {
            let wanted = vec![SourceId(self.source(self.disk()))];
            let mut layout = Layout { maps: maps.clone(), wanted, ..Layout::of(machine, unit) };
            layout.kept_free.extend(self.windows.iter().map(|window| Range::from(window.0..window.1 + 1)));
            let limits = Limits { deadline: DEADLINE, ..Limits::default() };
            let limits = limits.among(machine::Frames::available(frames), units - unit);
            let taken = take_over_knowing(&layout, (machine, unit), frames, clock, &limits).unwrap();
            maps.extend_from_slice(taken.identity_maps());
            all.push(taken);
        }
        all
    }
}

/// Takes over a machine with the frames that the host demands.
fn check(used: &Used) -> Result<(), TestCaseError> {
    let machine = used.scenario().machine();
    let clock = machine.clock();
    let mut frames = machine.frames(used.numbers.frames() as usize);
    let mut taken = used.take_all(&machine, &mut frames, &clock);
    for (unit, taken) in taken.iter().enumerate() {
        let report = taken.report();
        let blocked = report.ended(Outcome::Blocked);
        prop_assert_eq!(blocked, (0, 0), "unit {}: {:?}", unit, report.hazards.listed);
        prop_assert_eq!(continuity::check(&machine, unit), Ok(()));
        prop_assert_eq!(isolation::check(&machine, unit), Ok(()));
    }
    let (disk, left) = (used.disk(), machine::Frames::available(&frames));
    let unit = &mut taken[used.unit(disk)];
    let device = unit.attach(SourceId(used.source(disk)), &[], &mut frames).expect("a domain");
    let memory = Range::from(CAPTURE.end.get() - (4 << 20)..CAPTURE.end.get());
    let old = machine.old_memory();
    let mapped = unit.map(&device, memory, Permission::ReadWrite, &old, &mut frames);
    prop_assert!(mapped.is_ok(), "{left} frames were left");
    Ok(())
}

/// Network cards and disks map buffers all over their addresses: many more tables than are counted for them.
#[test]
fn functions_that_map_much_lose_nothing() {
    for (domains, mode) in [(60, Mode::Legacy), (60, Mode::Scalable)] {
        let (memory_end, largest_page) = (4 << 40, 1 << 30);
        let (processes, window_tables) = (0, 0);
        let numbers = Remapping {
            functions: domains,
            domains,
            processes,
            buses: 6,
            units: 2,
            device_tables: 0,
            kinds: 1,
            memory_end,
            window_tables,
            largest_page,
            mode,
        };
        for stride in [0x20_0000] {
            for crowded in [false, true] {
                let (reserved, windows) = (0, Vec::new());
                let used = Used { numbers, pages: 60, stride, crowded, passing: true, reserved, windows };
                check(&used).map_err(|error| format!("{used:?}: {error}")).unwrap();
            }
        }
    }
}

/// A machine with much reported above its memory: its identity map needs more tables than its domains are counted with.
fn with_windows(
    (functions, domains): (u64, u64),
    (pages, reserved): (u64, u64),
    windows: &[(u64, u64)],
) -> Used {
    let numbers = Remapping {
        functions,
        domains,
        processes: 0,
        buses: 1,
        units: 1,
        device_tables: 0,
        kinds: 1,
        memory_end: 16 << 30,
        window_tables: tables_above(windows, 2 << 20),
        largest_page: 2 << 20,
        mode: Mode::Legacy,
    };
    let windows = windows.to_vec();
    Used { numbers, pages, stride: 1 << 30, crowded: false, passing: true, reserved, windows }
}

/// A disk's domain with more tables than are counted for it does not take those that a device in pass-through needs.
#[test]
fn what_maps_in_place_of_pass_through_is_not_given_to_others() {
    let windows = [
        (8_863_738_757_120, 8_864_544_063_487),
        (15_185_662_181_376, 15_205_794_840_575),
        (18_520_435_851_264, 18_549_426_880_511),
    ];
    check(&with_windows((1, 1), (12, 0), &windows)).unwrap();
    let windows = [(10_720_238_370_816, 10_771_777_978_367), (16_664_473_108_480, 16_684_605_767_679)];
    check(&with_windows((46, 40), (49, 3), &windows)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(8)) })]

    #[test]
    fn the_frames_that_a_host_demands_suffice(used in used()) {
        check(&used)?;
    }
}
