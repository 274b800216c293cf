//! Merges mappings into runs: neighbouring pages, of any size, that lead to neighbouring memory are one run.

/// I/O addresses that lead to consecutive physical addresses, with the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// First I/O address.
    pub(crate) iova: u64,
    /// Physical address to which that one leads.
    pub(crate) address: u64,
    /// How many bytes.
    pub(crate) len: u64,
    /// Whether the device may write there.
    pub(crate) writable: bool,
}

impl Run {
    /// The first I/O address behind it.
    pub(crate) fn end(&self) -> u64 {
        self.iova + self.len
    }

    /// The part between two I/O addresses that lie in it.
    fn part(self, start: u64, end: u64) -> Self {
        Self { iova: start, address: self.address + (start - self.iova), len: end - start, ..self }
    }

    /// The part that leads to these physical addresses.
    pub(crate) fn leading_to(self, addresses: machine::Range<u64>) -> Option<Self> {
        let part = machine::Range::new(self.address, self.address + self.len).intersection(addresses);
        let start = self.iova + part.start.saturating_sub(self.address);
        (!part.is_empty()).then(|| self.part(start, start + part.len()))
    }

    /// Whether both lead to the same addresses where they overlap.
    fn agrees(&self, other: &Self) -> bool {
        self.writable == other.writable
            && self.address.wrapping_sub(self.iova) == other.address.wrapping_sub(other.iova)
    }
}

/// Runs under construction, from mappings that come in order.
#[derive(Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
}

impl Runs {
    pub(super) fn push(&mut self, next: Run) {
        match self.runs.last_mut() {
            Some(last) if last.end() == next.iova && last.agrees(&next) => last.len += next.len,
            _ => self.runs.push(next),
        }
    }

    pub(super) fn finish(self) -> Vec<Run> {
        self.runs
    }
}

/// The parts of runs that are for I/O addresses outside a range.
pub(crate) fn without(runs: &[Run], iovas: machine::Range<u64>) -> Vec<Run> {
    let outside = |run: &Run| {
        let below = (run.iova < iovas.start).then(|| run.part(run.iova, run.end().min(iovas.start)));
        let above = (run.end() > iovas.end).then(|| run.part(run.iova.max(iovas.end), run.end()));
        below.into_iter().chain(above)
    };
    runs.iter().flat_map(outside).collect()
}

/// The parts of `runs` that `others` do not map likewise. Both are in order of their I/O addresses.
pub(crate) fn difference(runs: &[Run], others: &[Run]) -> Vec<Run> {
    let mut left = Vec::new();
    for run in runs {
        let mut start = run.iova;
        let first = others.partition_point(|other| other.end() <= run.iova);
        for other in others[first..].iter().take_while(|other| other.iova < run.end()) {
            if !run.agrees(other) {
                continue;
            }
            if start < other.iova {
                left.push(run.part(start, other.iova));
            }
            start = other.end().min(run.end());
        }
        if start < run.end() {
            left.push(run.part(start, run.end()));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(iova: u64, address: u64, len: u64) -> Run {
        Run { iova, address, len, writable: true }
    }

    #[test]
    fn neighbours_that_lead_to_neighbours_are_one_run() {
        let mut runs = Runs::default();
        for next in [run(0, 0x5000, 0x1000), run(0x1000, 0x6000, 0x20_0000), run(0x20_1000, 0, 0x1000)] {
            runs.push(next);
        }
        assert_eq!(runs.finish(), [run(0, 0x5000, 0x20_1000), run(0x20_1000, 0, 0x1000)]);
    }

    #[test]
    fn what_leads_elsewhere_or_nowhere_is_left_over() {
        let these = [run(0x1000, 0x1000, 0x4000)];
        let hole = [run(0x1000, 0x1000, 0x1000), run(0x3000, 0x3000, 0x2000)];
        assert_eq!(difference(&these, &hole), [run(0x2000, 0x2000, 0x1000)]);
        let elsewhere = [run(0x1000, 0x1000, 0x2000), run(0x3000, 0x9000, 0x2000)];
        assert_eq!(difference(&these, &elsewhere), [run(0x3000, 0x3000, 0x2000)]);
        assert_eq!(difference(&these, &[]), these);
    }

    #[test]
    fn a_range_of_io_addresses_can_be_left_out() {
        let runs = [run(0x1000, 0x8000, 0x4000)];
        let around = [run(0x1000, 0x8000, 0x1000), run(0x3000, 0xa000, 0x2000)];
        assert_eq!(without(&runs, machine::Range::new(0x2000, 0x3000)), around);
        assert_eq!(without(&runs, machine::Range::new(0, u64::MAX)), []);
        assert_eq!(without(&runs, machine::Range::new(0, 0x1000)), runs);
    }

    #[test]
    fn how_pages_are_cut_makes_no_difference_but_rights_do() {
        let whole = [run(0, 0x10_0000, 0x3000)];
        let parts = [run(0, 0x10_0000, 0x1000), run(0x1000, 0x10_1000, 0x2000)];
        assert!(difference(&whole, &parts).is_empty() && difference(&parts, &whole).is_empty());
        let read_only = [Run { writable: false, ..whole[0] }];
        assert_eq!(difference(&whole, &read_only), whole);
    }
}
