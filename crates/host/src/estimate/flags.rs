//! Counts pages by their flags, as the kernel shows them in `/proc/kpageflags` (include/uapi/linux/kernel-page-flags.h).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use machine::Range;
use vmcore::Level;

use crate::progress::Progress;

/// Bytes that the kernel shows for a page.
const ENTRY: u64 = 8;
/// Pages that are looked at at once.
const GULP: u64 = 1 << 16;

const LRU: u64 = 1 << 5;
const BUDDY: u64 = 1 << 10;
const ANON: u64 = 1 << 12;
const SWAPCACHE: u64 = 1 << 13;
const COMPOUND_TAIL: u64 = 1 << 16;
const HUGE: u64 = 1 << 17;
const HWPOISON: u64 = 1 << 19;
const NOPAGE: u64 = 1 << 20;
const OFFLINE: u64 = 1 << 23;
const PRIVATE: u64 = 1 << 35;

/// What a dump's level knows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Free,
    Cache,
    PrivateCache,
    User,
    /// A memory error, or offline: in no dump.
    Never,
    /// The kernel's own, and all of which nothing else is known.
    Kernel,
}

impl Kind {
    /// Applies the rules by which a dump's pages are chosen (`vmcore`), in their order. The head of a compound page speaks for it.
    fn of(flags: u64) -> Self {
        let has = |flag| flags & flag != 0;
        match () {
            () if has(BUDDY) => Self::Free,
            () if has(HWPOISON | OFFLINE) => Self::Never,
            () if has(ANON | HUGE) => Self::User,
            () if has(LRU | SWAPCACHE) && has(PRIVATE) => Self::PrivateCache,
            () if has(LRU | SWAPCACHE) => Self::Cache,
            () => Self::Kernel,
        }
    }
}

/// Pages of RAM by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// All.
    pub(super) ram: u64,
    free: u64,
    cache: u64,
    private_cache: u64,
    user: u64,
    never: u64,
}

impl Counted {
    /// How many a dump of this level has.
    pub(super) fn kept(&self, level: Level) -> u64 {
        let level = level.number();
        let out = [
            (level & 16 != 0, self.free),
            (level & 6 != 0, self.cache),
            (level & 4 != 0, self.private_cache),
            (level & 8 != 0, self.user),
            (true, self.never),
        ];
        self.ram - out.iter().filter(|(is_out, _)| *is_out).map(|(_, pages)| pages).sum::<u64>()
    }

    fn add(&mut self, kind: Kind) {
        self.ram += 1;
        match kind {
            Kind::Free => self.free += 1,
            Kind::Cache => self.cache += 1,
            Kind::PrivateCache => self.private_cache += 1,
            Kind::User => self.user += 1,
            Kind::Never => self.never += 1,
            Kind::Kernel => {}
        }
    }
}

/// Counts the pages in these ranges of page frames; `None` if there are none, or if the kernel does not show them to this user.
pub(super) fn count(file: &Path, ram: &[Range<u64>], progress: &dyn Progress) -> Option<Counted> {
    if ram.is_empty() {
        return None;
    }
    let file = File::open(file).ok()?;
    progress.begin(ram.iter().map(|range| range.len()).sum());
    let counted = count_in(&file, ram, progress);
    progress.end();
    counted
}

fn count_in(file: &File, ram: &[Range<u64>], progress: &dyn Progress) -> Option<Counted> {
    let mut counted = Counted::default();
    let mut buffer = vec![0; (GULP * ENTRY) as usize];
    for range in ram {
        let mut head = Kind::Kernel;
        for start in (range.start..range.end).step_by(GULP as usize) {
            let pages = GULP.min(range.end - start);
            let bytes = &mut buffer[..(pages * ENTRY) as usize];
            file.read_exact_at(bytes, start * ENTRY).ok()?;
            for entry in bytes.chunks_exact(ENTRY as usize) {
                let flags = entry.try_into().map_or(NOPAGE, u64::from_ne_bytes);
                // Older kernels show few flags of a compound page's tails.
                if flags & COMPOUND_TAIL == 0 {
                    head = Kind::of(flags);
                }
                counted.add(head);
            }
            progress.advance_to(counted.ram);
        }
    }
    Some(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(flags: &[u64]) -> Counted {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<_> = flags.iter().flat_map(|flags| flags.to_ne_bytes()).collect();
        std::fs::write(file.path(), bytes).unwrap();
        count(file.path(), &[Range::new(0, flags.len() as u64)], &()).unwrap()
    }

    #[test]
    fn each_level_leaves_out_its_kinds() {
        let flags = [0, BUDDY, LRU, LRU | PRIVATE, LRU | ANON, HUGE, HWPOISON, OFFLINE, NOPAGE];
        let kept = [0, 2, 4, 8, 16, 31].map(|level| counted(&flags).kept(Level::new(level).unwrap()));
        assert_eq!(kept, [7, 6, 5, 5, 6, 2]);
    }

    #[test]
    fn the_tails_of_a_compound_page_are_as_its_head() {
        let counted = counted(&[LRU | ANON, COMPOUND_TAIL, COMPOUND_TAIL | ANON, 0, COMPOUND_TAIL]);
        assert_eq!((counted.user, counted.ram), (3, 5));
    }

    #[test]
    fn a_file_that_ends_too_soon_gives_no_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(count(file.path(), &[Range::new(0, 1)], &()), None);
        assert_eq!(count(Path::new("/nowhere"), &[Range::new(0, 1)], &()), None);
    }
}
