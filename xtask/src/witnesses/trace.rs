//! The first witness: QEMU's trace of its remapping unit, which names every access, every fault and every command.

mod checking;
mod event;
mod handed_over;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use machine::{PAGE_SIZE, Range};

use super::tables::{ADDRESS, Root};
pub(crate) use checking::{Reference, Traced};
use event::{Entry, Event, parse};
pub(crate) use handed_over::{HandedOver, Times};

/// A trace that was read, with what is known about the crash from elsewhere.
pub(crate) struct Trace {
    /// Before the panic.
    before: Vec<Entry>,
    /// From the panic on.
    after: Vec<Entry>,
}

impl Trace {
    /// Reads a trace and cuts it in two at the panic.
    pub(crate) fn read(file: &Path, panic: SystemTime) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("no trace in {}", file.display()))?;
        let entries = event::with_requests(text.lines().filter_map(parse).collect());
        let mut before = with_whole_bases(entries);
        let panic = panic.duration_since(UNIX_EPOCH)?;
        let after = before.split_off(before.partition_point(|entry| entry.at < panic));
        Ok(Self { before, after })
    }

    /// The dead kernel's root table.
    pub(crate) fn dead_root(&self) -> Result<Root> {
        self.before.iter().rev().find_map(Entry::root).context("the dead kernel set no root table")
    }

    /// Where AMD's unit logged events for the dead kernel.
    pub(crate) fn dead_log(&self) -> Option<Range<u64>> {
        /// Bytes of an event; the register's bits 59:56 say how many there are, as a power of 2 (AMD I/O virtualization technology
        /// specification, section 3.4.3).
        const EVENT: u64 = 16;
        let named = |entry: &Entry| match entry.event {
            Event::Log(register) => Some(register),
            _ => None,
        };
        let register = self.before.iter().rev().find_map(named)?;
        Range::sized(register & ADDRESS, EVENT << (register >> 56 & 0xf))
    }

    /// Holdover's root table, if it has set one.
    pub(crate) fn new_root(&self) -> Option<Root> {
        self.after.iter().rev().find_map(Entry::root)
    }

    /// The lowest I/O page that a function has used before the panic: the sound controller's are the samples it plays.
    pub(crate) fn lowest_iova(&self, source: u16) -> Option<u64> {
        let used = self.before.iter().filter_map(|entry| match entry.event {
            Event::Translated { source: user, iova, .. } | Event::Answered { source: user, iova, .. }
                if user == source =>
            {
                Some(iova & !(PAGE_SIZE - 1))
            }
            _ => None,
        });
        used.min()
    }

    /// The I/O pages that some functions may have used from the panic on. QEMU tells where an access begins and not how long it
    /// is: in a large page, the end of a frame that a card receives may be one page on.
    pub(crate) fn used_by(&self, sources: &[u16]) -> HashSet<u64> {
        let page = |entry: &Entry| match entry.event {
            Event::Used { source, iova } | Event::Answered { source, iova, .. }
                if sources.contains(&source) =>
            {
                Some(iova & !(PAGE_SIZE - 1))
            }
            _ => None,
        };
        self.after.iter().filter_map(page).flat_map(|page| [page, page.saturating_add(PAGE_SIZE)]).collect()
    }
}

/// Adds what two halves of a base make together, of the device table or the event log, as Linux writes them: the lower one first, and the
/// unit has them when the upper one comes.
fn with_whole_bases(entries: Vec<Entry>) -> Vec<Entry> {
    let (mut low, mut low_of_log) = (0, 0);
    let mut whole = Vec::with_capacity(entries.len());
    for entry in entries {
        let (at, event) = (entry.at, entry.event.clone());
        whole.push(entry);
        match event {
            Event::HalfRoot { high: false, half } => low = half,
            Event::HalfRoot { high: true, half } => {
                whole.push(Entry { at, event: Event::Root(Root::of_devices(half << 32 | low)) });
            }
            Event::HalfLog { high: false, half } => low_of_log = half,
            Event::HalfLog { high: true, half } => {
                whole.push(Entry { at, event: Event::Log(half << 32 | low_of_log) });
            }
            _ => {}
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_the_dead_kernel_is_where_two_halves_say() {
        let halves = "2026-11-30T13:59:31.348092Z amdvi_mmio_write AMDVI_MMIO_EVENT_BASE write addr 0x10, size 4, val 0x11f4000, offset 0x0
2026-11-30T13:59:31.348095Z amdvi_mmio_write UNHANDLED write addr 0x14, size 4, val 0x9000000, offset 0x4";
        let before = with_whole_bases(halves.lines().filter_map(parse).collect());
        let trace = Trace { before, after: Vec::new() };
        assert_eq!(trace.dead_log(), Some(Range::new(0x11f_4000, 0x11f_6000)));
    }

    #[test]
    fn an_access_may_run_into_the_next_page_and_no_further() {
        let used = "77@1.000002:vtd_iotlb_page_hit IOTLB page hit sid 0x90 iova 0x3e81ec0 slpte 0x3e00083 domain 0x2";
        let trace = Trace { before: Vec::new(), after: vec![parse(used).unwrap()] };
        assert_eq!(trace.used_by(&[0x90]), HashSet::from([0x3e8_1000, 0x3e8_2000]));
        assert_eq!(trace.used_by(&[0xa0]), HashSet::new());
    }
}
