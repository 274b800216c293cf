//! Writes context entries of either mode, and the PASID tables below them in scalable mode.

use super::OldKernel;
use crate::vtd::scenario::{Attached, Function, RID_PASID, Stage};
use crate::vtd::walk::Traits;
use fastrand::Rng;
use machine::{ENTRIES, PAGE_SIZE, PhysicalAddress};
use vtd::context::{
    ContextEntry, ContextHigh, ContextLow, ScalableContextHigh, ScalableContextLow, TranslationType,
};
use vtd::paging::AddressWidth;
use vtd::pasid::{
    FirstStagePagingMode, PASID_ENTRY_WORDS, PasidDirectoryEntry, PasidDomain, PasidFirstStage,
    PasidSecondStage, PasidTranslationType,
};
use vtd::root::ContextTablePointer;

/// Bits of a PASID that select an entry of its table.
const PASID_TABLE_BITS: u32 = 6;

impl OldKernel<'_> {
    pub(super) fn write_legacy_context(&mut self, function: &Function) {
        let [bus, devfn] = function.source.to_be_bytes();
        let table = self.context_table(function.unit, u64::from(bus) * 2);
        let low = ContextLow::new().with_present(true);
        let entry = match function.attached {
            Attached::To(index) => {
                let domain = &self.scenario.domains[index];
                let keeps = function.device_tlb.is_some();
                let kind = if keeps { TranslationType::DEVICE_TLB } else { TranslationType::TRANSLATED };
                ContextEntry {
                    low: low.with_translation(kind).with_frame(self.tops[index].get() >> 12),
                    high: ContextHigh::new().with_width(domain.width).with_domain(domain.id),
                }
            }
            Attached::PassThrough(id) => ContextEntry {
                low: low.with_translation(TranslationType::PASS_THROUGH),
                high: ContextHigh::new().with_width(self.widest(function.unit)).with_domain(id),
            },
        };
        self.write_words(
            table.saturating_add(u64::from(devfn) * 16),
            &[entry.low.into_bits(), entry.high.into_bits()],
        );
    }

    pub(super) fn write_scalable_context(&mut self, function: &Function) {
        let table = self.context_table(function.unit, u64::from(function.source >> 7));
        let traits = self.scenario.units[function.unit].traits;
        let rid_pasid = if traits.extended.rps() { RID_PASID } else { 0 };
        let size = directory_size(function);
        let directory = self.pasid_directory(size);
        let low = ScalableContextLow::new()
            .with_present(true)
            .with_pasid_enabled(!function.processes.is_empty())
            .with_device_tlb(function.device_tlb.is_some())
            .with_directory_size(size)
            .with_frame(directory.get() >> 12);
        let privileged = traits.extended.rprivs() && self.rng.bool();
        let high = ScalableContextHigh::new().with_rid_pasid(rid_pasid).with_rid_privileged(privileged);
        let at = table.saturating_add(u64::from(function.source & 0x7F) * 32);
        self.write_words(at, &[low.into_bits(), high.into_bits(), 0, 0]);
        self.write_pasid(&traits, directory, rid_pasid, function.attached);
        for process in &function.processes {
            self.write_pasid(&traits, directory, process.pasid, process.attached);
        }
    }

    fn write_pasid(&mut self, traits: &Traits, directory: PhysicalAddress, pasid: u32, attached: Attached) {
        let at = directory.saturating_add(u64::from(pasid >> PASID_TABLE_BITS) * 8);
        let known = PasidDirectoryEntry::from_bits(self.memory.read(at).unwrap_or(0));
        let table = if known.present() { known.table() } else { self.pasid_page() };
        self.memory.write(
            at,
            PasidDirectoryEntry::new().with_present(true).with_frame(table.get() >> 12).into_bits(),
        );
        let slot = u64::from(pasid) % (1 << PASID_TABLE_BITS) * PASID_ENTRY_WORDS as u64 * 8;
        let entry = self.pasid_entry(traits, attached);
        self.write_words(table.saturating_add(slot), &entry);
    }

    /// The first three words of a PASID table entry.
    fn pasid_entry(&self, traits: &Traits, attached: Attached) -> [u64; 3] {
        let id = match attached {
            Attached::PassThrough(id) => id,
            Attached::To(index) => self.scenario.domains[index].id,
        };
        let domain = PasidDomain::new().with_domain(id).with_walk_snoop(traits.extended.smpwcs());
        let (kind, first, second) = match attached {
            Attached::PassThrough(_) => (PasidTranslationType::PASS_THROUGH, None, None),
            Attached::To(index) => match self.scenario.domains[index].stage {
                Stage::Second => (PasidTranslationType::SECOND_STAGE, None, Some(index)),
                Stage::First => (PasidTranslationType::FIRST_STAGE, Some(index), None),
                Stage::Nested(host) => (PasidTranslationType::NESTED, Some(index), Some(host)),
            },
        };
        let first = first.map_or(PasidFirstStage::new(), |index| self.first_stage(traits, index));
        let second = second.map_or(PasidSecondStage::new(), |index| self.second_stage(traits, index));
        let second = second.with_present(true).with_translation(kind);
        [second.into_bits(), domain.into_bits(), first.into_bits()]
    }

    /// Whether entries set a bit for a domain's tables: all entries must agree (6.2.3.1), so it depends on the domain
    /// alone.
    fn choice(&self, domain: usize, bit: u32) -> bool {
        Rng::with_seed(self.scenario.seed ^ domain as u64).u32(..) >> bit & 1 != 0
    }

    fn second_stage(&self, traits: &Traits, domain: usize) -> PasidSecondStage {
        let marks = traits.extended.ssads() && traits.extended.smpwcs() && self.choice(domain, 0);
        PasidSecondStage::new()
            .with_width(self.scenario.domains[domain].width)
            .with_accessed_dirty(marks)
            .with_frame(self.tops[domain].get() >> 12)
    }

    fn first_stage(&self, traits: &Traits, domain: usize) -> PasidFirstStage {
        let five = self.scenario.domains[domain].width == AddressWidth::BITS_57;
        let mode = if five { FirstStagePagingMode::FIVE_LEVELS } else { FirstStagePagingMode::FOUR_LEVELS };
        PasidFirstStage::new()
            .with_mode(mode)
            .with_supervisor(traits.extended.srs())
            .with_write_protect(traits.extended.srs() && self.choice(domain, 1))
            .with_extended_accessed(traits.extended.eafs() && self.choice(domain, 2))
            .with_frame(self.tops[domain].get() >> 12)
    }

    /// The context table that a word of a unit's root table names; makes one if there is none.
    fn context_table(&mut self, unit: usize, root_word: u64) -> PhysicalAddress {
        if let Some(table) = self.tables.contexts.get(&(unit, root_word)) {
            return *table;
        }
        let table = self.page();
        self.tables.contexts.insert((unit, root_word), table);
        let at = self.tables.roots[unit].saturating_add(root_word * 8);
        self.memory.write(at, ContextTablePointer::to(table).into_bits());
        table
    }

    fn pasid_page(&mut self) -> PhysicalAddress {
        let page = self.page();
        self.tables.pasids.push(page);
        page
    }

    /// Makes a directory for this PDTS: contiguous pages.
    fn pasid_directory(&mut self, size: u8) -> PhysicalAddress {
        let entries = ScalableContextLow::new().with_directory_size(size).directory_entries();
        let pages = entries.div_ceil(ENTRIES) as u64;
        let directory = self.pages(pages);
        self.tables.pasids.extend((0..pages).map(|page| directory.saturating_add(page * PAGE_SIZE)));
        directory
    }

    /// The widest address width that a unit supports: pass-through entries of legacy mode use it.
    fn widest(&self, unit: usize) -> AddressWidth {
        let widths = [AddressWidth::BITS_57, AddressWidth::BITS_48];
        let supported = |width: &AddressWidth| self.scenario.units[unit].traits.capability.supports(*width);
        widths.into_iter().find(supported).unwrap_or(AddressWidth::BITS_39)
    }
}

/// PDTS of the smallest directory that has room for a function's PASIDs.
fn directory_size(function: &Function) -> u8 {
    let largest = function.processes.iter().map(|process| process.pasid).max().unwrap_or(0);
    let fits = |size: &u8| {
        let entries = ScalableContextLow::new().with_directory_size(*size).directory_entries();
        (largest >> PASID_TABLE_BITS) < entries as u32
    };
    (0..8).find(fits).unwrap_or(7)
}
