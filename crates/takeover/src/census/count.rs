//! Counts how many tables a copy of each domain needs.

use machine::{ENTRIES, Frames, Level, OldMemory, PhysicalAddress, Range};
use paging::{Format, Step};

use super::Roll;
use crate::copies::Copies;
use crate::found::{Layout, OldDomain, Translation};
use crate::identity::Identity;
use crate::own::OwnMemory;
use crate::table::copy_table;

/// How many tables may be read for counting, over all domains, as a multiple of the frames that there are. Domains
/// that come after that count as too large.
const ROUNDS: u64 = 4;

/// How many tables a domain has; counting stops at one more than the limit.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: u64,
    /// Those that a compact copy needs too: above level 1, and those that split large pages.
    upper: u64,
}

impl<M: OldMemory, F: Frames> Roll<'_, M, F> {
    /// Counts the tables of each domain. A domain that has more than there are frames, or for which too many were
    /// counted already, counts as too large for any number of frames. To count a map in place of pass-through, nothing is
    /// read.
    pub(super) fn count_tables(&mut self) {
        let frames = self.frames.available() as u64;
        let mut left = frames * ROUNDS;
        for index in 0..self.domains.list.len() {
            let domain = self.domains.list[index];
            let is_read = domain.translation != Translation::Identity;
            let limit = if is_read { left.min(frames) } else { frames };
            let empty = self.maps_nothing(&domain);
            let count = if empty { Count::default() } else { self.count(index, limit) };
            let [tables, upper_tables] =
                [count.all, count.upper].map(|n| if n > limit { u64::MAX } else { n });
            self.domains.list[index] = OldDomain { empty, tables, upper_tables, ..domain };
            left = left.saturating_sub(if is_read { count.upper } else { 0 });
        }
    }

    fn count(&mut self, index: usize, limit: u64) -> Count {
        let domain = self.domains.list[index];
        match domain.translation {
            Translation::Identity if self.has_map(index) => Count::default(),
            Translation::Identity => {
                let all = self.identity(&domain).count(domain.layout.top, limit);
                Count { all, upper: all }
            }
            Translation::Tables(root) => {
                let mut counter = Counter {
                    old: self.old,
                    frames: self.frames,
                    own: self.surroundings.own_memory(),
                    format: domain.layout.format,
                    seen: Copies::default(),
                    count: Count::default(),
                    limit,
                };
                counter.visit(root, domain.layout.top);
                counter.count
            }
        }
    }

    fn identity(&self, domain: &OldDomain) -> Identity<'_> {
        Identity::new(self.surroundings, domain.layout.format, self.architecture)
    }

    /// Whether the map for a domain in pass-through is there already, or is made for a domain before it.
    fn has_map(&self, index: usize) -> bool {
        let Layout { format, top, .. } = self.domains.list[index].layout;
        let shape = self.identity(&self.domains.list[index]).shape(format, top);
        let before = self.domains.list[..index].iter();
        self.surroundings.maps.iter().any(|map| map.shape == shape)
            || before
                .filter(|other| other.translation == Translation::Identity)
                .any(|other| (other.layout.format, other.layout.top) == (format, top))
    }
}

/// Counts the tables of one domain by reading all but the lowest level.
struct Counter<'a, M, F> {
    old: &'a M,
    frames: &'a mut F,
    own: OwnMemory<'a>,
    format: Format,
    seen: Copies,
    count: Count,
    limit: u64,
}

impl<M: OldMemory, F: Frames> Counter<'_, M, F> {
    /// Counts the table at `address` and those below it, each once, until the count exceeds the limit.
    fn visit(&mut self, address: PhysicalAddress, level: Level) {
        let counted = if level == Level::ONE { self.count.all } else { self.count.upper };
        if counted > self.limit || self.seen.find(address, level).is_some() {
            return;
        }
        self.seen.remember(address, level, address);
        self.count.all += 1;
        if level == Level::ONE {
            return;
        }
        self.count.upper += 1;
        // Skips a table that cannot be read: the copier meets it again and reports it.
        if let Ok(copy) = copy_table(address, self.old, self.frames, self.own) {
            self.visit_entries(copy, level);
            self.frames.release(copy);
        }
    }

    fn visit_entries(&mut self, copy: PhysicalAddress, level: Level) {
        let mut next = 0;
        while let Some(index) = self.format.next_present(self.frames.table(copy), next) {
            let entry = self.format.entry(self.frames.table(copy)[index]);
            match entry.step(level) {
                Step::Table { table, level: below } => self.visit(table, below),
                Step::Page(page) => self.split(page.part(level, index), level),
                Step::Absent | Step::Malformed => {}
            }
            next = index + 1;
        }
    }

    /// Counts the tables that take the place of a leaf of this level, which maps `target`: those in which the copier
    /// cuts out our memory.
    fn split(&mut self, target: Range<PhysicalAddress>, level: Level) {
        let Some(below) = level.below() else { return };
        if !self.own.touches(target) || self.own.covers(target) || self.count.upper > self.limit {
            return;
        }
        self.count.all += 1;
        self.count.upper += 1;
        if below == Level::ONE {
            return;
        }
        for index in 0..ENTRIES as u64 {
            let start = target.start.saturating_add(index * below.span());
            self.split(Range::new(start, start.saturating_add(below.span())), below);
        }
    }
}
