//! Tells how large a dump of the running kernel would be now, at a level.
//!
//! The kernel shows what each page is used for in `/proc/kpageflags` (Documentation/admin-guide/mm/pagemap.rst), also where it is locked
//! down, to root. Where it does not, its counters in `/proc/meminfo` give a bound that is rougher: they know no pages of devices or of
//! firmware, and count some pages twice. How well pages compress, nobody knows before: that is a range.

mod counters;
mod flags;

use std::fs;
use std::path::Path;

use kdump::Codec;
use machine::Range;
use vmcore::Level;

use crate::iomem;
use crate::progress::Progress;

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Bytes of a page's descriptor in a dump.
const DESCRIPTOR: u64 = 24;
/// Bytes of headers and notes in a dump, generously.
const HEADERS: u64 = 1 << 20;

/// How large a dump would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Which pages it would leave out.
    pub level: Level,
    /// How its pages would be compressed.
    pub codec: Codec,
    /// What it is made of.
    pub source: Source,
    /// Pages of RAM, without the crash reservation.
    pub ram: u64,
    /// Pages that the dump would have; among them those that are full of zeros, which take no room.
    pub pages: u64,
    /// Bytes of the dump if its pages compress well.
    pub least: u64,
    /// Bytes of the dump if they compress badly.
    pub most: u64,
}

/// What an estimate is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A count of all pages.
    Pages,
    /// The kernel's counters: a rougher bound.
    Counters,
}

/// The kernel shows neither its pages nor its counters.
#[derive(Debug, thiserror::Error)]
#[error("neither /proc/kpageflags nor /proc/meminfo can be read; is /proc mounted?")]
pub struct EstimateError;

/// Estimates the dump of a crash now. The steps of `progress` are pages.
pub fn estimate(level: Level, codec: Codec, progress: &dyn Progress) -> Result<Estimate, EstimateError> {
    estimate_below(Path::new("/"), level, codec, progress)
}

/// The same for the machine whose file systems are mounted below `root`.
pub(crate) fn estimate_below(
    root: &Path,
    level: Level,
    codec: Codec,
    progress: &dyn Progress,
) -> Result<Estimate, EstimateError> {
    let iomem = fs::read_to_string(root.join("proc/iomem")).unwrap_or_default();
    let ram = ram(&iomem);
    if let Some(counted) = flags::count(&root.join("proc/kpageflags"), &ram, progress) {
        return Ok(Estimate::of(Source::Pages, level, codec, counted.ram, counted.kept(level)));
    }
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let counters = counters::Counters::read(&meminfo).ok_or(EstimateError)?;
    let all = ram.iter().map(|range| range.len()).sum::<u64>().max(counters.total);
    Ok(Estimate::of(Source::Counters, level, codec, all, counters.kept(level, all)))
}

impl Estimate {
    fn of(source: Source, level: Level, codec: Codec, ram: u64, pages: u64) -> Self {
        let Ratio { least, most } = Ratio::of(codec);
        let fixed = HEADERS + ram.div_ceil(8) * 2 + pages * DESCRIPTOR;
        let bytes = |percent: u64| fixed + (pages * PAGE).div_ceil(100) * percent;
        Self { level, codec, source, ram, pages, least: bytes(least), most: bytes(most) }
    }
}

/// What is left of a dump's pages, in percent of them.
struct Ratio {
    least: u64,
    most: u64,
}

impl Ratio {
    /// From dumps of kernels, in which many pages are empty or much alike, to pages of programs, as `BENCHMARKS.md` measures them.
    fn of(codec: Codec) -> Self {
        let (least, most) = match codec {
            Codec::Zlib => (22, 66),
            Codec::Lzo => (24, 67),
            Codec::Zstd => (19, 50),
            _ => (63, 100),
        };
        Self { least, most }
    }
}

/// The page frames of RAM that a dump may have, without the crash reservation; none if the kernel hides addresses from this user.
fn ram(iomem: &str) -> Vec<Range<u64>> {
    let frames = |range: Range<u64>| Range::new(range.start / PAGE, range.end.div_ceil(PAGE));
    let named = |name| iomem::named(iomem, name).filter_map(iomem::bounds).map(frames).collect::<Vec<_>>();
    let reserved = named(|name| name == "Crash kernel");
    let mut ram = named(|name| name.starts_with("System RAM"));
    for hole in reserved {
        ram = ram.into_iter().flat_map(|range| without(range, hole)).collect();
    }
    ram
}

/// What is left of a range without another.
fn without(range: Range<u64>, hole: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let before = Range::new(range.start, range.end.min(hole.start).max(range.start));
    let after = Range::new(range.start.max(hole.end).min(range.end), range.end);
    [before, after].into_iter().filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IOMEM: &str = "00001000-0000ffff : System RAM\n00010000-000fffff : Reserved\n\
        00100000-002fffff : System RAM\n  00200000-0027ffff : Crash kernel\n";

    fn machine(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        for (name, content) in files {
            fs::write(root.path().join(name), content).unwrap();
        }
        root
    }

    fn estimated(files: &[(&str, &[u8])], level: u8) -> Result<Estimate, EstimateError> {
        let root = machine(files);
        estimate_below(root.path(), Level::new(level).unwrap(), Codec::Zlib, &())
    }

    #[test]
    fn the_crash_reservation_is_no_ram_of_the_dump() {
        let ranges: Vec<_> = ram(IOMEM).into_iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(ranges, [(1, 16), (0x100, 0x200), (0x280, 0x300)]);
        assert!(ram("00000000-00000000 : System RAM\n").is_empty(), "a user sees zeros");
    }

    #[test]
    fn pages_are_counted_where_the_kernel_shows_them() {
        let mut flags = vec![0; 0x300 * 8];
        // 64 free pages, the rest is the kernel's.
        for pfn in 0x100..0x140 {
            flags[pfn * 8..][..8].copy_from_slice(&(1u64 << 10).to_ne_bytes());
        }
        let files: [(&str, &[u8]); 2] = [("proc/iomem", IOMEM.as_bytes()), ("proc/kpageflags", &flags)];
        let all = estimated(&files, 0).unwrap();
        assert_eq!((all.source, all.ram, all.pages), (Source::Pages, 15 + 0x100 + 0x80, 15 + 0x100 + 0x80));
        let kept = estimated(&files, 31).unwrap();
        assert_eq!(kept.pages, all.pages - 64);
        assert!(kept.least < kept.most && kept.most < all.most);
    }

    #[test]
    fn counters_are_the_bound_where_pages_are_not_shown_and_without_them_there_is_none() {
        let meminfo =
            "MemTotal: 4000 kB\nMemFree: 400 kB\nBuffers: 40 kB\nCached: 800 kB\nAnonPages: 400 kB\n";
        let estimate = estimated(&[("proc/meminfo", meminfo.as_bytes())], 31).unwrap();
        assert_eq!((estimate.source, estimate.ram), (Source::Counters, 1000));
        assert_eq!(estimate.pages, 1000 - 100 - 10 - 200 - 100);
        assert!(estimated(&[], 31).is_err());
        assert!(estimated(&[("proc/meminfo", b"\xff\xfe")], 31).is_err());
    }
}
