//! The next step below each kind of entry, for every format, level and size.

use machine::{ENTRIES, IoAddress, Level, PhysicalAddress, Range};
use paging::{Architecture, Format, Page, PageEntry, Rules, Step};
use proptest::prelude::*;
use vtd::capability::Capability;

const AMD: Architecture = Architecture::AmdVi { address_bits: 64 };
/// A VT-d unit that has all sizes of pages.
const VTD: Architecture =
    Architecture::Vtd(Capability::new().with_sslps(0b11).with_fs1gp(true).with_mgaw(56));
/// Reads and writes, in version 1.
const IR_IW: u64 = 3 << 61;

fn levels() -> impl Iterator<Item = Level> {
    (1..=6).filter_map(Level::new)
}

fn architecture(format: Format) -> Architecture {
    if matches!(format, Format::AmdV1 | Format::AmdV2) { AMD } else { VTD }
}

fn rules(format: Format) -> Rules {
    Rules::new(format, 48, architecture(format))
}

fn v1(bits: u64) -> PageEntry {
    Format::AmdV1.entry(bits | IR_IW | 1)
}

fn memory(step: Step) -> Option<Range<PhysicalAddress>> {
    match step {
        Step::Page(page) => Some(page.memory()),
        _ => None,
    }
}

#[test]
fn an_entry_that_is_not_present_ends_every_walk() {
    for format in Format::ALL {
        for level in levels() {
            let entry = format.entry(!format.presence());
            assert_eq!(rules(format).step(entry, level), Step::Absent, "{format:?} {level:?}");
        }
    }
}

/// The formats whose tables are always one level below: PS above level 1, and there is nothing else at level 1.
#[test]
fn tables_without_level_are_one_below() {
    let table = PhysicalAddress::new(0x4000_0000);
    for format in [Format::FirstStage, Format::SecondStage, Format::AmdV2] {
        for level in levels().filter(|level| *level <= Level::FIVE) {
            let plain = rules(format).step(format.entry(0x4000_0003), level);
            let large = rules(format).step(format.entry(0x4000_0083), level);
            let page = Some(Range::new(table, table.saturating_add(level.span())));
            match level.below() {
                None => assert_eq!((memory(plain), memory(large)), (page, page)),
                Some(below) => {
                    assert_eq!(plain, Step::Table { table, level: below }, "{format:?} {level:?}");
                    let expected = if level <= Level::THREE { page } else { None };
                    assert_eq!(memory(large), expected, "{format:?} {level:?}");
                    assert_eq!(large == Step::Malformed, level > Level::THREE);
                }
            }
        }
    }
}

/// 2.2.3: an entry names a table of any level below its own, or a page.
#[test]
fn version_1_skips_levels_and_never_climbs() {
    let table = PhysicalAddress::new(0x1234_5000);
    for level in levels() {
        for next in 1..=6_u8 {
            let step = rules(Format::AmdV1).step(v1(0x1234_5000 | u64::from(next) << 9), level);
            let expected = match Level::new(next) {
                Some(next) if next < level => Step::Table { table, level: next },
                _ => Step::Malformed,
            };
            assert_eq!(step, expected, "{level:?} {next}");
        }
    }
}

/// Next level 0: a page of 4 KiB, 2 MiB, 1 GiB, 512 GiB, 256 TiB; none beyond the physical addresses.
#[test]
fn version_1_has_a_page_of_each_level() {
    for level in levels() {
        let found = memory(rules(Format::AmdV1).step(v1(0), level));
        let expected = Range::new(PhysicalAddress::new(0), PhysicalAddress::new(level.span()));
        assert_eq!(found, Some(expected).filter(|_| level < Level::SIX), "{level:?}");
    }
}

/// Next level 7, every size at every level: from what the entry covers to what its table does.
#[test]
fn version_1_has_pages_of_every_size_between_two_levels() {
    let wide = Rules::new(Format::AmdV1, 52, AMD);
    for level in levels() {
        for shift in 13..=52_u32 {
            let size = 1_u64 << shift;
            let (start, in_address) = (size & (1 << 51), (size / 2 - 1) & !0xFFF);
            let found = wide.step(v1(start | in_address | 7 << 9), level);
            let fits = level.shift() <= shift && shift <= level.width();
            let expected = Some(Range::from(start..start + size)).filter(|_| fits);
            assert_eq!(memory(found), expected, "{level:?} {shift}");
            assert_eq!(found == Step::Malformed, !fits);
        }
        let endless = wide.step(v1(0x000F_FFFF_FFFF_FE00), level);
        assert_eq!(endless, Step::Malformed);
    }
}

