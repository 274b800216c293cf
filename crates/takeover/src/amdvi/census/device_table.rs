//! Copies the device table (2.2.2), in one piece or in segments, into frames of our own: whole segments that hardware can take, or, where
//! there is no room for that, the pages that matter.

use amdvi::control::DeviceTableBase;
use amdvi::device_table::DeviceTableEntry;
use machine::{Frames, OldMemory, PAGE_SIZE, PhysicalAddress, Registers, SourceId, Table};

use crate::amdvi::entry::{self, Says, says};
use crate::amdvi::segment::Segment;
use crate::amdvi::tables::Tables;
use crate::amdvi::unit::Unit;
use crate::census::root_lost;
use crate::failure::Reason;
use crate::hazard::{Danger, HazardPlace, Hazards, Outcome};
use crate::resources::Resources;
use crate::sources::Sources;
use crate::surroundings::Surroundings;
use crate::table::{copy_table, read_table};
use machine::growth::OutOfMemory;

/// Copies the device table of a unit. It writes only to frames of our own.
pub(crate) fn copy<R: Registers, C, M: OldMemory, F: Frames>(
    unit: &Unit<'_, R, C>,
    resources: &mut Resources<'_, M, F>,
    hazards: &mut Hazards,
) -> Result<Tables, Reason> {
    if !unit.control().enabled() {
        return Err(Reason::TranslationOff);
    }
    let Resources { old, ref mut frames, surroundings, .. } = *resources;
    let known = known(surroundings)?;
    Copier { old, frames: *frames, surroundings, known, hazards }.copy_device_table(unit)
}

/// Copies the segments of a device table.
struct Copier<'a, M, F> {
    old: &'a M,
    frames: &'a mut F,
    surroundings: &'a Surroundings<'a>,
    /// The devices that there are.
    known: Sources,
    hazards: &'a mut Hazards,
}

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Copies all segments of the device table: into frames that follow each other, as hardware demands, or into single ones.
    fn copy_device_table<R: Registers, C>(&mut self, unit: &Unit<'_, R, C>) -> Result<Tables, Reason> {
        let (segments, mut tables) = (unit.control().segments(), Tables::default());
        for number in 0..segments {
            let found = unit.device_table(number);
            let segment = match self.new_segment((number, segments), found)? {
                Some(segment) => {
                    self.copy_segment(&segment)?;
                    segment
                }
                None => self.copy_in_pieces((number, segments), found)?,
            };
            tables.remember_segment(segment)?;
        }
        Ok(tables)
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
        let low = (old < LIMIT).then(|| self.frames.allocate_run_below(pages, LIMIT)).flatten();
        match pages {
            _ if low.is_some() => low,
            1 => self.frames.allocate(),
            _ => self.frames.allocate_run(pages),
        }
    }

    /// How many frames a segment must have for all devices that there are, as far as is known. Requests of a device for which
    /// there is no entry pass untranslated (2.2.2): it could reach our memory, and could not be attached.
    fn frames_for_known(&self, number: usize, segments: usize) -> usize {
        let Surroundings { device_tlbs, wanted, .. } = *self.surroundings;
        let known = device_tlbs.iter().map(|tlb| tlb.source).chain(wanted.iter().copied());
        known.filter_map(|source| Segment::frames_for(source, number, segments)).max().unwrap_or(0)
    }

    /// Copies a segment page by page. The takeover is refused if the first page of all cannot be read; any other that cannot
    /// blocks its devices: hardware could not read it either, or must not.
    fn copy_segment(&mut self, segment: &Segment) -> Result<(), Reason> {
        let own = self.surroundings.own_memory();
        for (page, frame) in segment.frames().enumerate().take(pages_of(segment.found)) {
            let old = page_of(segment.found, page);
            let Err(danger) = read_table(old, frame, self.old, self.frames, own) else { continue };
            // None of those beyond the segment's share.
            let first = segment.devices_in(page).next();
            if first == Some(SourceId(0)) {
                return Err(root_lost(danger));
            }
            let blocked = entry::blocked(DeviceTableEntry::default()).words();
            self.frames.table_mut(frame).as_chunks_mut().0.fill(blocked);
            if let Some(first) = first {
                self.hazards.note(HazardPlace::Bus(first.bus()), danger, Outcome::Blocked);
            }
        }
        Ok(())
    }

    /// Copies those pages of a segment of which something must be known or may have to change: the dead kernel's stays in force, and all
    /// devices of the others are blocked there. The takeover is refused if that does not fit either, or if a page cannot be read, since
    /// then the dead kernel's cannot stay.
    fn copy_in_pieces(&mut self, place: (usize, usize), found: DeviceTableBase) -> Result<Segment, Reason> {
        let own = self.surroundings.own_memory();
        let mut segment = Segment::in_pieces(place, found);
        for page in 0..pages_of(found) {
            let copy = copy_table(page_of(found, page), self.old, self.frames, own);
            let frame = copy.map_err(|danger| match danger {
                Danger::OverBudget => Reason::DeviceTable { pages: pages_of(found) },
                danger => root_lost(danger),
            })?;
            let is_known = segment.devices_in(page).any(|source| self.known.contains(source));
            let matters = is_known || !blocks_all(self.frames.table(frame));
            if !matters {
                self.frames.release(frame);
            }
            segment.add_page(matters.then_some(frame))?;
        }
        Ok(segment)
    }
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
pub(super) fn known(surroundings: &Surroundings<'_>) -> Result<Sources, OutOfMemory> {
    let mut known = Sources::default();
    let functions = surroundings.device_tlbs.iter().map(|tlb| tlb.source);
    functions.chain(surroundings.wanted.iter().copied()).try_for_each(|source| known.insert(source))?;
    Ok(known)
}
