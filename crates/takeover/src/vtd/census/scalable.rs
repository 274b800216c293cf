//! Context tables of scalable mode: one entry per device, which names a directory of PASID tables (9.4–9.6).
//!
//! Requests without PASID use the PASID entry of the context entry's RID_PASID.

use machine::{ENTRIES, Frames, OldMemory, PAGE_SIZE, PhysicalAddress, SourceId};
use vtd::context::{ScalableContextEntry, ScalableContextHigh, ScalableContextLow};
use vtd::pasid::{PASID_ENTRY_WORDS, PASID_TABLE_ENTRIES, PasidDirectoryEntry, PasidEntry, PasidSecondStage};

use super::{Taker, Turn};
use crate::entry::{self, Slot};
use crate::found::Context;
use crate::hazard::{Danger, HazardPlace, Outcome};
use crate::table::read_table;
use crate::vtd::entry::Entry;
use machine::growth::OutOfMemory;

/// Frames that a device takes when none are short: a PASID directory, a PASID table, and the root table of a domain.
const FRAMES_OF_A_DEVICE: usize = 3;

/// Frames are short if the devices take more than one in so many of them: other units need some too.
const PLENTY: usize = 8;

/// A copied PASID directory.
#[derive(Clone, Copy)]
struct Directory {
    /// Its first frame; its other frames follow.
    table: PhysicalAddress,
    /// Its size in pages, a power of two.
    pages: usize,
    /// PDTS: the directory size in the context entry.
    size: u8,
}

/// The page at `index` of a directory that starts at `first`.
fn page_of(first: PhysicalAddress, index: usize) -> PhysicalAddress {
    first.saturating_add(index as u64 * PAGE_SIZE)
}

impl Directory {
    /// PDTS of a directory that fills a page: 512 entries. Each step up doubles the size.
    const ONE_PAGE: u8 = 2;

    /// Makes a directory of at least `pages`, the pages in use, and no larger than the old one.
    fn of(table: PhysicalAddress, pages: usize, old: ScalableContextLow) -> Self {
        let size = (Self::ONE_PAGE + pages.ilog2() as u8).min(old.directory_size());
        Self { table, pages, size }
    }

    /// How many entries for PASID tables it has.
    fn entries(self) -> usize {
        ScalableContextLow::new().with_directory_size(self.size).directory_entries()
    }

    /// The frame that holds an entry, and the entry's index in it.
    fn place(self, entry: usize) -> (PhysicalAddress, usize) {
        (page_of(self.table, entry / ENTRIES), entry % ENTRIES)
    }

    /// The frames that it takes.
    fn frames(self) -> impl Iterator<Item = PhysicalAddress> {
        (0..self.pages).map(move |page| page_of(self.table, page))
    }
}

