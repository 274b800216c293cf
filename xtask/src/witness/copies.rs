//! The tables that Holdover left in its memory, compared with the dead kernel's: mapping by mapping, not just where devices
//! happened to go.

use machine::Range;
use serde::Serialize;

use super::tables::{Run, Tables, difference, without};
use crate::damage::{Fate, Wound};
use crate::reserved::Reserved;
use crate::scenario::device::Device;

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
    /// What was damaged.
    pub(crate) wound: Option<&'a Wound>,
}

impl Copies<'_> {
    /// Compares what every function reaches.
    pub(crate) fn judge(&self) -> Copied {
        let mut copied = Copied::default();
        let (dead, new) = (self.dead.functions(), self.new.functions());
        for &source in &dead {
            self.compare(source, &mut copied);
        }
        let unknown = new.iter().filter(|source| !dead.contains(source) && !self.disk.contains(source));
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
        let lost = difference(&open, &after);
        copied.bytes_lost += bytes(&lost);
        copied.complain(source, "lost", &lost);
        let (own, foreign) = self.split(&difference(&after, &self.dead.allowed(source)));
        copied.bytes_added += bytes(&own);
        copied.complain(source, "gained", &foreign);
        copied.complain(source, "reaches Holdover's memory in", &self.trespasses(source, &after));
    }

    /// Ways into Holdover's memory that it did not make for the dump's disk.
    ///
    /// Whoever is in the disk's domain goes by the same tables, also by those entries that were made for the disk: at I/O
    /// addresses at which the dead kernel's tables reached no memory.
    fn trespasses(&self, source: u16, after: &[Run]) -> Vec<Run> {
        let shares = |disk: &u16| self.new.way(*disk) == self.new.way(source);
        let (mut inside, _) = self.split(after);
        if self.disk.iter().any(shares) {
            inside.retain(|run| self.dead.translate(source, run.iova).is_some());
        }
        inside
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
        let inside: Vec<_> = runs.iter().flat_map(|run| self.inside(*run)).collect();
        let outside = difference(runs, &inside);
        (inside, outside)
    }

    fn inside(&self, run: Run) -> Vec<Run> {
        let whole = Range::new(run.address, run.address + run.len);
        let parts = self.reserved.pieces().iter().map(|piece| whole.intersection(*piece));
        parts.filter(|part| !part.is_empty()).map(|part| run.leading_to(part)).collect()
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
