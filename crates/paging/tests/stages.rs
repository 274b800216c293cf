//! What first and second stage have in common, and what tells them apart.

use machine::{Level, Permission, PhysicalAddress};
use paging::{Architecture, Format, Rules};
use vtd::capability::Capability;
use vtd::first_stage::FirstStageEntry;
use vtd::second_stage::SecondStageEntry;

/// PS.
const PAGE_SIZE: u64 = 1 << 7;

#[test]
fn present_entries_are_found_one_after_another() {
    let table = [0, 0x1001, 0x1002, 0x1000, 0x1001];
    let found = |stage: Format| (0..=5).map(move |from| stage.next_present(&table, from));
    assert!(found(Format::SecondStage).eq([Some(1), Some(1), Some(2), Some(4), Some(4), None]));
    assert!(found(Format::FirstStage).eq([Some(1), Some(1), Some(4), Some(4), Some(4), None]));
    assert_eq!(Format::FirstStage.next_present(&table, 6), None);
}

#[test]
fn rights_of_two_levels_are_combined_by_and() {
    let second = |bits| Format::SecondStage.entry(bits);
    let first = |bits| Format::FirstStage.entry(bits);
    assert_eq!(second(0x5083).restricted_by(second(0x1001)).bits, 0x5081);
    assert_eq!(first(0x50E7).restricted_by(first(0x1003)).bits, 0x50E3);
    assert_eq!(first(0x50E7).restricted_by(first(0x1005)).bits, 0x50E5);
}

/// A and D are bits 5 and 6 in first-stage entries, 8 and 9 in second-stage ones.
#[test]
fn what_hardware_noted_is_told_from_what_it_is_told() {
    let (first, second) = (Format::FirstStage.entry(0x567), Format::SecondStage.entry(0x303));
    assert_eq!((first.unused().bits, second.unused().bits), (0x107, 3));
    assert_eq!(Format::FirstStage.entry(7).used_like(first).bits, 0x467);
    assert_eq!(Format::SecondStage.entry(3).used_like(second).bits, 0x303);
}

/// 3.10: software sets A, D and EA beforehand.
#[test]
fn new_entries_need_no_note_of_their_use() {
    assert_eq!(
        Format::FirstStage.leaf(Level::ONE, PhysicalAddress::new(0x1000), Permission::Read).bits,
        0x1465
    );
    assert_eq!(Format::FirstStage.table(PhysicalAddress::new(0x1000), Level::ONE).bits, 0x1467);
    assert_eq!(
        Format::SecondStage.leaf(Level::TWO, PhysicalAddress::new(0x20_0000), Permission::Write).bits,
        0x20_0382
    );
    assert_eq!(Format::SecondStage.table(PhysicalAddress::new(0x1000), Level::ONE).bits, 0x1303);
}

#[test]
fn which_large_pages_there_are_is_the_units_business() {
    let capability = Capability::new().with_sslps(0b10);
    let (first, second) = (
        Rules::new(Format::FirstStage, 46, Architecture::Vtd(capability)),
        Rules::new(Format::SecondStage, 46, Architecture::Vtd(capability)),
    );
    assert_eq!(
        [Level::ONE, Level::TWO, Level::THREE].map(|level| first.allow_leaf(level)),
        [true, true, false]
    );
    assert_eq!(
        [Level::ONE, Level::TWO, Level::THREE].map(|level| second.allow_leaf(level)),
        [true, false, true]
    );
    let huge = Capability::new().with_fs1gp(true);
    assert!(Rules::new(Format::FirstStage, 46, Architecture::Vtd(huge)).allow_leaf(Level::THREE));
    assert!(!Rules::new(Format::FirstStage, 46, Architecture::Vtd(huge)).allow_leaf(Level::FOUR));
}

#[test]
fn masks_by_level_are_those_of_the_formats() {
    let capability = Capability::new().with_sslps(0b11).with_fs1gp(true);
    for level in (1..=5).filter_map(Level::new) {
        for bits in [u64::MAX, !PAGE_SIZE] {
            let first = Rules::new(Format::FirstStage, 39, Architecture::Vtd(capability));
            let expected = FirstStageEntry(bits).reserved_bits(level, 39, capability);
            assert_eq!(first.set_in(Format::FirstStage.entry(bits), level), expected);
            let second = Rules::new(Format::SecondStage, 39, Architecture::Vtd(capability));
            let expected = SecondStageEntry(bits).reserved_bits(level, 39, capability);
            assert_eq!(second.set_in(Format::SecondStage.entry(bits), level), expected);
        }
    }
}

#[test]
fn a_table_pointer_keeps_its_other_bits() {
    let entry = Format::SecondStage.entry(0xFFFF_FFFF_FFFF_FFFF).with_table(PhysicalAddress::new(0x5000));
    assert_eq!(entry.bits, 0xFFF0_0000_0000_5FFF);
}
