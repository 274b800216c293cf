//! The old kernel, as far as remapping is concerned: it writes its tables and brings the unit up.

mod contexts;

use crate::habits::Habits;
use crate::memory::{Kind, Memory};
use crate::scenario::{Domain, Mapping, OldQueue, Scenario};
use crate::unit::Unit;
use fastrand::Rng;
use machine::{PAGE_SIZE, Range};
use std::collections::{BTreeMap, BTreeSet};
use vtd::control::{GlobalCommand, GlobalStatus, Granularity, RootTableAddress, TableMode};
use vtd::paging::Level;
use vtd::queue::{ContextCacheInvalidation, Descriptor, QueueAddress, Wait};
use vtd::registers::{GCMD, GSTS, IQA, IQT, RTADDR};
use vtd::second_stage::SecondStageEntry;

/// The tables of the old kernel, for whoever wants to damage them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OldTables {
    /// The root table.
    pub(crate) root: u64,
    /// The context tables, by the word of the root table that names each.
    pub(crate) contexts: BTreeMap<u64, u64>,
    /// PASID directories and tables.
    pub(crate) pasids: Vec<u64>,
    /// The page tables, each with its level.
    pub(crate) paging: Vec<(u64, Level)>,
    /// The capture kernel's memory, a register block and a hole: addresses that no table should name.
    pub(crate) forbidden: Vec<u64>,
}

/// The old kernel at work.
pub(crate) struct OldKernel<'a> {
    scenario: &'a Scenario,
    pub(crate) memory: Memory,
    pub(crate) tables: OldTables,
    rng: Rng,
    used: BTreeSet<u64>,
}

