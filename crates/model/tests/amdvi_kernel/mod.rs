//! A machine with one unit of AMD-Vi, and what a kernel does with it, in numbers of the specification.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests stop at the first surprise")]

use amdvi::feature::ExtendedFeature;
use machine::{Frames, IoAddress, Level, OldMemory, Permission, PhysicalAddress, Range, Registers};
use model::amdvi::Scenario;
use model::amdvi::scenario::{Domain, Function, Mapping, UnitScenario};
use model::amdvi::walk::Traits;
use model::habits::{Chore, Habit, Habits};
use model::{Access, Direction, Machine, MemoryKind, OldRam, OwnFrames, UnitRegisters};

pub const DEVICE_TABLE: usize = 0x00;
pub const EVENT_LOG: usize = 0x10;
pub const CONTROL: usize = 0x18;
pub const CMD_HEAD: usize = 0x2000;
pub const CMD_TAIL: usize = 0x2008;
pub const EVENT_TAIL: usize = 0x2018;
pub const STATUS: usize = 0x2020;

/// CmdBufRun, EventLogRun, PprLogRun, GALogRun.
pub const RUNS: u64 = 0x198;
/// CmdBufEn, and EventLogEn with its interrupt.
const BUFFERS: u64 = 1 << 12 | 3 << 2;
/// What a dead Linux leaves.
const LINUX: u64 = 0x3_148F;

/// Function 00:02.0, its domain, and a read of it at 0x5678.
pub const DEVICE: u16 = 0x0010;
pub const DOMAIN: u64 = 7;
pub const READ: Access =
    Access { source: DEVICE, pasid: None, iova: IoAddress::new(0x5678), direction: Direction::Read };

/// A unit like that of QEMU before one function, which maps 0x5000 to 0x12_3000 for reading. Prompt habits.
pub fn scenario() -> Scenario {
    let mapping = Mapping {
        iova: 0x5000.into(),
        memory: 0x12_3000.into(),
        level: Level::ONE,
        permission: Permission::Read,
    };
    let prompt =
        Chore::AMDVI.into_iter().fold(Habits::default(), |habits, chore| habits.with(chore, Habit::After(0)));
    Scenario {
        seed: 1,
        memory: vec![
            (Range::from(0..0x100_0000), MemoryKind::Old),
            (Range::from(0x100_0000..0x110_0000), MemoryKind::Capture),
            (Range::from(0xFEB0_0000..0xFEC0_0000), MemoryKind::Mmio),
        ],
        units: vec![UnitScenario {
            traits: Traits {
                feature: ExtendedFeature::from_bits(0x29D3),
                host_address_bits: 46,
                ..Traits::default()
            },
            habits: prompt,
            ..UnitScenario::default()
        }],
        domains: vec![Domain { id: DOMAIN as u16, mappings: vec![mapping], ..Domain::default() }],
        functions: vec![Function { source: DEVICE, works_at: vec![0x5678.into()], ..Function::default() }],
        ..Scenario::default()
    }
}

/// The same machine with another unit.
pub fn with(change: impl FnOnce(&mut UnitScenario)) -> Scenario {
    let mut scenario = scenario();
    change(&mut scenario.units[0]);
    scenario
}

/// The same machine with a unit that evicts nothing on its own.
pub fn hoarding(mut scenario: Scenario) -> Scenario {
    let unit = &mut scenario.units[0];
    unit.habits = unit.habits.clone().hoarding();
    scenario
}

/// A kernel on a machine.
pub struct Kernel {
    pub registers: UnitRegisters,
    pub frames: OwnFrames,
    /// Its command buffer and event log, a page each.
    pub buffer: PhysicalAddress,
    pub events: PhysicalAddress,
    /// The tables of levels 2 and 1 that it made.
    level2: PhysicalAddress,
    level1: PhysicalAddress,
    commands: u64,
}

impl Kernel {
    /// A kernel that has the machine for itself: the device is silent.
    pub fn new(machine: &Machine) -> Self {
        machine.silence(DEVICE);
        Self::beside_devices(machine)
    }

    /// A kernel beside a device that goes on with its work.
    pub fn beside_devices(machine: &Machine) -> Self {
        let (registers, mut frames) = (machine.registers(0), machine.frames(64));
        let [buffer, events] = [(); 2].map(|()| frames.allocate().unwrap());
        for page in [buffer, events] {
            frames.publish(page, 0..512);
        }
        let none = PhysicalAddress::default();
        Self { registers, frames, buffer, events, level2: none, level1: none, commands: 0 }
    }

    fn wait(&self) {
        (0..20).for_each(|_| _ = self.registers.read64(STATUS));
    }

