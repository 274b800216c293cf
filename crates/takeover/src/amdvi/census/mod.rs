//! Takes the census of an AMD-Vi unit: device table and CR3 tables are copied into frames of our own and checked there; these
//! copies become the new tables.

mod guest;

use amdvi::control::DeviceTableBase;
use amdvi::device_table::DeviceTableEntry;
use machine::{ENTRIES, Frames, OldMemory, PAGE_SIZE, PhysicalAddress, Registers, SourceId, Table};

use crate::amdvi::entry::{self, Entry, Says, says};
use crate::amdvi::judge::{Abilities, DOMAINS, Passing};
use crate::amdvi::segment::Segment;
use crate::amdvi::tables::Tables;
use crate::amdvi::unit::Unit;
use crate::census::{Census, Roll, root_lost};
use crate::entry::{Entry as AnyEntry, Link, Slot};
use crate::failure::Reason;
use crate::found::{Context, Layout};
use crate::hazard::{Danger, HazardPlace, Outcome};
use crate::resources::Resources;
use crate::sources::Sources;
use crate::surroundings::Surroundings;
use crate::table::{copy_table, new_table, read_table};
use machine::growth::OutOfMemory;

/// Takes the census of a unit, and returns the tables of our own that it made. It writes only to frames of our own.
pub(crate) fn take<R: Registers, C, M: OldMemory, F: Frames>(
    unit: &Unit<'_, R, C>,
    resources: &mut Resources<'_, M, F>,
) -> Result<(Census, Tables), Reason> {
    if !unit.control().enabled() {
        return Err(Reason::TranslationOff);
    }
    let abilities = Abilities::of(unit);
    let known = known(resources.surroundings)?;
    let roll = Roll::new(resources, Abilities::ARCHITECTURE, DOMAINS)?;
    let mut taker = Taker { roll, abilities, tables: Tables::default(), known, has_unlisted: false };
    taker.copy_device_table(unit)?;
    taker.visit_device_table()?;
    let of_unlisted = taker.sort_contexts()?;
    Ok((taker.roll.close(of_unlisted), taker.tables))
}

/// How many pages a segment with this base has.
fn pages_of(base: DeviceTableBase) -> usize {
    usize::from(base.size()) + 1
}

/// Where a page of it is.
fn page_of(base: DeviceTableBase, page: usize) -> PhysicalAddress {
    base.table().start.saturating_add(page as u64 * PAGE_SIZE)
}

/// Whether all entries of a page of the device table block their devices.
fn blocks_all(page: &Table) -> bool {
    let entries = page.as_chunks().0.iter();
    entries.copied().all(|words| says(DeviceTableEntry::from_words(words)) == Says::Blocks)
}

/// The devices that there are, as far as the caller knows.
fn known(surroundings: &Surroundings<'_>) -> Result<Sources, OutOfMemory> {
    let mut known = Sources::default();
    let functions = surroundings.device_tlbs.iter().map(|tlb| tlb.source);
    functions.chain(surroundings.wanted.iter().copied()).try_for_each(|source| known.insert(source))?;
    Ok(known)
}

/// Copies the device table, and lists its entries in the order of source-ids.
struct Taker<'a, M, F> {
    roll: Roll<'a, M, F>,
    abilities: Abilities,
    tables: Tables,
    known: Sources,
    /// Whether there are devices of which nothing is known, and in whose entries nothing is valid.
    has_unlisted: bool,
}

