//! A remapping unit: registers that behave as on hardware, caches, a command buffer, logs.
//!
//! Time passes in steps ([`AmdViUnit::advance`]); a command takes effect at once only if chance or the unit's [`Habits`] say
//! so. The unit executes what software must not do but can, and reports a misuse.

mod caches;
mod commands;
mod control;
mod device_tlb;
mod logs;
mod lookup;
mod translate;

use super::scenario::{Lock, UnitScenario, Writes};
use super::walk::{Bases, Traits, Walker};
use crate::habits::{Chore, Countdown, Habits};
use crate::memory::Memory;
use crate::trace::Event;
use crate::unit::Width;
use amdvi::command::COMMAND_BYTES;
use amdvi::control::{BUFFER_OFFSET, BufferBase, Control, DeviceTableBase, ExclusionBase, ExclusionLimit};
use amdvi::registers::{
    ALL, BYTES, COMMAND_BUFFER, COMMAND_HEAD, COMMAND_TAIL, CONTROL, DEVICE_TABLE, EVENT_HEAD, EVENT_LOG,
    EVENT_TAIL, EXCLUSION_BASE, EXCLUSION_LIMIT, EXTENDED_FEATURE, EXTENDED_FEATURE_2, GA_HEAD, GA_LOG,
    GA_LOG_TAIL_ADDRESS, GA_TAIL, PPR_HEAD, PPR_LOG, PPR_TAIL, STATUS, device_table_segment,
};
use caches::Caches;
use commands::Commands;
use control::{Activity, Runs};
use device_tlb::DeviceTlbs;
use fastrand::Rng;
use machine::Range;
use std::collections::{BTreeMap, BTreeSet};

/// A remapping unit.
#[derive(Debug)]
pub(crate) struct AmdViUnit {
    traits: Traits,
    /// The values of registers, except for those that are computed.
    words: Vec<u64>,
    /// What runs of what the control register turns on.
    runs: Runs,
    commands: Commands,
    caches: Caches,
    device_tlbs: DeviceTlbs,
    /// The devices behind the unit.
    devices: BTreeSet<u16>,
    /// Devices whose first page fault was reported, of those that report no more (SE).
    reported: BTreeSet<u16>,
    lock: Lock,
    writes: Writes,
    habits: Habits,
    /// How often each register was read since the panic.
    reads: BTreeMap<usize, u64>,
    /// How often the capture kernel read or wrote registers.
    accesses: u64,
    /// Whether others wrote registers: then the state of the command buffer is no fault of the capture kernel's.
    was_intruded: bool,
    rng: Rng,
    events: Vec<Event>,
}

impl AmdViUnit {
    /// A unit after reset, with locks open.
    pub(crate) fn new(description: &UnitScenario, rng: Rng) -> Self {
        let mut unit = Self {
            traits: description.traits,
            words: vec![0; BYTES / 8],
            runs: Runs::default(),
            commands: Commands::default(),
            caches: Caches::default(),
            device_tlbs: DeviceTlbs::default(),
            devices: BTreeSet::new(),
            reported: BTreeSet::new(),
            lock: Lock::Open,
            writes: description.writes,
            habits: Habits::default(),
            reads: BTreeMap::new(),
            accesses: 0,
            was_intruded: false,
            rng,
            events: Vec::new(),
        };
        unit.set(EXTENDED_FEATURE.offset, description.traits.feature.into_bits());
        unit.set(EXTENDED_FEATURE_2.offset, description.traits.feature2.into_bits());
        unit
    }

    pub(crate) fn traits(&self) -> &Traits {
        &self.traits
    }

    /// Whether translation is on.
    pub(crate) fn translates(&self) -> bool {
        self.control().enabled()
    }