    /// Moves command buffer and event log, 256 entries each, to its own memory. Stops the other logs.
    pub fn take_buffers(&mut self) {
        self.registers.write64(CONTROL, LINUX & !BUFFERS);
        self.wait();
        assert_eq!(self.registers.read64(STATUS) & RUNS, 0);
        self.registers.write64(0x08, self.buffer.get() | 8 << 56);
        self.registers.write64(EVENT_LOG, self.events.get() | 8 << 56);
        self.registers.write64(STATUS, 0x6_8E67);
        self.registers.write64(CONTROL, LINUX);
        self.wait();
        assert_eq!(self.registers.read64(STATUS) & RUNS, 0x18);
    }

    /// Gives the unit a command, and waits for a while.
    pub fn command(&mut self, words: [u64; 2]) {
        let slot = self.commands as usize % 256;
        for (index, word) in words.into_iter().enumerate() {
            self.frames.store(self.buffer, slot * 2 + index, word);
        }
        self.frames.publish(self.buffer, slot * 2..slot * 2 + 2);
        self.commands += 1;
        self.registers.write64(CMD_TAIL, self.commands % 256 * 16);
        self.wait();
    }

    /// A device table of 256 entries that maps 0x5000 to 0x45_6000 for 00:02.0 in the old domain, for reading.
    pub fn own_tables(&mut self) -> u64 {
        self.own_tables_with(0)
    }

    /// The same with more bits in the second word of the entry.
    pub fn own_tables_with(&mut self, more: u64) -> u64 {
        self.tables(0x45_6000, more)
    }

    /// The same tables as the old kernel's: 0x5000 is mapped to 0x12_3000, and interrupts are remapped alike.
    pub fn tables_like_the_old_ones(&mut self, old: &OldRam) -> u64 {
        let at = (self.registers.read64(DEVICE_TABLE) & !0xFFF) + u64::from(DEVICE) * 32;
        let interrupts = old.read_u64((at + 16).into()).unwrap();
        let table = self.tables(0x12_3000, 0);
        self.frames.table_mut(table.into())[usize::from(DEVICE) * 4 + 2] = interrupts;
        self.frames.publish(table.into(), 0..512);
        table
    }

    fn tables(&mut self, memory: u64, more: u64) -> u64 {
        let device_table = self.frames.allocate_run(2).unwrap();
        let [level3, level2, level1] = [(); 3].map(|()| self.frames.allocate().unwrap());
        (self.level2, self.level1) = (level2, level1);
        let slot = usize::from(DEVICE) * 4;
        let entry = [level3.get() | 0x6000_0000_0000_0603, DOMAIN | more];
        self.frames.table_mut(device_table)[slot..slot + 2].copy_from_slice(&entry);
        self.frames.table_mut(level3)[0] = level2.get() | 0x6000_0000_0000_0401;
        self.frames.table_mut(level2)[0] = level1.get() | 0x6000_0000_0000_0201;
        self.frames.table_mut(level1)[5] = memory | 0x2000_0000_0000_0001;
        let second = device_table.saturating_add(0x1000);
        for table in [device_table, second, level3, level2, level1] {
            self.frames.publish(table, 0..512);
        }
        device_table.get()
    }

    /// Takes a frame for a table with these entries.
    pub fn table(&mut self, entries: &[(usize, u64)]) -> u64 {
        let frame = self.frames.allocate().unwrap();
        for &(index, entry) in entries {
            self.frames.table_mut(frame)[index] = entry;
        }
        self.frames.publish(frame, 0..512);
        frame.get()
    }

    /// Puts a device table in force that has an entry for 00:02.0 alone, and has the unit forget everything.
    pub fn enter(&mut self, entry: [u64; 4]) {
        let table = self.frames.allocate_run(2).unwrap();
        let slot = usize::from(DEVICE) * 4;
        self.frames.table_mut(table)[slot..slot + 4].copy_from_slice(&entry);
        for page in [table, table.saturating_add(0x1000)] {
            self.frames.publish(page, 0..512);
        }
        self.registers.write64(DEVICE_TABLE, table.get() | 1);
        self.command([8 << 60, 0]);
    }

    /// Maps another page by its lowest table, for reading.
    pub fn map(&mut self, index: usize, memory: u64) {
        self.frames.store(self.level1, index, memory | 0x2000_0000_0000_0001);
        self.frames.publish(self.level1, index..index + 1);
    }

    /// Puts another lowest table in place of the one that there is, which maps 0x5000 elsewhere.
    pub fn swap_lowest_table(&mut self, memory: u64) {
        self.level1 = self.frames.allocate().unwrap();
        self.frames.publish(self.level1, 0..512);
        self.map(5, memory);
        self.frames.store(self.level2, 0, self.level1.get() | 0x6000_0000_0000_0201);
        self.frames.publish(self.level2, 0..1);
    }
}
