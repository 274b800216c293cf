//! The upper tables in frames of our own: root, context and PASID tables.

use alloc::vec::Vec;

use machine::{ENTRIES, Frames, PAGE_SHIFT, PAGE_SIZE, PhysicalAddress, SourceId};
use vtd::capability::ExtendedCapability;
use vtd::context::{ContextLow, ScalableContextHigh, ScalableContextLow, TranslationType};
use vtd::pasid::{PASID_ENTRY_WORDS, PASID_TABLE_ENTRIES, PasidDirectoryEntry};
use vtd::root::ContextTablePointer;

use crate::entry::Slot;
use crate::failure::AttachError;
use crate::table::new_table;
use crate::vtd::mode::Mode;
use machine::growth::{OutOfMemory, collected, insert, push};

/// Root, context and PASID tables in own frames.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) mode: Mode,
    pub(crate) root: PhysicalAddress,
    /// Context tables, by the word of the root table that points to them.
    contexts: Vec<(usize, PhysicalAddress)>,
    /// PASID directories and PASID tables.
    pasid: Vec<PhysicalAddress>,
}

impl Tables {
    /// The tables of a unit before the census: none.
    pub(crate) fn none() -> Self {
        Self::new(Mode::Legacy, PhysicalAddress::default())
    }

    pub(crate) fn new(mode: Mode, root: PhysicalAddress) -> Self {
        Self { mode, root, contexts: Vec::new(), pasid: Vec::new() }
    }

    /// How many tables there are.
    pub(crate) fn count(&self) -> u64 {
        1 + self.contexts.len() as u64 + self.pasid.len() as u64
    }

    /// The context table that a word of the root table points to.
    fn context_table(&self, root_word: usize) -> Option<PhysicalAddress> {
        let index = self.contexts.binary_search_by_key(&root_word, |known| known.0).ok()?;
        self.contexts.get(index).map(|known| known.1)
    }

    pub(crate) fn remember_context_table(
        &mut self,
        root_word: usize,
        table: PhysicalAddress,
    ) -> Result<(), OutOfMemory> {
        let at = self.contexts.partition_point(|known| known.0 < root_word);
        insert(&mut self.contexts, at, (root_word, table))
    }

