//! How AMD's IOMMU translates a function's requests, by its device table entry (AMD I/O virtualization technology specification
//! 3.08, section 2.2.2.1).

use super::format::Format;
use super::function::Way;
use super::stage::Stage;
use super::{ADDRESS, READ, WRITE};

/// Bytes of an entry.
const ENTRY: u64 = 32;
/// Bytes of a page frame, of which the table has so many.
const FRAME: u64 = 4096;

/// The entry is valid; if not, requests pass untranslated.
const VALID: u64 = 1 << 0;
/// What it says of translation is valid; if not, requests are refused.
const TRANSLATION_VALID: u64 = 1 << 1;

/// Address of a function's entry; `None` past the table's end, where requests pass untranslated.
pub(super) fn entry(table: u64, frames: u64, source: u16) -> Option<u64> {
    let offset = u64::from(source) * ENTRY;
    (offset < frames * FRAME).then_some(table + offset)
}

/// Whether an entry says anything of its function.
pub(super) fn is_valid(entry: u64) -> bool {
    entry & VALID != 0
}

/// How requests are translated, by the entry's first word. Entries with guests' tables (GV) are what no Linux of the bench makes.
pub(super) fn way(entry: u64) -> Option<Way> {
    if entry & VALID == 0 {
        return Some(Way::Untranslated);
    }
    if entry & TRANSLATION_VALID == 0 {
        return None;
    }
    let rights = Format::Amd.rights(entry | 1);
    match entry >> 9 & 7 {
        0 if rights == READ | WRITE => Some(Way::Untranslated),
        levels @ 1..=6 if rights != 0 => {
            let (address, levels) = (entry & ADDRESS, levels as u32);
            Some(Way::Stage(Stage { address, levels, format: Format::Amd, rights }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::made::with_ram;
    use super::super::{Root, Run, Tables};
    use super::*;

    /// A device table of one frame at 0x1000, as register and as the walker takes it.
    const BASE: u64 = 0x1000;
    /// 00:0c.0.
    const SOURCE: u16 = 0x60;
    /// Both rights, as entries have them.
    const BOTH: u64 = 3 << 61;

    /// The entry of [`SOURCE`]: three levels at 0x3000. Entries as Linux 6.12 leaves them, of all sizes of pages.
    fn memory() -> HashMap<u64, u64> {
        HashMap::from([
            (0x1000 + 0x60 * 32, 0x6000_0000_0000_3603), // V, TV, three levels
            (0x3000 + 3 * 8, BOTH | 0x4401),             // I/O addresses from 0xc000_0000: next level 2
            (0x4000, BOTH | 0x5201),                     // their first 2 MiB: next level 1
            (0x4008, BOTH | 0x20_0001),                  // the next 2 MiB in one page: next level 0
            (0x4010, BOTH | 0x80_0000 | 0x1f_f000 | 0xe01), // 4 MiB: next level 7, with the size in the address, twice
            (0x4018, BOTH | 0x80_0000 | 0x1f_f000 | 0xe01),
            (0x5000, 1 << 61 | 0x9001), // may only be read
            (0x5008, BOTH | 0xa001),
            (0x5010, BOTH | 0xc000 | 0xe01), // 8 KiB, twice
            (0x5018, BOTH | 0xc000 | 0xe01),
            (0x5020, BOTH | 0xb000), // not present
        ])
    }

    fn with<T>(memory: &HashMap<u64, u64>, look: impl FnOnce(&Tables) -> T) -> T {
        with_ram(0x100_0000, memory.clone(), |ram| look(&Tables::new(ram, Root::of_devices(BASE))))
    }

    #[test]
    fn the_register_counts_frames_from_zero() {
        assert_eq!(Root::of_devices(0x10_8001).register(), 0x10_8001);
        assert_eq!(entry(0x10_8000, 2, 0xff), Some(0x10_8000 + 0xff * 32));
        assert_eq!(entry(0x10_8000, 2, 0x100), None);
    }

    #[test]
    fn pages_of_every_size_are_walked_to_their_address() {
        with(&memory(), |tables| {
            let pages = [
                (0xc000_0123, 0x9123),
                (0xc000_1123, 0xa123),
                (0xc000_2123, 0xc123),
                (0xc000_3123, 0xd123),
                (0xc020_1123, 0x20_1123),
                (0xc040_1123, 0x80_1123),
                (0xc060_1123, 0xa0_1123),
            ];
            for (iova, address) in pages {
                assert_eq!(tables.translate(SOURCE, iova), Some(address), "{iova:#x}");
            }
            assert_eq!(tables.page(SOURCE, 0xc000_3123), Some((0xc000, 0x2000)));
            assert_eq!(tables.page(SOURCE, 0xc060_1123), Some((0x80_0000, 0x40_0000)));
            for iova in [0xc000_4000, 0xc080_0000, 0x1000, 1 << 39] {
                assert_eq!(tables.translate(SOURCE, iova), None, "{iova:#x}");
            }
        });
    }

    #[test]
    fn replicated_entries_are_one_run() {
        with(&memory(), |tables| {
            let run = |iova, address, len, writable| Run { iova, address, len, writable };
            let expected = [
                run(0xc000_0000, 0x9000, 0x1000, false),
                run(0xc000_1000, 0xa000, 0x1000, true),
                run(0xc000_2000, 0xc000, 0x2000, true),
                run(0xc020_0000, 0x20_0000, 0x20_0000, true),
                run(0xc040_0000, 0x80_0000, 0x40_0000, true),
            ];
            assert_eq!(tables.runs(SOURCE), expected);
        });
    }

    #[test]
    fn levels_may_be_skipped_and_only_the_first_of_what_they_cover_is_mapped() {
        let mut memory = memory();
        memory.insert(0x3000, BOTH | 0x5201);
        with(&memory, |tables| {
            assert_eq!(tables.translate(SOURCE, 0x1123), Some(0xa123));
            assert_eq!(tables.translate(SOURCE, 0x20_1123), None);
            assert_eq!(tables.runs(SOURCE)[1].iova, 0x1000);
        });
    }

    #[test]
    fn an_entry_that_leads_up_or_to_its_own_level_leads_nowhere() {
        for level in [2, 3, 6] {
            let mut memory = memory();
            memory.insert(0x4000, BOTH | 0x5001 | level << 9);
            with(&memory, |tables| assert_eq!(tables.translate(SOURCE, 0xc000_1123), None, "{level}"));
        }
    }

    #[test]
    fn without_translation_all_memory_is_reached_and_a_blocked_function_reaches_none() {
        let of = |word| {
            let mut memory = memory();
            memory.insert(0x1000 + 0x60 * 32, word);
            with(&memory, |tables| tables.translate(SOURCE, 0x1234))
        };
        assert_eq!(of(0), Some(0x1234), "V = 0");
        assert_eq!(of(0x6000_0000_0000_0003), Some(0x1234), "mode 0");
        assert_eq!(of(0x3), None, "blocked");
        assert_eq!(of(0x6000_0000_0000_3601), None, "TV = 0");
        assert_eq!(of(0x6000_0000_0000_3e03), None, "mode 7");
    }

    #[test]
    fn rights_are_those_of_all_entries_on_the_way_and_of_the_function() {
        let writable = |at: u64, word: u64| {
            let mut memory = memory();
            memory.insert(at, word);
            with(&memory, |tables| tables.runs(SOURCE).iter().any(|run| run.writable))
        };
        assert!(writable(0x5020, 0));
        assert!(!writable(0x1000 + 0x60 * 32, 0x2000_0000_0000_3603));
        assert!(!writable(0x3000 + 3 * 8, 1 << 61 | 0x4401));
    }

    #[test]
    fn six_levels_cover_all_of_64_bits() {
        let deep = HashMap::from([
            (0x1000 + 0x60 * 32, 0x6000_0000_0000_3c03), // six levels
            (0x3000 + 127 * 8, BOTH | 0x4201),           // straight to level 1
            (0x3000 + 128 * 8, BOTH | 0x4201),           // past the end of 64 bits
            (0x4000, BOTH | 0x9001),
        ]);
        with(&deep, |tables| {
            assert_eq!(tables.translate(SOURCE, 0xfe00_0000_0000_0010), Some(0x9010));
            assert_eq!(tables.runs(SOURCE).len(), 1);
        });
    }
}