impl<'a> OldKernel<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let memory = Memory::new(scenario.memory.clone());
        let memory = if scenario.traits.capability.rwbf() { memory.with_write_buffer() } else { memory };
        let rng = Rng::with_seed(scenario.seed ^ 0x01D);
        Self { scenario, memory, tables: OldTables::default(), rng, used: [0].into() }
    }

    /// A page of old memory that nothing uses yet.
    fn page(&mut self) -> u64 {
        let ranges: Vec<Range> = self.memory.ranges(Kind::Old).collect();
        loop {
            let range = ranges[self.rng.usize(..ranges.len())];
            let page = range.start + self.rng.u64(..range.len() / PAGE_SIZE) * PAGE_SIZE;
            if self.used.insert(page) {
                return page;
            }
        }
    }

    pub(crate) fn write_tables(&mut self) {
        self.tables.root = self.page();
        let tops: Vec<u64> = self.scenario.domains.iter().map(|domain| self.write_domain(domain)).collect();
        self.link_shared_tables(&tops);
        for function in &self.scenario.functions {
            match self.scenario.mode {
                TableMode::SCALABLE => self.write_scalable_context(function, &tops),
                _ => self.write_legacy_context(function, &tops),
            }
        }
        let forbidden = [Kind::Capture, Kind::Mmio].into_iter().flat_map(|kind| self.memory.ranges(kind));
        let last = self.scenario.memory.iter().map(|(range, _)| range.end).max().unwrap_or(0);
        self.tables.forbidden = forbidden.map(|range| range.start).chain([last + PAGE_SIZE]).collect();
    }

    /// Writes a domain's tables and returns its top table.
    fn write_domain(&mut self, domain: &Domain) -> u64 {
        let top = top(domain);
        let table = self.paging_table(top);
        for mapping in &domain.mappings {
            self.map(table, top, mapping);
        }
        table
    }

    fn paging_table(&mut self, level: Level) -> u64 {
        let page = self.page();
        self.tables.paging.push((page, level));
        page
    }

    fn map(&mut self, mut table: u64, mut level: Level, mapping: &Mapping) {
        while let Some(below) = level.below().filter(|_| level > mapping.level) {
            let at = table + level.index(mapping.iova) as u64 * 8;
            let entry = SecondStageEntry(self.memory.read(at).unwrap_or(0));
            assert!(!entry.present() || !entry.is_leaf(level), "mappings overlap at {:#x}", mapping.iova);
            table = if entry.present() { entry.address() } else { self.paging_table(below) };
            let entry = SecondStageEntry::table(table).0 | self.ignored_bits();
            self.memory.write(at, entry);
            level = below;
        }
        let leaf = SecondStageEntry::leaf(level, mapping.memory, mapping.permission).0 | self.ignored_bits();
        self.memory.write(table + level.index(mapping.iova) as u64 * 8, leaf);
    }

    /// Bits 61:52 of a paging entry mean nothing to hardware (9.8).
    fn ignored_bits(&mut self) -> u64 {
        self.rng.u64(..1 << 10) << 52
    }

    /// Links tables of other domains into top tables wherever those have nothing.
    fn link_shared_tables(&mut self, tops: &[u64]) {
        for (domain, &table) in self.scenario.domains.iter().zip(tops) {
            let Some(other) = domain.shares_with.and_then(|other| tops.get(other)) else { continue };
            for at in (0..PAGE_SIZE).step_by(8) {
                let (mine, theirs) =
                    (self.memory.read(table + at).unwrap_or(0), self.memory.read(other + at).unwrap_or(0));
                if !SecondStageEntry(mine).present() {
                    self.memory.write(table + at, theirs);
                }
            }
        }
    }

    /// Turns the unit on as a kernel does: root table, queue, interrupt remapping, translation; then uses the queue.
    pub(crate) fn bring_up(&mut self) -> Unit {
        let rng = Rng::with_seed(self.scenario.seed ^ 0x0717);
        let mut unit = Unit::new(self.scenario.traits, Habits::default(), rng);
        let root = RootTableAddress::new()
            .with_frame(self.tables.root >> 12)
            .with_mode(self.scenario.mode)
            .into_bits();
        write64(&mut unit, RTADDR.offset, root);
        self.command(&mut unit, |command| command.with_srtp(true));
        self.start_queue(&mut unit);
        self.command(&mut unit, |command| command.with_sirtp(true));
        self.command(&mut unit, |command| command.with_ire(true));
        self.command(&mut unit, |command| command.with_te(true));
        unit
    }

    fn command(&mut self, unit: &mut Unit, change: impl FnOnce(GlobalCommand) -> GlobalCommand) {
        let keep = GlobalStatus::from_bits(unit.read32(GSTS.offset)).keep();
        unit.write32(GCMD.offset, change(keep).into_bits());
        self.let_finish(unit);
    }

    fn let_finish(&mut self, unit: &mut Unit) {
        for _ in 0..100 {
            unit.advance(&mut self.memory);
        }
    }

    /// Turns the queue on, lets it do some work, and leaves it as the scenario says.
    fn start_queue(&mut self, unit: &mut Unit) {
        if self.scenario.queue == OldQueue::Off {
            return;
        }
        let (queue, status) = (self.page(), self.page());
        let wide = self.scenario.mode == TableMode::SCALABLE;
        let address = QueueAddress::new().with_frame(queue >> 12).with_wide(wide);
        let step = address.descriptor_bytes();
        write64(unit, IQA.offset, address.into_bits());
        self.command(unit, |command| command.with_qie(true));
        let done = self.rng.u64(0..20);
        let forget = ContextCacheInvalidation::new().with_granularity(Granularity::GLOBAL);
        self.submit(address, 0..done, forget.into());
        write64(unit, IQT.offset, done * step);
        self.let_finish(unit);
        let left = match self.scenario.queue {
            OldQueue::Off | OldQueue::Idle => return,
            OldQueue::Busy(waits) => u64::from(waits),
            OldQueue::Stopped => 1,
        };
        let wait = Wait::new().with_write(true).with_data(2).reporting_to(status);
        let stopper = Descriptor([u64::MAX, 0, 0, 0]);
        let last = if self.scenario.queue == OldQueue::Stopped { stopper } else { wait };
        self.submit(address, done..done + left, last);
        write64(unit, IQT.offset, (done + left) * step);
    }

    fn submit(&mut self, queue: QueueAddress, slots: std::ops::Range<u64>, descriptor: Descriptor) {
        let step = queue.descriptor_bytes();
        for slot in slots {
            let words = (queue.address() + slot * step..).step_by(8).zip(descriptor.0);
            words.take(step as usize / 8).for_each(|(at, word)| self.memory.write(at, word));
        }
    }
}

#[expect(clippy::expect_used, reason = "scenarios have widths of 39, 48 and 57 bits")]
fn top(domain: &Domain) -> Level {
    domain.width.top().expect("a width that has levels")
}

fn write64(unit: &mut Unit, offset: usize, value: u64) {
    unit.write32(offset, value as u32);
    unit.write32(offset + 4, (value >> 32) as u32);
}