    /// The context tables, each with the word of the root table that points to it.
    pub(crate) fn context_tables(&self) -> impl Iterator<Item = (usize, PhysicalAddress)> + '_ {
        self.contexts.iter().copied()
    }

    /// How many PASID directories and PASID tables there are.
    pub(crate) fn pasid_tables(&self) -> usize {
        self.pasid.len()
    }

    /// Gives back the PASID directories and tables from the one at this index on.
    pub(crate) fn release_pasid_tables(&mut self, from: usize, frames: &mut impl Frames) {
        self.pasid.drain(from..).for_each(|table| frames.release(table));
    }

    pub(crate) fn remember_pasid_table(&mut self, table: PhysicalAddress) -> Result<(), OutOfMemory> {
        push(&mut self.pasid, table)
    }

    /// Publishes all tables, the root table last.
    pub(crate) fn publish(&self, frames: &mut impl Frames) {
        let contexts = self.contexts.iter().map(|known| known.1);
        for table in self.pasid.iter().copied().chain(contexts).chain([self.root]) {
            frames.publish(table, 0..ENTRIES);
        }
    }

    /// The slot of the entry for a device's requests without PASID. Missing tables on the way to it are made and
    /// linked while hardware may be reading.
    pub(crate) fn slot(
        &mut self,
        source: SourceId,
        extended: ExtendedCapability,
        frames: &mut impl Frames,
    ) -> Result<Slot, AttachError> {
        let table = self.context_table_for(self.mode.root_word(source), frames)?;
        let slot = Slot { table, word: self.mode.context_word(source) };
        match self.mode {
            Mode::Legacy => Ok(slot),
            Mode::Scalable => self.pasid_slot(slot, extended, frames),
        }
    }

    /// The devices whose entries allow them a device-TLB, ascending.
    pub(crate) fn device_tlbs(&self, frames: &impl Frames) -> Result<Vec<SourceId>, OutOfMemory> {
        let sources = (0..=u16::MAX).map(SourceId);
        collected(sources.filter(|source| self.allows_device_tlb(*source, frames)))
    }

    /// Whether a device's entry allows it a device-TLB.
    fn allows_device_tlb(&self, source: SourceId, frames: &impl Frames) -> bool {
        let Some(table) = self.context_table(self.mode.root_word(source)) else { return false };
        let word = frames.table(table)[self.mode.context_word(source)];
        match self.mode {
            Mode::Legacy => {
                let entry = ContextLow::from_bits(word);
                entry.present() && entry.translation() == TranslationType::DEVICE_TLB
            }
            Mode::Scalable => {
                let entry = ScalableContextLow::from_bits(word);
                entry.present() && entry.device_tlb()
            }
        }
    }

    fn context_table_for(
        &mut self,
        root_word: usize,
        frames: &mut impl Frames,
    ) -> Result<PhysicalAddress, AttachError> {
        if let Some(table) = self.context_table(root_word) {
            return Ok(table);
        }
        let table = new_table(frames).ok_or(AttachError::OutOfFrames)?;
        self.remember_context_table(root_word, table)?;
        let pointer = ContextTablePointer::to(table).into_bits();
        Slot { table: self.root, word: root_word }.store(&[pointer], frames);
        Ok(table)
    }

    /// The slot of the PASID entry for a device's requests without PASID, whose context entry is at `context`.
    fn pasid_slot(
        &mut self,
        context: Slot,
        extended: ExtendedCapability,
        frames: &mut impl Frames,
    ) -> Result<Slot, AttachError> {
        let low = self.directory_for(context, frames)?;
        let high = ScalableContextHigh::from_bits(frames.table(context.table)[context.word + 1]);
        let pasid = if extended.rps() { high.rid_pasid() as usize } else { 0 };
        let index = pasid / PASID_TABLE_ENTRIES;
        if index >= low.directory_entries() {
            return Err(AttachError::NoPlace);
        }
        let page = low.directory().saturating_add((index / ENTRIES) as u64 * PAGE_SIZE);
        let table = self.pasid_table_for(Slot { table: page, word: index % ENTRIES }, frames)?;
        Ok(Slot { table, word: pasid % PASID_TABLE_ENTRIES * PASID_ENTRY_WORDS })
    }

    /// The context entry in this slot; makes one with an empty directory if there is none.
    fn directory_for(
        &mut self,
        slot: Slot,
        frames: &mut impl Frames,
    ) -> Result<ScalableContextLow, AttachError> {
        let old = ScalableContextLow::from_bits(frames.table(slot.table)[slot.word]);
        if old.present() {
            return Ok(old);
        }
        let directory = new_table(frames).ok_or(AttachError::OutOfFrames)?;
        self.remember_pasid_table(directory)?;
        let new = ScalableContextLow::new().with_present(true).with_frame(directory.get() >> PAGE_SHIFT);
        slot.store(&[new.into_bits(), 0, 0, 0], frames);
        Ok(new)
    }

    /// The PASID table that the directory entry in this slot names; makes one if there is none.
    fn pasid_table_for(
        &mut self,
        slot: Slot,
        frames: &mut impl Frames,
    ) -> Result<PhysicalAddress, AttachError> {
        let old = PasidDirectoryEntry::from_bits(frames.table(slot.table)[slot.word]);
        if old.present() {
            return Ok(old.table());
        }
        let table = new_table(frames).ok_or(AttachError::OutOfFrames)?;
        self.remember_pasid_table(table)?;
        let new = PasidDirectoryEntry::new().with_present(true).with_frame(table.get() >> PAGE_SHIFT);
        slot.store(&[new.into_bits()], frames);
        Ok(table)
    }
}