impl<M: OldMemory, F: Frames> Taker<'_, M, F> {
    /// Copies all segments of the device table: into frames that follow each other, as hardware demands, or into single ones.
    fn copy_device_table<R: Registers, C>(&mut self, unit: &Unit<'_, R, C>) -> Result<(), Reason> {
        let segments = unit.control().segments();
        for number in 0..segments {
            let found = unit.device_table(number);
            let segment = match self.new_segment((number, segments), found)? {
                Some(segment) => {
                    self.copy_segment(&segment)?;
                    segment
                }
                None => self.copy_in_pieces((number, segments), found)?,
            };
            self.tables.remember_segment(segment)?;
        }
        Ok(())
    }

    /// An empty segment for all devices that there are, as far as is known, or at least for those of the dead kernel's; `None` if no
    /// frames are left side by side.
    fn new_segment(
        &mut self,
        place: (usize, usize),
        found: DeviceTableBase,
    ) -> Result<Option<Segment>, OutOfMemory> {
        let (old, pages) = (found.table().start, pages_of(found));
        let known = self.frames_for_known(place.0, place.1).max(pages);
        let larger = self.allocate(known, old).map(|start| (known, start));
        let frames = larger.or_else(|| Some((pages, self.allocate(pages, old)?)));
        frames.map(|(frames, start)| Segment::side_by_side(place, found, frames, start)).transpose()
    }

    /// Takes frames that follow each other: below 4 GiB if the old kernel's table is there, or the base could not move in one step.
    fn allocate(&mut self, pages: usize, old: PhysicalAddress) -> Option<PhysicalAddress> {
        const LIMIT: PhysicalAddress = PhysicalAddress::new(1 << 32);
        let low = (old < LIMIT).then(|| self.roll.frames.allocate_run_below(pages, LIMIT)).flatten();
        match pages {
            _ if low.is_some() => low,
            1 => self.roll.frames.allocate(),
            _ => self.roll.frames.allocate_run(pages),
        }
    }

    /// How many frames a segment must have for all devices that there are, as far as is known. Requests of a device for which
    /// there is no entry pass untranslated (2.2.2): it could reach our memory, and could not be attached.
    fn frames_for_known(&self, number: usize, segments: usize) -> usize {
        let Surroundings { device_tlbs, wanted, .. } = *self.roll.surroundings;
        let known = device_tlbs.iter().map(|tlb| tlb.source).chain(wanted.iter().copied());
        known.filter_map(|source| Segment::frames_for(source, number, segments)).max().unwrap_or(0)
    }

    /// Copies a segment page by page. The takeover is refused if the first page of all cannot be read; any other that cannot
    /// blocks its devices: hardware could not read it either, or must not.
    fn copy_segment(&mut self, segment: &Segment) -> Result<(), Reason> {
        let own = self.roll.surroundings.own_memory();
        for (page, frame) in segment.frames().enumerate().take(pages_of(segment.found)) {
            let old = page_of(segment.found, page);
            let Err(danger) = read_table(old, frame, self.roll.old, self.roll.frames, own) else { continue };
            let first = segment.devices_in(page).next().unwrap_or_default();
            if first == SourceId(0) {
                return Err(root_lost(danger));
            }
            let blocked = entry::blocked(DeviceTableEntry::default()).words();
            self.roll.frames.table_mut(frame).as_chunks_mut().0.fill(blocked);
            self.roll.hazards.note(HazardPlace::Bus(first.bus()), danger, Outcome::Blocked);
        }
        Ok(())
    }

    /// Copies those pages of a segment of which something must be known or may have to change: the dead kernel's stays in force, and all
    /// devices of the others are blocked there. The takeover is refused if that does not fit either, or if a page cannot be read, since
    /// then the dead kernel's cannot stay.
    fn copy_in_pieces(&mut self, place: (usize, usize), found: DeviceTableBase) -> Result<Segment, Reason> {
        let own = self.roll.surroundings.own_memory();
        let mut segment = Segment::in_pieces(place, found);
        for page in 0..pages_of(found) {
            let copy = copy_table(page_of(found, page), self.roll.old, self.roll.frames, own);
            let frame = copy.map_err(|danger| match danger {
                Danger::OverBudget => Reason::DeviceTable { pages: pages_of(found) },
                danger => root_lost(danger),
            })?;
            let is_known = segment.devices_in(page).any(|source| self.known.contains(source));
            let matters = is_known || !blocks_all(self.roll.frames.table(frame));
            if !matters {
                self.roll.frames.release(frame);
            }
            segment.add_page(matters.then_some(frame))?;
        }
        Ok(segment)
    }

    /// Lists the entries of all segments that say how requests are translated; all others block, or wait for the map that
    /// replaces pass-through.
    fn visit_device_table(&mut self) -> Result<(), OutOfMemory> {
        for number in 0.. {
            let Some(segment) = self.tables.segments().get(number) else { break };
            let segment = segment.lent()?;
            for (source, slot) in segment.slots() {
                self.visit(source, slot)?;
            }
        }
        self.roll.contexts.sort_unstable_by_key(|context| (context.source, context.tag));
        self.tables.tags.sort();
        Ok(())
    }

    fn visit(&mut self, source: SourceId, slot: Slot) -> Result<(), OutOfMemory> {
        let found = self.entry(slot);
        match says(found) {
            Says::NotValid if !self.known.contains(source) => {
                self.has_unlisted = true;
                Ok(())
            }
            Says::Host | Says::Guest if found.reserved_bits()[..entry::MEMORY_WORDS] != [0; 2] => {
                self.lose(source, slot, Danger::ReservedBits)
            }
            Says::NotValid | Says::Host => self.list(Context {
                source,
                pasid: None,
                entry: AnyEntry::AmdVi(Entry::Device(found)),
                domain: None,
                tag: 0,
                slot: Some(slot),
            }),
            Says::Guest => self.visit_guest(source, slot, found),
            // It is given the tables that map nothing when all ids are known.
            Says::Blocks => Ok(()),
        }
    }

    fn entry(&self, slot: Slot) -> DeviceTableEntry {
        let words = self.roll.frames.table(slot.table);
        DeviceTableEntry::from_words(core::array::from_fn(|offset| words[(slot.word + offset) % ENTRIES]))
    }

    /// Blocks a device.
    fn lose(&mut self, source: SourceId, slot: Slot, danger: Danger) -> Result<(), OutOfMemory> {
        let blocked = entry::blocked(self.entry(slot));
        entry::fill(blocked, slot, self.roll.frames);
        self.roll.hazards.note(HazardPlace::Device(source), danger, Outcome::Blocked);
        if danger == Danger::OverBudget { self.roll.unknown.insert(source) } else { Ok(()) }
    }

    /// Lists an entry, if there is room; otherwise its copy blocks.
    fn list(&mut self, context: Context) -> Result<(), OutOfMemory> {
        let id = context.entry.domain();
        match context.entry {
            AnyEntry::AmdVi(Entry::Guest { .. }) => self.tables.tags.add((id, Some(context.tag)))?,
            _ => self.tables.tags.add((id, None))?,
        }
        if self.roll.list(context)? {
            return Ok(());
        }
        match (context.slot, context.entry) {
            (Some(slot), AnyEntry::AmdVi(Entry::Device(found))) => {
                entry::fill(entry::blocked(found), slot, self.roll.frames);
            }
            (Some(slot), _) => slot.fill(&[0], self.roll.frames),
            (None, _) => {}
        }
        Ok(())
    }

    /// Makes the tables for devices that are blocked.
    fn fence(&mut self) -> Option<Link> {
        let Layout { format, top } = self.abilities.own_layout()?;
        let id = self.roll.domains.ids.take_unused()?;
        Some(Link { format, root: new_table(self.roll.frames)?, top, id })
    }

    /// Puts all listed contexts into their domains, or refuses them. Devices that passed because nothing in their entries is
    /// valid get a domain of their own; returns it, if devices that are not listed are in it.
    fn sort_contexts(&mut self) -> Result<Option<usize>, OutOfMemory> {
        let (abilities, bits) = (self.abilities, self.roll.surroundings.host_address_bits);
        let passing = Passing::new(&mut self.roll.domains.ids);
        self.tables.fence = self.fence();
        self.roll.sort_contexts(|entry| abilities.judge(entry, passing, bits))?;
        let found = passing.not_valid.ok_or(Danger::NoDomainId).and_then(|id| abilities.passing(id, bits));
        match found {
            _ if !self.has_unlisted => Ok(None),
            Ok(found) => self.roll.domains.enter(found, 0, HazardPlace::Unit, &mut self.roll.hazards),
            Err(danger) => {
                self.roll.hazards.note(HazardPlace::Unit, danger, Outcome::Blocked);
                Ok(None)
            }
        }
    }
}
