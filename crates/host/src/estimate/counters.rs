//! The kernel's counters of memory (proc_meminfo(5)), for users who may not see pages: a rougher bound.

use vmcore::Level;

/// Bytes in the unit of the counters, and in a page.
const KIBIBYTE: u64 = 1024;

/// Counters that a dump's level has to do with, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    /// Memory that the kernel manages: without its own image and the array of its pages.
    pub(super) total: u64,
    free: u64,
    cache: u64,
    user: u64,
}

impl Counters {
    /// Reads them; `None` if it is another text.
    pub(super) fn read(meminfo: &str) -> Option<Self> {
        let kibibytes = |name: &str| -> Option<u64> {
            let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            value.trim().trim_end_matches("kB").trim_end().parse().ok()
        };
        let pages = |name| kibibytes(name).unwrap_or(0) * KIBIBYTE / super::PAGE;
        Some(Self {
            total: kibibytes("MemTotal")? * KIBIBYTE / super::PAGE,
            free: pages("MemFree"),
            cache: pages("Buffers") + pages("Cached") + pages("SwapCached"),
            user: pages("AnonPages") + pages("Hugetlb"),
        })
    }

    /// How many of `ram` pages a dump of this level has, at most.
    pub(super) fn kept(&self, level: Level, ram: u64) -> u64 {
        let level = level.number();
        let out = [(level & 16 != 0, self.free), (level & 6 != 0, self.cache), (level & 8 != 0, self.user)];
        let out: u64 = out.iter().filter(|(is_out, _)| *is_out).map(|(_, pages)| pages).sum();
        ram.saturating_sub(out)
    }
}