#[test]
fn each_entry_of_a_shared_page_maps_its_part() {
    let Step::Page(page) = v1(0x20_0000 | 0x3000 | 7 << 9).step(Level::ONE) else { panic!("no page") };
    assert!(page.is_shared(Level::ONE) && !page.is_shared(Level::TWO));
    assert_eq!(page.memory(), Range::from(0x20_0000..0x20_8000));
    let starts: Vec<_> = (0..16).map(|index| page.part(Level::ONE, index).start.get()).collect();
    let once: Vec<_> = (0..8).map(|index| 0x20_0000 + index * 0x1000).collect();
    assert_eq!(starts, [once.clone(), once].concat());
    let Step::Page(plain) = v1(0x20_0000).step(Level::TWO) else { panic!("no page") };
    assert_eq!((plain.is_shared(Level::TWO), plain.part(Level::TWO, 7)), (false, plain.memory()));
}

/// Each reserved bit of each kind of entry, alone.
#[test]
fn reserved_bits_are_malformed_and_the_others_are_not() {
    let (table, page) = (1 << 9, 0);
    for bit in 0..64 {
        let is_malformed =
            |kind: u64| rules(Format::AmdV1).step(v1(kind ^ 1 << bit), Level::THREE) == Step::Malformed;
        // Bits 11:9 choose the kind; the address of this machine has 48 bits.
        if !(9..12).contains(&bit) && bit != 0 {
            assert_eq!(is_malformed(table), (48..=60).contains(&bit), "{bit}");
            assert_eq!(is_malformed(page), (48..=58).contains(&bit), "{bit}");
        }
    }
    for format in [Format::FirstStage, Format::AmdV2, Format::SecondStage] {
        for bit in (12..64).filter(|bit| *bit != 30) {
            let step = rules(format).step(format.entry(0x83 | 1 << bit), Level::THREE);
            let reserved = (48..52).contains(&bit) || bit < 30 && (format == Format::SecondStage || bit > 12);
            assert_eq!(step == Step::Malformed, reserved, "{format:?} {bit}");
        }
    }
}

/// What is made is what it shall be, to the rules of its unit.
#[test]
fn new_entries_are_well_formed() {
    for format in Format::ALL {
        let rules = rules(format);
        for level in levels().filter(|level| rules.allow_leaf(*level)) {
            let (address, permission) = (PhysicalAddress::new(1 << 40), machine::Permission::ReadWrite);
            let leaf = format.leaf(level, address, permission);
            assert_eq!(
                memory(rules.step(leaf, level)),
                Some(Range::new(address, address.saturating_add(level.span())))
            );
            assert!(leaf.allows(permission) && !format.blocked().allows(machine::Permission::Read));
        }
        assert_eq!(levels().filter(|level| rules.allow_leaf(*level)).count(), 3, "{format:?}");
        for (level, below) in levels().filter_map(|level| Some((level, level.below()?))) {
            let table = PhysicalAddress::new(0x5000);
            assert_eq!(rules.step(format.table(table, below), level), Step::Table { table, level: below });
        }
    }
}

/// VT-d ignores bits 61:52 (`VTD_FS_UPPER_IGNORED` and `VTD_SL_IGN_COM` of QEMU); AMD-Vi reserves bit 55 in version 1.
#[test]
fn the_mark_changes_nothing() {
    for format in Format::ALL {
        let rules = rules(format);
        for level in levels() {
            for bits in (0..8).map(|next| 0x4000_0003 | IR_IW | next << 9).chain([0x4000_0083, 0]) {
                let entry = format.entry(bits);
                assert_eq!(
                    rules.step(entry.marked(), level),
                    rules.step(entry, level),
                    "{format:?} {bits:#x}"
                );
                assert_eq!((entry.marked().is_marked(), entry.marked().unmarked()), (true, entry.unmarked()));
            }
        }
        assert!(!format.blocked().marked().present());
    }
    assert_eq!(rules(Format::AmdV1).step(v1(1 << 55), Level::ONE), Step::Malformed);
}

/// The survey of a table of level 1 looks at these bits first: an entry without them needs no exact look but for its address.
#[test]
fn an_entry_without_unusual_bits_is_a_plain_page() {
    for format in Format::ALL {
        let rules = rules(format);
        for bits in (0..64).map(|bit| 1_u64 << bit).chain([0xFFFF_F000, 0xE00, 0x200]) {
            let entry = format.entry(bits | 3);
            if entry.bits & rules.unusual() == 0 {
                let Step::Page(page) = rules.step(entry, Level::ONE) else { panic!("{format:?} {bits:#x}") };
                assert!(!page.is_shared(Level::ONE));
            }
        }
    }
}

/// Pages that take the place of a larger one translate as it did, and keep all its rights.
#[test]
fn a_page_is_split_into_plain_ones() {
    let shared = v1(0x20_0000 | 0x3000 | 7 << 9);
    let plain = shared.as_leaf_of(Level::ONE, Level::ONE, PhysicalAddress::new(0x20_5000));
    assert_eq!(plain.bits, IR_IW | 0x20_5001);
    let large = v1(0x40_0000 | 1 << 60);
    assert_eq!(
        large.as_leaf_of(Level::TWO, Level::ONE, PhysicalAddress::new(0x40_7000)).bits,
        IR_IW | 1 << 60 | 0x40_7001
    );
    assert_eq!(v1(0).restricted_by(Format::AmdV1.entry(1 << 61 | 1)).bits, 1 << 61 | 1);
}