impl<M: OldMemory, F: Frames> Taker<'_, M, F> {
    /// Copies the tables that the present entries of copied context tables name, those of wanted devices first; all
    /// other entries block. `tables` are the context tables, each with its word in the root table.
    ///
    /// Where frames are short, devices whose entries translate nothing have theirs blocked, which is the same to them
    /// and takes no tables.
    pub(super) fn visit_scalable(&mut self, tables: &[(usize, PhysicalAddress)]) -> Result<(), OutOfMemory> {
        let devices: usize = tables.iter().map(|(_, table)| self.devices_in(*table)).sum();
        let left = self.roll.frames.available().saturating_sub(self.roll.limits.spare_frames);
        self.economy.frugal = devices * FRAMES_OF_A_DEVICE > left / PLENTY;
        if self.economy.frugal {
            // What turns out to be too much is given back.
            self.economy.leaves = 0;
        }
        for turn in [Turn::Wanted, Turn::Others] {
            for (root_word, table) in tables {
                self.visit_scalable_table(*root_word, *table, turn)?;
            }
        }
        Ok(())
    }

    /// How many present entries a copied context table has.
    fn devices_in(&self, table: PhysicalAddress) -> usize {
        let words = self.roll.frames.table(table).iter().step_by(self.tables.mode.context_words());
        words.filter(|word| ScalableContextLow::from_bits(**word).present()).count()
    }

    fn visit_scalable_table(
        &mut self,
        root_word: usize,
        table: PhysicalAddress,
        turn: Turn,
    ) -> Result<(), OutOfMemory> {
        let mode = self.tables.mode;
        for word in (0..ENTRIES).step_by(mode.context_words()) {
            let source = mode.source(root_word, word);
            if self.turn_of(source) != turn {
                continue;
            }
            let words = self.roll.frames.table(table);
            let entry = [words[word], words[word + 1], words[word + 2], words[word + 3]];
            let kept = self.visit_device(source, ScalableContextEntry::from_words(entry))?;
            let kept = [kept.low.into_bits(), kept.high.into_bits(), 0, 0];
            self.roll.frames.table_mut(table)[word..word + 4].copy_from_slice(&kept);
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
                let (tables, contexts) = (self.tables.pasid_tables(), self.roll.contexts.len());
                directory.frames().try_for_each(|frame| self.tables.remember_pasid_table(frame))?;
                self.visit_directory(source, self.rid_pasid(entry), directory)?;
                if self.economy.frugal && !self.can_afford(source, contexts) {
                    self.tables.release_pasid_tables(tables, self.roll.frames);
                    self.roll.contexts[contexts..].iter_mut().for_each(|context| context.slot = None);
                    return Ok(blocked);
                }
                let frame = directory.table.get() / PAGE_SIZE;
                let low = entry.low.with_frame(frame).with_directory_size(directory.size);
                Ok(ScalableContextEntry { low, high: self.high_within(source, entry, directory), ..entry })
            }
            Err(danger) => {
                self.lose_device(source, danger)?;
                Ok(blocked)
            }
        }
    }

    /// Whether a device whose contexts are listed from index `first` on keeps its PASID tables, and one frame for a
    /// domain: a wanted one always, one that translates nothing never. If not, its entry blocks.
    fn can_afford(&mut self, source: SourceId, first: usize) -> bool {
        let last = self.roll.contexts.len();
        if self.turn_of(source) == Turn::Wanted {
            return true;
        }
        if (first..last).all(|index| self.is_idle(self.roll.contexts[index].entry)) {
            return false;
        }
        let left = self.roll.frames.available().saturating_sub(self.roll.limits.spare_frames);
        let affordable = left > self.economy.promised;
        self.economy.promised += usize::from(affordable);
        if !affordable {
            self.roll.hazards.note(HazardPlace::Device(source), Danger::OverBudget, Outcome::Blocked);
        }
        affordable
    }

    /// Whether a present entry, as far as can be seen, translates nothing.
    fn is_idle(&mut self, entry: entry::Entry) -> bool {
        let judged = self.abilities.judge(entry, self.roll.surroundings.host_address_bits);
        judged.is_ok_and(|domain| self.roll.maps_nothing(&domain))
    }

    /// Blocks requests of a device, all or those of a PASID table.
    fn lose_device(&mut self, source: SourceId, danger: Danger) -> Result<(), OutOfMemory> {
        self.roll.hazards.note(HazardPlace::Device(source), danger, Outcome::Blocked);
        if danger == Danger::OverBudget { self.roll.unknown.insert(source) } else { Ok(()) }
    }

    /// The PASID of requests without one; zero on units that do not support RID_PASID.
    fn rid_pasid(&self, entry: ScalableContextEntry) -> u32 {
        if self.abilities.extended.rps() { entry.high.rid_pasid() } else { 0 }
    }

    /// The second word of a copied context entry: unchanged, unless RID_PASID lies beyond the copied directory.
    ///
    /// In that case, requests without PASID fault whatever the tables say, and no entry could be made for a driver's
    /// device. A PASID that nobody uses replaces it: such requests still fault until there is an entry, and the
    /// device's other PASIDs keep theirs.
    fn high_within(
        &mut self,
        source: SourceId,
        old: ScalableContextEntry,
        copy: Directory,
    ) -> ScalableContextHigh {
        let pasid = self.rid_pasid(old);
        let table = pasid as usize / PASID_TABLE_ENTRIES;
        if table >= old.low.directory_entries() {
            self.roll.hazards.note(
                HazardPlace::Device(source),
                Danger::RidPasidTooLarge(pasid),
                Outcome::Fenced,
            );
        }
        match self.unused_pasid(copy).filter(|_| table >= copy.entries()) {
            Some(unused) => old.high.with_rid_pasid(unused),
            None => old.high,
        }
    }

    /// The lowest PASID for which a copied directory has no present entry.
    fn unused_pasid(&self, directory: Directory) -> Option<u32> {
        let pasids = 0..directory.entries() * PASID_TABLE_ENTRIES;
        pasids.into_iter().find(|pasid| !self.is_used(directory, *pasid)).map(|pasid| pasid as u32)
    }

    fn is_used(&self, directory: Directory, pasid: usize) -> bool {
        let (page, entry) = directory.place(pasid / PASID_TABLE_ENTRIES);
        let table = PasidDirectoryEntry::from_bits(self.roll.frames.table(page)[entry]);
        let word = pasid % PASID_TABLE_ENTRIES * PASID_ENTRY_WORDS;
        table.present() && PasidSecondStage::from_bits(self.roll.frames.table(table.table())[word]).present()
    }

    /// Copies the used part of a directory into contiguous frames. If there are none, PASIDs beyond the first page
    /// are blocked.
    fn copy_directory(&mut self, source: SourceId, entry: ScalableContextEntry) -> Result<Directory, Danger> {
        if entry.reserved_bits(self.roll.surroundings.host_address_bits) != [0; 4] {
            return Err(Danger::ReservedBits);
        }
        let used = self.pages_in_use(source, entry.low);
        if used == 1 {
            return self.copy_first_page(entry.low);
        }
        let pages = used.next_power_of_two();
        let Some(table) = self.roll.frames.allocate_run(pages) else {
            self.roll.hazards.note(HazardPlace::Device(source), Danger::PasidTooLarge, Outcome::Blocked);
            return self.copy_first_page(entry.low);
        };
        let directory = Directory::of(table, pages, entry.low);
        for (page, frame) in directory.frames().enumerate() {
            let old = page_of(entry.low.directory(), page);
            if let Err(danger) =
                read_table(old, frame, self.roll.old, self.roll.frames, self.roll.surroundings.own_memory())
            {
                self.roll.frames.table_mut(frame).fill(0);
                self.roll.hazards.note(HazardPlace::Device(source), danger, Outcome::Blocked);
            }
        }
        Ok(directory)
    }

    fn copy_first_page(&mut self, entry: ScalableContextLow) -> Result<Directory, Danger> {
        let table = self.copy(entry.directory())?;
        let entries = entry.directory_entries().min(ENTRIES);
        self.roll.frames.table_mut(table)[entries..].fill(0);
        Ok(Directory::of(table, 1, entry))
    }

    /// How many pages of a directory there are up to the last page with a present entry; at least one.
    fn pages_in_use(&mut self, source: SourceId, entry: ScalableContextLow) -> usize {
        let pages = entry.directory_entries().div_ceil(ENTRIES);
        let in_use = |page: &usize| self.is_in_use(source, page_of(entry.directory(), *page));
        (1..pages).rev().find(in_use).map_or(1, |last| last + 1)
    }

    /// Whether a page of a directory has a present entry. A page that cannot be read counts as empty.
    fn is_in_use(&mut self, source: SourceId, page: PhysicalAddress) -> bool {
        let copy = match self.copy(page) {
            Ok(copy) => copy,
            Err(danger) => {
                self.roll.hazards.note(HazardPlace::Device(source), danger, Outcome::Blocked);
                return false;
            }
        };
        let present = |word: &u64| PasidDirectoryEntry::from_bits(*word).present();
        let used = self.roll.frames.table(copy).iter().any(present);
        self.roll.frames.release(copy);
        used
    }

    fn visit_directory(
        &mut self,
        source: SourceId,
        rid_pasid: u32,
        directory: Directory,
    ) -> Result<(), OutOfMemory> {
        for index in 0..directory.pages * ENTRIES {
            let (page, entry) = directory.place(index);
            let old = PasidDirectoryEntry::from_bits(self.roll.frames.table(page)[entry]);
            let mut new = PasidDirectoryEntry::new().with_fault_disabled(old.fault_disabled());
            match self.copy_pasid_table(old) {
                Ok(Some(table)) => {
                    self.tables.remember_pasid_table(table)?;
                    self.visit_pasid_table(source, rid_pasid, index, table)?;
                    new = old.with_frame(table.get() / PAGE_SIZE);
                }
                Ok(None) => {}
                Err(danger) => self.lose_device(source, danger)?,
            }
            self.roll.frames.table_mut(page)[entry] = new.into_bits();
        }
        Ok(())
    }

    fn copy_pasid_table(&mut self, old: PasidDirectoryEntry) -> Result<Option<PhysicalAddress>, Danger> {
        if !old.present() {
            return Ok(None);
        }
        if old.reserved_bits(self.roll.surroundings.host_address_bits) != 0 {
            return Err(Danger::ReservedBits);
        }
        self.copy(old.table()).map(Some)
    }

    /// Lists the present entries of a copied PASID table; all other entries block.
    fn visit_pasid_table(
        &mut self,
        source: SourceId,
        rid_pasid: u32,
        directory_index: usize,
        table: PhysicalAddress,
    ) -> Result<(), OutOfMemory> {
        for index in 0..PASID_TABLE_ENTRIES {
            let slot = Slot { table, word: index * PASID_ENTRY_WORDS };
            let words = self.roll.frames.table(table).as_chunks().0[index];
            let entry = PasidEntry::from_words(words);
            let tag = (directory_index * PASID_TABLE_ENTRIES + index) as u32;
            let (present, entry) = (entry.second.present(), Entry::Pasid(entry));
            if present {
                let pasid = Some(tag).filter(|pasid| *pasid != rid_pasid);
                let entry = entry::Entry::Vtd(entry);
                self.list(Context { source, pasid, entry, domain: None, tag, slot: Some(slot) })?;
            } else {
                entry.blocked().fill(slot, self.roll.frames);
            }
        }
        Ok(())
    }
}
