//! Compares the tables that Holdover left in its memory with the dead kernel's: every mapping, and not only those
//! that devices happened to use.

use serde::Serialize;

use machine::{PAGE_SIZE, Range};

use super::tables::{self, Run, Tables, difference, without};
use crate::crashes::damage::{Fate, Wound};
use crate::machines::reserved::Reserved;
use crate::machines::scenario::device::Device;

/// What the comparison found, in bytes of I/O addresses.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Copied {
    /// Mapped by the dead kernel's tables, over all functions.
    pub(crate) bytes_compared: u64,
    /// Mapped by the dead kernel, and now not, or to somewhere else. Ways into Holdover's memory are not counted.
    pub(crate) bytes_lost: u64,
    /// Ways into Holdover's memory that the dead kernel's tables had, and that are closed now.
    pub(crate) bytes_closed: u64,
    /// Mapped now and not by the dead kernel: only the dump's disk may have such, into Holdover's memory.
    pub(crate) bytes_added: u64,
    /// The first of each kind of trouble.
    #[serde(skip)]
    pub(crate) problems: Vec<String>,
}

/// Two sets of tables, and what may differ.
pub(crate) struct Copies<'a> {
    /// What the dead kernel left.
    pub(crate) dead: Tables<'a>,
    /// What is in force at the end.
    pub(crate) new: Tables<'a>,
    /// Holdover's memory.
    pub(crate) reserved: &'a Reserved,
    /// Source-ids of the dump's disk.
    pub(crate) disk: &'a [u16],
    /// Memory that the tables' file does not have: who reached memory untranslated reached it too.
    pub(crate) persistent: &'a [Range<u64>],
    /// What was damaged.
    pub(crate) wound: Option<&'a Wound>,
}

impl Copies<'_> {
    /// Compares what every function reaches.
    pub(crate) fn check(&self) -> Copied {
        let mut copied = Copied::default();
        let (dead, new) = (self.dead.functions(), self.new.functions());
        for &source in &dead {
            self.compare(source, &mut copied);
        }
        // For what AMD's unit finds no entry, there was no need of one.
        let is_known = |source: u16| self.dead.way(source).is_some() || self.disk.contains(&source);
        let unknown = new.iter().filter(|source| !is_known(**source));
        for &source in unknown {
            let name = Device::name_of(source);
            copied.problems.push(format!("{name} reaches memory now, which it did not before"));
        }
        copied
    }

    fn compare(&self, source: u16, copied: &mut Copied) {
        let Some([before, after]) = self.runs(source) else { return };
        copied.bytes_compared += bytes(&before);
        let (closed, open) = self.split(&before);
        copied.bytes_closed += bytes(&closed);
        let kept_out = self.kept_out(source);
        let reached = difference(&after, &difference(&after, &kept_out));
        copied.complain(source, "still reaches the device table in", &reached);
        let lost = difference(&difference(&open, &kept_out), &after);
        copied.bytes_lost += bytes(&lost);
        copied.complain(source, "lost", &lost);
        if self.dead.untranslated().contains(&source) {
            let persistent: Vec<_> = self.persistent.iter().copied().map(tables::identity).collect();
            copied.bytes_compared += bytes(&persistent);
            copied.complain(source, "lost persistent memory in", &difference(&persistent, &after));
        }
        let (own, foreign) = self.split(&difference(&after, &self.dead.allowed(source)));
        copied.bytes_added += bytes(&own);
        copied.complain(source, "gained", &foreign);
        copied.complain(source, "reaches Holdover's memory in", &self.trespasses(source, &after));
        copied.complain(source, "still reaches, through damaged tables,", &self.unclosed(source));
    }

    /// What a function must not reach any more that reached memory untranslated: a device table that stays in force.
    fn kept_out(&self, source: u16) -> Vec<Run> {
        let stays = self.new.are_in_place_of(&self.dead) && self.dead.untranslated().contains(&source);
        let pages = self.dead.device_table_pages().filter(|_| stays);
        pages.map(|page| tables::identity(Range::new(page, page + PAGE_SIZE))).collect()
    }

    /// Mappings of the victim's I/O addresses that must be closed: only those may be there that were made for the dump's disk.
    fn unclosed(&self, source: u16) -> Vec<Run> {
        let wound = self.wound.filter(|wound| wound.source == source && wound.fate == Fate::Closed);
        let Some(wound) = wound else { return Vec::new() };
        let all = self.new.runs(source);
        let open = difference(&all, &without(&all, wound.iovas));
        if self.disk.contains(&source) { self.split(&open).1 } else { open }
    }

    /// Mappings that lead into Holdover's memory: only the dump's disk may have any, even if others share its domain.
    fn trespasses(&self, source: u16, after: &[Run]) -> Vec<Run> {
        if self.disk.contains(&source) { Vec::new() } else { self.split(after).0 }
    }

    /// What a function reached, and reaches; without what goes through damaged tables, which a witness does not follow: there
    /// may be no end to them.
    fn runs(&self, source: u16) -> Option<[Vec<Run>; 2]> {
        let tables = [self.dead, self.new];
        match self.wound.filter(|wound| wound.source == source) {
            Some(wound) if wound.fate == Fate::Open => None,
            Some(wound) => Some(tables.map(|tables| without(&tables.runs(source), wound.iovas))),
            None => Some(tables.map(|tables| tables.runs(source))),
        }
    }

    /// The parts of runs that lead into Holdover's memory, and the others.
    fn split(&self, runs: &[Run]) -> (Vec<Run>, Vec<Run>) {
        let pieces = self.reserved.pieces();
        let inside = |run: &Run| pieces.iter().filter_map(|piece| run.leading_to(*piece)).collect::<Vec<_>>();
        let inside: Vec<_> = runs.iter().flat_map(inside).collect();
        let outside = difference(runs, &inside);
        (inside, outside)
    }
}