#[test]
fn pages_of_a_guest_are_the_processors() {
    // PAT moves from bit 7 to bit 12; EA, bit 10, is no note of use in version 2.
    let small = Format::AmdV2.entry(0x20_04E7);
    assert_eq!(small.as_leaf_of(Level::ONE, Level::TWO, PhysicalAddress::new(0x20_0000)).bits, 0x20_14E7);
    assert_eq!((small.unused().bits, Format::FirstStage.entry(0x467).unused().bits), (0x20_0487, 7));
}

/// Memory with tables of version 1 that name each other at random: often enough well-formed.
fn tables() -> impl Strategy<Value = Vec<u64>> {
    let entry = (0_u64..8, 0_u64..4, prop_oneof![Just(0), Just(7), 1_u64..7], prop::bool::weighted(0.9));
    let address = prop_oneof![
        (0_u64..4).prop_map(|table| table << 12),
        any::<u64>().prop_map(|bits| bits & 0x000F_FFFF_FFFF_F000)
    ];
    let word = (entry, address).prop_map(|((low, rights, next, present), address)| {
        address | rights << 61 | next << 9 | low << 5 | u64::from(present)
    });
    prop::collection::vec(word, 4 * 8)
}

/// The entry at `index` of the table at `address`, of four tables in which every 64th entry is one of eight.
fn read(tables: &[u64], address: u64, index: u64) -> Option<u64> {
    tables.get((address >> 12) as usize * 8 + (index % 8) as usize).copied().filter(|_| address < 4 << 12)
}

/// Where an address leads, by the words of the specification (2.2.3).
fn translated(tables: &[u64], mut table: u64, mut level: u64, iova: u64) -> Option<u64> {
    loop {
        let entry = read(tables, table, iova >> (12 + 9 * (level - 1)) & 0x1FF)?;
        let (next, address) = (entry >> 9 & 7, entry & 0x000F_FFFF_FFFF_F000);
        let within = |bits: u64| iova & ((1 << bits) - 1);
        let shift = 12 + 9 * (level - 1);
        if entry & 1 == 0 {
            return None;
        }
        match next {
            0 if level == 6 || entry & 0x07F0_0000_0000_0000 != 0 => return None,
            0 => return Some(address >> shift << shift | within(shift)),
            7 => {
                let size = 13 + u64::from((address >> 12).trailing_ones());
                let possible = size >= shift && size <= (shift + 9).min(64) && size <= 52;
                let allowed = possible && entry & 0x07F0_0000_0000_0000 == 0;
                return Some(address >> size << size | within(size)).filter(|_| allowed);
            }
            _ if next >= level || entry & 0x1FF0_0000_0000_0000 != 0 => return None,
            _ => {
                // Bits of the levels that are skipped must be zero.
                if within(shift) >> (12 + 9 * next) != 0 {
                    return None;
                }
                (table, level) = (address, next);
            }
        }
    }
}

/// The same by steps.
fn stepped(tables: &[u64], mut table: u64, mut level: Level, iova: IoAddress) -> Option<u64> {
    let rules = Rules::new(Format::AmdV1, 52, AMD);
    let mut base = IoAddress::new(0);
    loop {
        if !level.table_span(base).contains(iova) {
            return None;
        }
        let index = level.index(iova);
        let entry = Format::AmdV1.entry(read(tables, table, index as u64)?);
        base = level.address_at(base, index);
        match rules.step(entry, level) {
            Step::Absent | Step::Malformed => return None,
            Step::Page(page) => return Some(leads_to(page, level, index, iova)),
            Step::Table { table: next, level: below } => {
                assert!(below < level, "walks end");
                (table, level) = (next.get(), below);
            }
        }
    }
}

fn leads_to(page: Page, level: Level, index: usize, iova: IoAddress) -> u64 {
    page.part(level, index).start.get() + (iova.get() & (level.span() - 1))
}

proptest! {
    #[test]
    fn a_walk_by_steps_is_the_specifications(
        tables in tables(),
        top in 1_u8..7,
        iova in prop_oneof![any::<u64>(), 0_u64..1 << 48, 0_u64..1 << 30, 0_u64..1 << 21],
    ) {
        let top = Level::new(top).unwrap();
        let iova = if top == Level::SIX { iova & !(1 << 63) } else { iova & ((1 << top.width()) - 1) };
        let expected = translated(&tables, 0, top.number().into(), iova);
        prop_assert_eq!(stepped(&tables, 0, top, IoAddress::new(iova)), expected);
        prop_assert!(top.index(IoAddress::new(iova)) < ENTRIES);
    }
}