    /// The devices behind this unit.
    pub(crate) fn devices(&self) -> impl Iterator<Item = u16> + '_ {
        self.devices.iter().copied()
    }

    /// Adds a device behind this unit.
    pub(crate) fn add_device(&mut self, source: u16) {
        self.devices.insert(source);
    }

    /// Locks registers, as secure nested paging does.
    pub(crate) fn lock(&mut self, lock: Lock) {
        self.lock = lock;
    }

    /// The registers in force that decide how the unit translates.
    pub(crate) fn bases(&self) -> Bases {
        let register = |segment| device_table_segment(segment).unwrap_or(DEVICE_TABLE).offset;
        let segments = std::array::from_fn(|segment| DeviceTableBase::from_bits(self.get(register(segment))));
        let (range, excluded) = self.exclusion();
        Bases { control: self.control(), segments, exclusion: range, excluded }
    }

    /// The memory of the device table, the command buffer and the event log, whose entries are as long as commands.
    pub(crate) fn reusable(&self) -> Vec<Range<machine::PhysicalAddress>> {
        let Bases { control, segments, .. } = self.bases();
        let tables = segments.into_iter().take(control.segments()).map(DeviceTableBase::table);
        let buffers = [COMMAND_BUFFER, EVENT_LOG].map(|register| {
            let base = BufferBase::from_bits(self.get(register.offset));
            Range::sized(base.address(), (base.entries()? * COMMAND_BYTES) as u64)
        });
        tables.chain(buffers.into_iter().flatten()).collect()
    }

    /// A view of the tables in force.
    pub(crate) fn walker<'a>(&'a self, memory: &'a Memory) -> Walker<'a> {
        self.walker_at(self.bases(), memory)
    }

    /// A view of tables elsewhere.
    pub(crate) fn walker_at<'a>(&'a self, bases: Bases, memory: &'a Memory) -> Walker<'a> {
        Walker { memory, traits: &self.traits, bases, devices: &self.devices }
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Marks the old kernel as dead: from now on the unit has these habits, and its commands are checked.
    pub(crate) fn die_with(&mut self, habits: Habits) {
        self.habits = habits;
        self.events.clear();
    }

    /// Lets one step's time pass.
    pub(crate) fn advance(&mut self, memory: &mut Memory) {
        self.advance_runs();
        self.advance_commands(memory);
        self.log_others_work(memory);
        if self.habits.evicts(&mut self.rng) {
            self.caches.evict(&mut self.rng);
        }
    }

    /// Lets others write registers just before an access of the capture kernel.
    pub(crate) fn before_access(&mut self) {
        for intrusion in self.habits.intrusions(self.accesses) {
            self.was_intruded = true;
            self.write32(intrusion.register, intrusion.value);
        }
        self.accesses += 1;
    }

    /// Reads a register, or half of it, as the capture kernel sees it, which may be junk.
    pub(crate) fn look(&mut self, offset: usize, width: Width) -> u64 {
        let whole = self.read(offset & !7);
        let value = match width {
            Width::Bits64 => whole,
            Width::Bits32 => whole >> (offset % 8 * 8) & 0xFFFF_FFFF,
        };
        let reads = self.reads.entry(offset).or_default();
        *reads += 1;
        self.habits.seen(offset, *reads - 1, value)
    }

    /// Whether the unit loses the capture kernel's writes to a register.
    pub(crate) fn is_deaf_to(&self, offset: usize) -> bool {
        self.habits.loses(offset)
    }

    /// Whether the unit takes writes of 64 bits in two halves.
    pub(crate) fn takes_halves(&self) -> bool {
        self.writes == Writes::Halves
    }

    /// Reads a register.
    pub(crate) fn read(&self, offset: usize) -> u64 {
        if offset == STATUS.offset { self.status().into_bits() } else { self.get(offset) }
    }

    /// Writes half a register; the other half stays.
    pub(crate) fn write32(&mut self, offset: usize, value: u32) {
        let register = offset & !7;
        let shift = offset % 8 * 8;
        // Ones clear bits of the status: the other half must not be written back to it.
        let kept = if register == STATUS.offset { 0 } else { self.read(register) };
        self.write64(register, kept & !(0xFFFF_FFFF << shift) | u64::from(value) << shift);
    }

    /// Writes a register.
    pub(crate) fn write64(&mut self, offset: usize, value: u64) {
        match offset {
            _ if self.is_locked(offset) => (),
            _ if offset == CONTROL.offset => self.command(Control::from_bits(value)),
            _ if offset == STATUS.offset => self.clear_status(value),
            _ if offset == COMMAND_BUFFER.offset => self.move_ring(Activity::Commands, value),
            _ if offset == EVENT_LOG.offset => self.move_ring(Activity::Events, value),
            _ if offset == PPR_LOG.offset => self.move_ring(Activity::Pages, value),
            _ if offset == GA_LOG.offset => self.move_ring(Activity::Guests, value),
            _ if is_device_table(offset) => self.take_device_table(offset, value),
            _ if [EXTENDED_FEATURE.offset, EXTENDED_FEATURE_2.offset].contains(&offset) => {
                self.complain("a read-only register was written");
            }
            _ => self.point(offset, value),
        }
    }

    /// Writes a head or a tail, or a register that just holds what is written.
    fn point(&mut self, offset: usize, value: u64) {
        let positions = [
            (COMMAND_HEAD, Some(Activity::Commands)),
            (COMMAND_TAIL, None),
            (EVENT_HEAD, None),
            (EVENT_TAIL, Some(Activity::Events)),
            (PPR_HEAD, None),
            (PPR_TAIL, Some(Activity::Pages)),
            (GA_HEAD, None),
            (GA_TAIL, Some(Activity::Guests)),
        ];
        let position = positions.into_iter().find(|(register, _)| register.offset == offset);
        let Some((_, owner)) = position else { return self.set(offset, value) };
        if owner.is_some_and(|activity| self.runs.is_running(activity)) && !self.was_intruded {
            self.complain("the unit's own end of a buffer was written while it ran");
        }
        self.set(offset, value & (BUFFER_OFFSET | 8));
    }

    /// A new device table, or segment of one, is in force at once. What was cached stays.
    fn take_device_table(&mut self, offset: usize, value: u64) {
        self.set(offset, value);
        let address = DeviceTableBase::from_bits(value).table().start;
        self.events.push(Event::DeviceTableTaken { address });
    }

    /// Whether secure nested paging keeps the register from changing.
    fn is_locked(&self, offset: usize) -> bool {
        let bases = [
            COMMAND_BUFFER,
            EVENT_LOG,
            PPR_LOG,
            GA_LOG,
            GA_LOG_TAIL_ADDRESS,
            EXCLUSION_BASE,
            EXCLUSION_LIMIT,
        ];
        let is_base = is_device_table(offset) || bases.iter().any(|register| register.offset == offset);
        self.lock == Lock::Locked && is_base
    }

    /// The range in the exclusion registers; where registers are locked, completion waits store into it.
    fn exclusion_registers(&self) -> (ExclusionBase, Range<machine::PhysicalAddress>) {
        let base = ExclusionBase::from_bits(self.get(EXCLUSION_BASE.offset));
        let limit = ExclusionLimit::from_bits(self.get(EXCLUSION_LIMIT.offset));
        (base, base.with_enabled(true).range(limit))
    }

    fn control(&self) -> Control {
        Control::from_bits(self.get(CONTROL.offset))
    }

    fn countdown(&mut self, chore: Chore) -> Countdown {
        self.habits.countdown(chore, &mut self.rng)
    }

    fn complain(&mut self, what: &'static str) {
        self.events.push(Event::Misused { what });
    }

    /// The value of the register at `offset`; of registers beyond those that are modelled, zero.
    fn get(&self, offset: usize) -> u64 {
        self.words.get(offset / 8).copied().unwrap_or(0)
    }

    fn set(&mut self, offset: usize, value: u64) {
        if let Some(word) = self.words.get_mut(offset / 8) {
            *word = value;
        }
    }
}

/// The specification's name of the register at `offset`.
pub(crate) fn name(offset: usize) -> &'static str {
    let segments = (1..8).filter_map(device_table_segment);
    let mut known = ALL.into_iter().chain(segments);
    known.find(|register| register.offset == offset & !7).map_or("(other)", |register| register.name)
}

fn is_device_table(offset: usize) -> bool {
    let mut segments = (1..8).filter_map(device_table_segment);
    offset == DEVICE_TABLE.offset || segments.any(|segment| segment.offset == offset)
}
