//! Takes the census of an AMD-Vi unit: device table and CR3 tables are copied into frames of our own and checked there; these
//! copies become the new tables.

pub(crate) mod device_table;
mod guest;

use amdvi::control::Control;
use amdvi::device_table::DeviceTableEntry;
use machine::{ENTRIES, Frames, OldMemory, Registers, SourceId};

use crate::amdvi::entry::{self, Entry, Says, says};
use crate::amdvi::judge::{Abilities, DOMAINS, Passing};
use crate::amdvi::tables::Tables;
use crate::amdvi::unit::Unit;
use crate::census::{Census, Roll};
use crate::entry::{Entry as AnyEntry, Link, Slot};
use crate::failure::Reason;
use crate::found::{Context, Layout};
use crate::hazard::{Danger, HazardPlace, Hazards, Outcome};
use crate::resources::Resources;
use crate::sources::Sources;
use crate::table::new_table;
use machine::growth::OutOfMemory;

/// Takes the census of a unit by the copy of its device table, and returns all tables of our own. It writes only to frames of our own.
pub(crate) fn take<R: Registers, C, M: OldMemory, F: Frames>(
    unit: &Unit<'_, R, C>,
    (tables, hazards): (Tables, Hazards),
    resources: &mut Resources<'_, M, F>,
) -> Result<(Census, Tables), Reason> {
    let abilities = Abilities::of(unit);
    let known = device_table::known(resources.surroundings)?;
    let roll = Roll { hazards, ..Roll::new(resources, Abilities::ARCHITECTURE, DOMAINS)? };
    let control = unit.control();
    let mut taker = Taker { roll, abilities, control, tables, known, has_unlisted: false };
    taker.visit_device_table()?;
    let of_unlisted = taker.sort_contexts()?;
    Ok((taker.roll.close(of_unlisted), taker.tables))
}

/// Lists the entries of the copied device table in the order of source-ids, and copies the tables of guests that they name.
struct Taker<'a, M, F> {
    roll: Roll<'a, M, F>,
    abilities: Abilities,
    /// What decides how the unit reads entries.
    control: Control,
    tables: Tables,
    known: Sources,
    /// Whether there are devices of which nothing is known, and in whose entries nothing is valid.
    has_unlisted: bool,
}

impl<M: OldMemory, F: Frames> Taker<'_, M, F> {
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
        let found = self.heeded(slot);
        match says(found) {
            Says::NotValid if !self.known.contains(source) => {
                self.has_unlisted = true;
                Ok(())
            }
            Says::Host | Says::Guest if found.reserved_bits()[..entry::MEMORY_WORDS] != [0; 2] => {
                self.lose(source, slot, Danger::ReservedBits)
            }
            Says::NotValid | Says::Host => {
                let Some(device) = self.with_own_cr3(source, slot, found)? else { return Ok(()) };
                let entry = AnyEntry::AmdVi(Entry::Device(device));
                self.list(Context { source, pasid: None, entry, domain: None, tag: 0, slot: Some(slot) })
            }
            Says::Guest => self.visit_guest(source, slot, found),
            // It is given the tables that map nothing when all ids are known.
            Says::Blocks => Ok(()),
        }
    }

    /// The entry as far as the unit heeds it: without guest tables where it does not use them (GTEn), and then our copy has none either.
    fn heeded(&mut self, slot: Slot) -> DeviceTableEntry {
        let found = self.entry(slot);
        if self.control.guest_translation() || !found.host.valid() {
            return found;
        }
        let heeded = entry::without_guest(found);
        entry::fill(heeded, slot, self.roll.frames);
        heeded
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
