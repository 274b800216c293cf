//! Context tables of legacy mode: one entry per device (9.3).

use machine::{ENTRIES, Frames, OldMemory, PhysicalAddress};
use vtd::context::ContextEntry;

use super::Taker;
use crate::entry::{self, Slot};
use crate::found::Context;
use crate::vtd::entry::Entry;
use machine::growth::OutOfMemory;

impl<M: OldMemory, F: Frames> Taker<'_, M, F> {
    /// Lists the present entries of a copied context table; all other entries block.
    pub(super) fn visit_legacy(
        &mut self,
        root_word: usize,
        table: PhysicalAddress,
    ) -> Result<(), OutOfMemory> {
        let mode = self.tables.mode;
        for word in (0..ENTRIES).step_by(mode.context_words()) {
            let words = self.roll.frames.table(table);
            let context = ContextEntry::from_words(words[word], words[word + 1]);
            let (entry, slot) = (Entry::Context(context), Slot { table, word });
            if context.low.present() {
                let source = mode.source(root_word, word);
                let entry = entry::Entry::Vtd(entry);
                self.list(Context { source, pasid: None, entry, domain: None, tag: 0, slot: Some(slot) })?;
            } else {
                entry.blocked().fill(slot, self.roll.frames);
            }
        }
        Ok(())
    }
}