impl Copied {
    /// Tells of the first such run.
    fn complain(&mut self, source: u16, what: &str, runs: &[Run]) {
        if let Some(Run { iova, address, len, .. }) = runs.first() {
            let (name, all) = (Device::name_of(source), bytes(runs));
            let first = format!("first {len:#x} from {iova:#x}, which led to {address:#x}");
            self.problems.push(format!("{name} {what} {all:#x} bytes: {first}"));
        }
    }
}

fn bytes(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.len).sum()
}

#[cfg(test)]
mod tests {
    use super::super::tables::made::{context, legacy, with_ram};
    use super::super::tables::{Layout, Root};
    use super::*;

    const SOUND: u16 = Device::SOUND.source_id();
    const DISK: u16 = Device::DUMP_DISK.source_id();
    /// Holdover's memory; the dead kernel's tables start at 0x1000.
    const HOLDOVER: Range<u64> = Range::new(0x10_0000, 0x20_0000);
    const NEW: u64 = 0x10_0000;

    /// What is wrong with the new tables, as one text.
    fn problems(words: &[(u64, u64)]) -> String {
        problems_after(words, None)
    }

    fn problems_after(words: &[(u64, u64)], wound: Option<&Wound>) -> String {
        with_ram(HOLDOVER.end, words.iter().copied(), |ram| {
            let below = |address| Tables::new(ram, Root { address, layout: Layout::Legacy });
            let reserved = &Reserved::at(HOLDOVER);
            let copies = Copies {
                dead: below(0x1000),
                new: below(NEW),
                reserved,
                disk: &[DISK],
                persistent: &[],
                wound,
            };
            copies.check().problems.join("; ")
        })
    }

    #[test]
    fn an_exact_copy_is_not_objected_to() {
        let leaves = [(0x1000, 0x9_0000), (0x5000, 0x9_5000)];
        assert_eq!(problems(&[legacy(0x1000, SOUND, &leaves), legacy(NEW, SOUND, &leaves)].concat()), "");
    }

    #[test]
    fn a_mapping_that_is_lost_or_new_is_noticed() {
        let before = legacy(0x1000, SOUND, &[(0x1000, 0x9_0000)]);
        let lost = [before.clone(), legacy(NEW, SOUND, &[])].concat();
        assert!(problems(&lost).contains("HDA lost 0x1000 bytes"));
        let more = legacy(NEW, SOUND, &[(0x1000, 0x9_0000), (0x2000, 0x9_5000)]);
        assert!(problems(&[before, more].concat()).contains("HDA gained 0x1000 bytes"));
    }

    #[test]
    fn only_the_dumps_disk_may_reach_holdovers_memory() {
        let leaves = [(0x1000, HOLDOVER.start + 0x8_0000)];
        let of = |source| problems(&[legacy(0x1000, source, &[]), legacy(NEW, source, &leaves)].concat());
        assert_eq!(of(DISK), "");
        assert!(of(SOUND).contains("HDA reaches Holdover's memory in 0x1000 bytes"));
    }

    #[test]
    fn what_was_damaged_must_be_closed_wherever_it_leads() {
        let wound = |source| Wound {
            source,
            iovas: Range::new(0x1000, 0x2000),
            fate: Fate::Closed,
            words: Vec::new(),
        };
        let after = |source, leaves: &[(u64, u64)]| {
            let before = [(0x1000, 0x9_0000), (0x5000, 0x9_5000)];
            let words = [legacy(0x1000, source, &before), legacy(NEW, source, leaves)].concat();
            problems_after(&words, Some(&wound(source)))
        };
        let (sound, inside) = ((0x5000, 0x9_5000), (0x1000, HOLDOVER.start + 0x8_0000));
        assert_eq!(after(SOUND, &[sound]), "");
        assert!(after(SOUND, &[sound, (0x1000, 0x9_0000)]).contains("HDA still reaches, through damaged"));
        assert!(after(SOUND, &[sound, inside]).contains("HDA still reaches, through damaged"));
        assert_eq!(after(DISK, &[sound, inside]), "");
        assert!(after(SOUND, &[]).contains("HDA lost 0x1000 bytes"));
    }

    #[test]
    fn a_way_into_holdovers_memory_may_be_closed() {
        let inside = [(0x1000, HOLDOVER.start + 0x8_0000)];
        assert_eq!(problems(&[legacy(0x1000, SOUND, &inside), legacy(NEW, SOUND, &[])].concat()), "");
    }

    #[test]
    fn who_was_in_the_disks_domain_may_not_reach_what_was_made_for_the_disk() {
        let shared = |at, leaves: &[(u64, u64)]| {
            let mut words = legacy(at, DISK, leaves);
            words.extend(context(at, SOUND));
            words
        };
        let (old, inside) = ((0x1000, 0x9_0000), HOLDOVER.start + 0x8_0000);
        let made = [shared(0x1000, &[old]), shared(NEW, &[old, (0x2000, inside)])].concat();
        assert!(problems(&made).contains("HDA reaches Holdover's memory in 0x1000 bytes"));
    }
}
