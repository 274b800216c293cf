//! Writes device tables, and the CR3 tables and interrupt tables that entries name.

use super::OldKernel;
use crate::amdvi::scenario::{
    Attached, Cr3Addresses, Excluded, Function, Interrupts, Others, Stage, TablePlace, UnitScenario,
};
use amdvi::device_table::{
    Cr3Entry, DeviceTableEntry, ENTRY_BYTES, GuestPagingMode, GuestTables, HostTables, InterruptControl,
    PagingMode,
};
use machine::{Level, PAGE_SIZE, PhysicalAddress};

/// Bits of a PASID that one level of a CR3 table translates.
const CR3_STRIDE: u32 = 9;
/// IntTabLen of Linux's interrupt tables: 512 entries.
const INTERRUPT_LENGTH: u8 = 9;

impl OldKernel<'_> {
    /// Writes the CR3 tables of functions with guest tables.
    pub(super) fn write_cr3_tables(&mut self) {
        for function in &self.scenario.functions {
            let own = self.guest_domain(function).map(|domain| (0, domain));
            let processes = function.processes.iter().map(|process| (process.pasid, process.domain));
            let roots: Vec<(u32, usize)> = own.into_iter().chain(processes).collect();
            let Some((_, first)) = roots.first() else { continue };
            let host = match self.scenario.domains[*first].stage {
                Stage::Nested(host) => Some(host),
                Stage::Host | Stage::Guest => None,
            };
            let addresses = self.scenario.units[function.unit].cr3_addresses;
            let host = host.filter(|_| addresses == Cr3Addresses::Guests);
            let top = self.cr3_table(host);
            for (pasid, domain) in roots {
                self.write_root(top, host, pasid, (cr3_levels(function), domain));
            }
            self.cr3.insert(function.source, top);
        }
    }

    /// The domain of a function's requests without PASID, if it has guest tables.
    fn guest_domain(&self, function: &Function) -> Option<usize> {
        let Attached::To(domain) = function.attached else { return None };
        (self.scenario.domains[domain].stage != Stage::Host).then_some(domain)
    }

    fn cr3_table(&mut self, host: Option<usize>) -> PhysicalAddress {
        let table = self.table_of(host);
        self.tables.cr3.push(self.place(table));
        table
    }

    /// Writes the root of a PASID, and the CR3 tables on the way to it.
    fn write_root(
        &mut self,
        mut table: PhysicalAddress,
        host: Option<usize>,
        pasid: u32,
        (levels, domain): (u32, usize),
    ) {
        for level in (0..levels).rev() {
            let index = u64::from(pasid >> (CR3_STRIDE * level) & 0x1FF);
            let at = self.place(table).saturating_add(index * 8);
            let known = Cr3Entry::from_bits(self.memory.read(at).unwrap_or(0));
            let next = match level {
                0 => self.tops[domain],
                _ if known.valid() => known.table(),
                _ => self.cr3_table(host),
            };
            let entry = Cr3Entry::new().with_valid(true).with_frame(next.pfn().get());
            self.memory.write(at, entry.into_bits());
            table = next;
        }
    }

    /// Writes a unit's device table, unless it uses another unit's, and the entries of its functions there.
    pub(super) fn write_device_table(&mut self, unit: usize) {
        match self.scenario.units[unit].table_of {
            Some(other) => self.tables.devices.push(self.tables.devices[other].clone()),
            None => self.make_device_table(unit),
        }
        for function in self.scenario.functions_of(unit) {
            let entry = self.entry(function);
            if let Some(at) = self.entry_of(unit, function.source) {
                self.write_words(at, &entry.words());
            }
        }
    }

    /// Makes a device table, in which each entry says what is said of ids that no function has.
    fn make_device_table(&mut self, unit: usize) {
        let description = &self.scenario.units[unit];
        let segments = 1_usize << description.segments;
        let is_there = |page: PhysicalAddress| {
            (description.table_place == TablePlace::High) == (page.get() >> u32::BITS != 0)
        };
        let pages = description.table_pages;
        let table = (0..segments).map(|_| self.unused.take_if(pages, &mut self.rng, is_there)).collect();
        self.tables.devices.push(table);
        let filler = others(description);
        for source in 0..=u16::MAX {
            if let Some(at) = self.entry_of(unit, source).filter(|_| filler != [0; 4]) {
                self.write_words(at, &filler);
            }
        }
    }

    /// Where the entry of a device is in a unit's table; `None` if there is none for it.
    pub(super) fn entry_of(&self, unit: usize, source: u16) -> Option<PhysicalAddress> {
        let description = &self.scenario.units[unit];
        let bits = 16 - u32::from(description.segments);
        let (segment, index) = (u32::from(source) >> bits, u64::from(source) & ((1 << bits) - 1));
        let table = *self.tables.devices[unit].get(segment as usize)?;
        let offset = index * ENTRY_BYTES as u64;
        (offset < description.table_pages * PAGE_SIZE).then(|| table.saturating_add(offset))
    }

    fn entry(&mut self, function: &Function) -> DeviceTableEntry {
        let mut entry = self.interrupts_of(function);
        let unit = &self.scenario.units[function.unit];
        entry.host = HostTables::new().with_valid(true).with_translation_valid(true);
        entry.guest = GuestTables::new()
            .with_device_tlb(function.device_tlb.is_some())
            .with_exclusion(function.excluded == Excluded::Yes);
        match function.attached {
            Attached::Untranslated => {
                entry.host = HostTables::new();
                return entry;
            }
            Attached::Aborted => {
                entry.host = HostTables::new().with_valid(true);
                return entry;
            }
            Attached::PassThrough(id, rights) => {
                entry.host = entry.host.with_read(rights.read).with_write(rights.write);
                entry.guest = entry.guest.with_domain(id);
            }
            Attached::To(index) => {
                let domain = &self.scenario.domains[index];
                entry.host = entry.host.with_read(true).with_write(true);
                entry.guest = entry.guest.with_domain(domain.id);
                entry.host = self.host_tables(unit, entry.host, index);
            }
        }
        if let Some(id) = function.id {
            entry.guest = entry.guest.with_domain(id);
        }
        self.with_guest(entry, function)
    }

    /// Adds the host tables of a domain, or of its host.
    fn host_tables(&self, unit: &UnitScenario, host: HostTables, index: usize) -> HostTables {
        let index = match self.scenario.domains[index].stage {
            Stage::Host => index,
            Stage::Nested(host) => host,
            Stage::Guest => return host,
        };
        let marks = if unit.traits.feature.host_dirty() { 3 } else { 0 };
        host.with_mode(PagingMode::of(self.scenario.domains[index].top))
            .with_frame(self.tops[index].pfn().get())
            .with_accessed_dirty(marks)
    }

    /// Adds the CR3 table of a function that has one.
    fn with_guest(&self, mut entry: DeviceTableEntry, function: &Function) -> DeviceTableEntry {
        let Some(cr3) = self.cr3.get(&function.source) else { return entry };
        let own = self.guest_domain(function);
        let domain = own.or(function.processes.first().map(|process| process.domain));
        let five = domain.is_some_and(|domain| self.scenario.domains[domain].top == Level::FIVE);
        let mode = if five { GuestPagingMode::FIVE_LEVELS } else { GuestPagingMode::FOUR_LEVELS };
        entry.host = entry
            .host
            .with_guest_valid(true)
            .with_guest_without_pasid(own.is_some())
            .with_cr3_levels(cr3_levels(function) as u8 - 1);
        entry.interrupts = entry.interrupts.with_guest_mode(mode);
        entry.with_cr3_table(*cr3)
    }

    /// An entry with nothing but a function's interrupts.
    fn interrupts_of(&mut self, function: &Function) -> DeviceTableEntry {
        let mut entry = DeviceTableEntry::default();
        if self.scenario.units[function.unit].interrupts == Interrupts::Passed {
            return entry;
        }
        let table = self.pages(2);
        self.tables.interrupts.push(table);
        for number in 0..8 {
            let word = self.rng.u64(..) | 1;
            self.memory.write(table.saturating_add(number * 16), word);
        }
        entry.interrupts = entry
            .interrupts
            .with_valid(true)
            .with_length(INTERRUPT_LENGTH)
            .with_table(table.get() >> 6)
            .with_control(InterruptControl::REMAP);
        entry
    }
}

/// The levels of the CR3 table that has room for a function's PASIDs.
fn cr3_levels(function: &Function) -> u32 {
    let largest = function.processes.iter().map(|process| process.pasid).max().unwrap_or(0);
    (1..3).find(|levels| largest >> (CR3_STRIDE * levels) == 0).unwrap_or(3)
}

/// The entry of ids that no function has.
fn others(unit: &UnitScenario) -> [u64; 4] {
    match unit.others {
        Others::Blocked => [0b11, 0, 0, 0],
        Others::Aborted => [0b01, 0, 0, 0],
        Others::Untranslated => [0; 4],
    }
}
