//! Context tables of scalable mode: an entry a device, which names a directory of PASID tables (9.4–9.6).
//!
//! Requests without PASID are translated as those with the context entry's RID_PASID.

use machine::{ENTRIES, Frames, OldMemory, PAGE_SIZE};
use vtd::context::{ScalableContextEntry, ScalableContextLow};
use vtd::pasid::{PASID_ENTRY_WORDS, PASID_TABLE_ENTRIES, PasidDirectoryEntry, PasidEntry};
use vtd::source::SourceId;

use super::Taker;
use crate::entry::{Entry, Slot};
use crate::growth::OutOfMemory;
use crate::hazard::{Danger, Outcome, Place};

/// PDTS of a directory that fills a page: 512 entries.
const ONE_PAGE: u8 = 2;

impl<M: OldMemory, F: Frames> Taker<'_, M, F> {
    /// Copies what the present entries of a copied context table name; all others block.
    pub(super) fn visit_scalable(&mut self, root_word: usize, table: u64) -> Result<(), OutOfMemory> {
        let mode = self.tables.mode;
        for word in (0..ENTRIES).step_by(mode.context_words()) {
            let words = self.frames.table(table);
            let entry = [words[word], words[word + 1], words[word + 2], words[word + 3]];
            let entry = ScalableContextEntry::from_words(entry);
            let kept = self.visit_device(mode.source(root_word, word), entry)?;
            let kept = [kept.low.into_bits(), kept.high.into_bits(), 0, 0];
            self.frames.table_mut(table)[word..word + 4].copy_from_slice(&kept);
        }
        Ok(())
    }

    /// What a context entry becomes.
    fn visit_device(
        &mut self,
        source: SourceId,
        entry: ScalableContextEntry,
    ) -> Result<ScalableContextEntry, OutOfMemory> {
        let low = ScalableContextLow::new().with_fault_disabled(entry.low.fault_disabled());
        let blocked = ScalableContextEntry { low, ..ScalableContextEntry::default() };
        if !entry.low.present() {
            return Ok(blocked);
        }
        match self.copy_directory(source, entry) {
            Ok(directory) => {
                self.tables.remember_pasid_table(directory)?;
                self.visit_directory(source, self.rid_pasid(entry), directory)?;
                let size = entry.low.directory_size().min(ONE_PAGE);
                let low = entry.low.with_frame(directory / PAGE_SIZE).with_directory_size(size);
                Ok(ScalableContextEntry { low, ..entry })
            }
            Err(danger) => {
                self.hazards.note(Place::Device(source), danger, Outcome::Blocked);
                Ok(blocked)
            }
        }
    }

    /// The PASID of requests without one; zero on units that know no other.
    fn rid_pasid(&self, entry: ScalableContextEntry) -> u32 {
        if self.abilities.extended.rps() { entry.high.rid_pasid() } else { 0 }
    }

    /// Copies the first page of a directory. Directories of several pages need memory in one piece, of which there
    /// is none for sure: PASIDs from 32768 up are blocked.
    fn copy_directory(&mut self, source: SourceId, entry: ScalableContextEntry) -> Result<u64, Danger> {
        if entry.reserved_bits(self.surroundings.host_address_bits) != [0; 4] {
            return Err(Danger::ReservedBits);
        }
        let directory = self.copy(entry.low.directory())?;
        let entries = entry.low.directory_entries();
        if entries < ENTRIES {
            self.frames.table_mut(directory)[entries..].fill(0);
        }
        if self.is_used_beyond_first_page(entry.low) {
            self.hazards.note(Place::Device(source), Danger::PasidTooLarge, Outcome::Blocked);
        }
        Ok(directory)
    }

    fn is_used_beyond_first_page(&mut self, entry: ScalableContextLow) -> bool {
        let pages = entry.directory_entries().div_ceil(ENTRIES) as u64;
        (1..pages).any(|page| {
            let Ok(copy) = self.copy(entry.directory() + page * PAGE_SIZE) else { return true };
            let present = |word: &u64| PasidDirectoryEntry::from_bits(*word).present();
            let used = self.frames.table(copy).iter().any(present);
            self.frames.release(copy);
            used
        })
    }

    fn visit_directory(
        &mut self,
        source: SourceId,
        rid_pasid: u32,
        directory: u64,
    ) -> Result<(), OutOfMemory> {
        for index in 0..ENTRIES {
            let old = PasidDirectoryEntry::from_bits(self.frames.table(directory)[index]);
            let mut new = PasidDirectoryEntry::new().with_fault_disabled(old.fault_disabled());
            match self.copy_pasid_table(old) {
                Ok(Some(table)) => {
                    self.tables.remember_pasid_table(table)?;
                    self.visit_pasid_table(source, rid_pasid, index, table)?;
                    new = old.with_frame(table / PAGE_SIZE);
                }
                Ok(None) => {}
                Err(danger) => self.hazards.note(Place::Device(source), danger, Outcome::Blocked),
            }
            self.frames.table_mut(directory)[index] = new.into_bits();
        }
        Ok(())
    }

    fn copy_pasid_table(&mut self, old: PasidDirectoryEntry) -> Result<Option<u64>, Danger> {
        if !old.present() {
            return Ok(None);
        }
        if old.reserved_bits(self.surroundings.host_address_bits) != 0 {
            return Err(Danger::ReservedBits);
        }
        self.copy(old.table()).map(Some)
    }

    /// Lists the present entries of a copied PASID table; all others block.
    fn visit_pasid_table(
        &mut self,
        source: SourceId,
        rid_pasid: u32,
        directory_index: usize,
        table: u64,
    ) -> Result<(), OutOfMemory> {
        for index in 0..PASID_TABLE_ENTRIES {
            let slot = Slot { table, word: index * PASID_ENTRY_WORDS };
            let words = self.frames.table(table).as_chunks().0[index];
            let entry = PasidEntry::from_words(words);
            let pasid = (directory_index * PASID_TABLE_ENTRIES + index) as u32;
            if entry.second.present() {
                let pasid = Some(pasid).filter(|pasid| *pasid != rid_pasid);
                self.list(source, pasid, Entry::Pasid(entry), slot)?;
            } else {
                Entry::Pasid(entry).blocked().fill(slot, self.frames);
            }
        }
        Ok(())
    }
}
