//! Context entries, in either mode, and what hangs below them in scalable mode.

use super::OldKernel;
use crate::scenario::{Attached, Function, RID_PASID};
use machine::PAGE_SIZE;
use vtd::context::{
    ContextEntry, ContextHigh, ContextLow, ScalableContextHigh, ScalableContextLow, TranslationType,
};
use vtd::paging::AddressWidth;
use vtd::pasid::{
    PASID_ENTRY_WORDS, PasidDirectoryEntry, PasidDomain, PasidSecondStage, PasidTranslationType,
};
use vtd::root::ContextTablePointer;

/// Bits of a PASID that select an entry of its table.
const PASID_TABLE_BITS: u32 = 6;

impl OldKernel<'_> {
    pub(super) fn write_legacy_context(&mut self, function: &Function, tops: &[u64]) {
        let [bus, devfn] = function.source.to_be_bytes();
        let table = self.context_table(u64::from(bus) * 2);
        let low = ContextLow::new().with_present(true);
        let entry = match function.attached {
            Attached::To(index) => {
                let domain = &self.scenario.domains[index];
                ContextEntry {
                    low: low.with_frame(tops[index] >> 12),
                    high: ContextHigh::new().with_width(domain.width).with_domain(domain.id),
                }
            }
            Attached::PassThrough(id) => ContextEntry {
                low: low.with_translation(TranslationType::PASS_THROUGH),
                high: ContextHigh::new().with_width(self.widest()).with_domain(id),
            },
        };
        self.write_words(table + u64::from(devfn) * 16, &[entry.low.into_bits(), entry.high.into_bits()]);
    }

    pub(super) fn write_scalable_context(&mut self, function: &Function, tops: &[u64]) {
        let table = self.context_table(u64::from(function.source >> 7));
        let directory = self.pasid_page();
        let rid_pasid = if self.scenario.traits.extended.rps() { RID_PASID } else { 0 };
        let low = ScalableContextLow::new()
            .with_present(true)
            .with_pasid_enabled(!function.processes.is_empty())
            .with_frame(directory >> 12);
        let high = ScalableContextHigh::new().with_rid_pasid(rid_pasid);
        let at = table + u64::from(function.source & 0x7F) * 32;
        self.write_words(at, &[low.into_bits(), high.into_bits(), 0, 0]);
        self.write_pasid(directory, rid_pasid, function.attached, tops);
        for process in &function.processes {
            self.write_pasid(directory, process.pasid, process.attached, tops);
        }
    }

    fn write_pasid(&mut self, directory: u64, pasid: u32, attached: Attached, tops: &[u64]) {
        let at = directory + u64::from(pasid >> PASID_TABLE_BITS) * 8;
        let known = PasidDirectoryEntry::from_bits(self.memory.read(at).unwrap_or(0));
        let table = if known.present() { known.table() } else { self.pasid_page() };
        self.memory
            .write(at, PasidDirectoryEntry::new().with_present(true).with_frame(table >> 12).into_bits());
        let second = PasidSecondStage::new().with_present(true);
        let (second, id) = match attached {
            Attached::To(index) => {
                let domain = &self.scenario.domains[index];
                let second =
                    second.with_translation(PasidTranslationType::SECOND_STAGE).with_width(domain.width);
                (second.with_frame(tops[index] >> 12), domain.id)
            }
            Attached::PassThrough(id) => (second.with_translation(PasidTranslationType::PASS_THROUGH), id),
        };
        let slot = u64::from(pasid) % (1 << PASID_TABLE_BITS) * PASID_ENTRY_WORDS as u64 * 8;
        self.write_words(table + slot, &[second.into_bits(), PasidDomain::new().with_domain(id).into_bits()]);
    }

    /// The context table that a word of the root table names.
    fn context_table(&mut self, root_word: u64) -> u64 {
        if let Some(table) = self.tables.contexts.get(&root_word) {
            return *table;
        }
        let table = self.page();
        self.tables.contexts.insert(root_word, table);
        self.memory.write(self.tables.root + root_word * 8, ContextTablePointer::to(table).into_bits());
        table
    }

    fn pasid_page(&mut self) -> u64 {
        let page = self.page();
        self.tables.pasids.push(page);
        page
    }

    /// The widest address width that the unit has: what pass-through entries of legacy mode carry.
    fn widest(&self) -> AddressWidth {
        let widths = [AddressWidth::BITS_57, AddressWidth::BITS_48];
        let supported = |width: &AddressWidth| self.scenario.traits.capability.supports(*width);
        widths.into_iter().find(supported).unwrap_or(AddressWidth::BITS_39)
    }

    fn write_words(&mut self, at: u64, words: &[u64]) {
        debug_assert!(at % PAGE_SIZE + words.len() as u64 * 8 <= PAGE_SIZE);
        (at..).step_by(8).zip(words).for_each(|(at, word)| self.memory.write(at, *word));
    }
}
