//! Tables as firmware writes them, damaged tables, and any bytes.

extern crate std;

use std::vec::Vec;

use fixtures::acpi_table::fix_checksum;
use machine::{PhysicalAddress, Range, SourceId};
use proptest::prelude::*;

use super::*;

/// A table with these blocks, its length and checksum filled in.
fn table(blocks: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::from(SIGNATURE);
    bytes.resize(48, 0);
    bytes[8] = 2;
    bytes[36..40].copy_from_slice(&0x0020_3043_u32.to_le_bytes());
    bytes.extend(blocks.concat());
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    fix_checksum(&mut bytes);
    bytes
}

/// A block of this type for the unit at this source-id, with these device entries.
fn ivhd(kind: u8, source: u16, entries: &[&[u8]]) -> Vec<u8> {
    let mut bytes = std::vec![kind, 0xB0, 0, 0];
    bytes.extend(source.to_le_bytes());
    bytes.extend(0x40_u16.to_le_bytes());
    bytes.extend(0xFD20_0000_u64.to_le_bytes());
    bytes.extend([0, 0, 0, 0]);
    bytes.extend(0x8004_8F6E_u32.to_le_bytes());
    if kind != 0x10 {
        bytes.extend([0x2465_77EF_A225_4AFA_u64, 0].map(u64::to_le_bytes).concat());
    }
    bytes.extend(entries.concat());
    let length = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn ivmd(kind: u8, flags: u8, devices: [u16; 2]) -> Vec<u8> {
    let mut bytes = std::vec![kind, flags, 32, 0];
    bytes.extend(devices.map(u16::to_le_bytes).concat());
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0x9F00_0000_u64, 0x20_0000].map(u64::to_le_bytes).concat());
    bytes
}

/// An entry for a device that ACPI names: its hardware id, and its unique id in this format.
fn acpi(source: u16, format: u8, uid: &[u8]) -> Vec<u8> {
    let mut bytes = std::vec![240];
    bytes.extend(source.to_le_bytes());
    bytes.push(0x40);
    bytes.extend(*b"AMDI0020");
    bytes.extend([0; 8]);
    bytes.extend([format, uid.len() as u8]);
    bytes.extend(uid);
    bytes
}

const RANGE: &[u8] = &[3, 3, 0, 0, 4, 0xFE, 0xFF, 0];
const IOAPIC: &[u8] = &[72, 0, 0, 0xD7, 5, 0xA0, 0, 1];
const ALIASES: &[u8] = &[67, 0, 1, 0, 0, 0xA5, 0, 0, 4, 0xFF, 1, 0];

fn scopes_of(block: &[u8]) -> Vec<(u16, u16, Option<u16>)> {
    let bytes = table(&[block]);
    let unit = Ivrs::parse(&bytes).unwrap().units().next().unwrap();
    unit.scopes().map(|scope| (scope.first.0, scope.last.0, scope.alias.map(|alias| alias.0))).collect()
}

#[test]
fn a_unit_and_its_devices_are_found() {
    let bytes = table(&[&ivhd(0x10, 2, &[RANGE, ALIASES, &[0, 0, 0, 0], IOAPIC])]);
    let ivrs = Ivrs::parse(&bytes).unwrap();
    assert!(ivrs.is_sound());
    assert_eq!((ivrs.revision(), ivrs.info().physical_bits(), ivrs.info().virtual_bits()), (2, 48, 64));
    assert!(ivrs.info().efr() && ivrs.info().dma_guard());
    let unit = ivrs.units().next().unwrap();
    assert_eq!((unit.base, unit.source, unit.capability), (0xFD20_0000, SourceId(2), 0x40));
    assert!(unit.flags.device_tlbs() && unit.flags.coherent() && unit.flags.page_requests());
    assert_eq!(unit.features, None);
    let scopes: Vec<_> = unit.scopes().map(|scope| (scope.first.0, scope.last.0, scope.alias)).collect();
    assert_eq!(scopes, [(3, 0xFFFE, None), (0x100, 0x1FF, Some(SourceId(0xA5))), (0xA0, 0xA0, None)]);
    let special = unit.entries.iter().find(|entry| matches!(entry, DeviceEntry::Special(_)));
    let Some(DeviceEntry::Special(special)) = special else { panic!("no I/O APIC") };
    assert_eq!((special.handle, special.variety), (5, Variety::IOAPIC));
    assert!(special.setting.lint1_pass() && special.setting.init_pass());
}

/// 5.2.2: three blocks for software of three ages; the newest counts, wherever it stands.
#[test]
fn each_unit_is_described_by_the_newest_of_its_blocks() {
    let [old, new, newest] = [0x10, 0x11, 0x40].map(|kind| ivhd(kind, 2, &[RANGE]));
    let other = ivhd(0x10, 0x4002, &[RANGE]);
    for blocks in
        [[&old, &new, &newest, &other], [&newest, &other, &old, &new], [&new, &newest, &other, &old]]
    {
        let bytes = table(&blocks.map(Vec::as_slice));
        let ivrs = Ivrs::parse(&bytes).unwrap();
        let mut units: Vec<_> = ivrs.units().map(|unit| (unit.source.0, unit.kind)).collect();
        units.sort_unstable();
        assert_eq!(units, [(2, IvhdType::ACPI), (0x4002, IvhdType::LEGACY)]);
        assert_eq!(ivrs.ivhds().count(), 4);
    }
    let bytes = table(&[&newest, &newest]);
    assert_eq!(Ivrs::parse(&bytes).unwrap().units().count(), 1, "two of one kind");
}

#[test]
fn the_newer_blocks_hold_the_features() {
    let bytes = table(&[&ivhd(0x11, 2, &[RANGE])]);
    let unit = Ivrs::parse(&bytes).unwrap().units().next().unwrap();
    let (features, _) = unit.features.unwrap();
    assert!(features.ia() && features.pc());
    assert_eq!(unit.scopes().count(), 1);
}

#[test]
fn devices_that_acpi_names_have_any_kind_of_unique_id() {
    let uids = [
        acpi(0x90, 0, &[]),
        acpi(0x91, 1, &7_u64.to_le_bytes()),
        acpi(0x92, 2, b"\\_SB.UART"),
        acpi(0x93, 1, &0x0102_u16.to_le_bytes()),
        acpi(0x94, 1, &[0; 9]),
    ];
    let entries: Vec<&[u8]> = uids.iter().map(Vec::as_slice).collect();
    let block = ivhd(0x40, 2, &entries);
    let bytes = table(&[&block]);
    let unit = Ivrs::parse(&bytes).unwrap().units().next().unwrap();
    let found = unit.entries.iter().map(|entry| match entry {
        DeviceEntry::Acpi(device) => (device.source.0, device.hardware_id, device.uid),
        other => panic!("{other:?}"),
    });
    let found: Vec<_> = found.collect();
    let known = [
        Uid::None,
        Uid::Integer(7),
        Uid::Characters(b"\\_SB.UART"),
        Uid::Integer(0x0102),
        Uid::Unknown(1, &[0; 9]),
    ];
    let known: Vec<_> = (0x90..).zip(known).map(|(source, uid)| (source, *b"AMDI0020", uid)).collect();
    assert_eq!(found, known);
    assert!(unit.entries.is_sound());
    assert_eq!(scopes_of(&block).len(), 5);
}

#[test]
fn scopes_are_all_that_entries_say() {
    let all = |entries: &[&[u8]]| scopes_of(&ivhd(0x10, 2, entries));
    assert_eq!(all(&[&[1, 0, 0, 0]]), [(0, 0xFFFF, None)]);
    assert_eq!(all(&[&[2, 7, 1, 0]]), [(0x107, 0x107, None)]);
    assert_eq!(all(&[&[66, 8, 1, 0, 0, 9, 1, 0]]), [(0x108, 0x108, Some(0x109))]);
    assert_eq!(all(&[&[70, 7, 0, 0, 0, 0, 0, 0x80]]), [(7, 7, None)]);
    assert_eq!(all(&[&[71, 7, 0, 0, 0, 0, 0, 0x80, 4, 9, 0, 0]]), [(7, 9, None)]);
    // Padding between the ends; ends alone; a start alone; ends in the wrong order.
    assert_eq!(all(&[&[3, 7, 0, 0], &[64, 0, 0, 0, 0, 0, 0, 0], &[4, 9, 0, 0]]), [(7, 9, None)]);
    assert_eq!(all(&[&[4, 9, 0, 0]]), []);
    assert_eq!(all(&[&[3, 7, 0, 0], &[2, 9, 0, 0]]), [(7, 7, None), (9, 9, None)]);
    let reversed = all(&[&[3, 9, 0, 0, 4, 7, 0, 0]]);
    assert_eq!(reversed, [(9, 7, None)]);
    let scope = DeviceScope {
        first: SourceId(9),
        last: SourceId(7),
        alias: None,
        setting: DteSetting::new(),
        extended: 0,
    };
    assert!(!scope.contains(SourceId(8)) && !scope.contains(SourceId(9)));
}

/// Entries whose type is not known are passed over by the length that their type gives: 4, 8, 16 and 32 bytes.
#[test]
fn entries_of_unknown_types_are_passed_over() {
    let long =
        [[0x80].as_slice(), &[0; 15], &[0xC0], &[0; 31], &[65, 0, 0, 0, 0, 0, 0, 0], &[2, 7, 0, 0]].concat();
    let block = ivhd(0x10, 2, &[&long]);
    assert_eq!(scopes_of(&block), [(7, 7, None)]);
}

#[test]
fn an_entry_of_impossible_length_is_noticed() {
    let sound = |entries: &[&[u8]]| {
        let bytes = table(&[&ivhd(0x40, 2, entries)]);
        Ivrs::parse(&bytes).unwrap().units().next().unwrap().entries.is_sound()
    };
    assert!(sound(&[RANGE, IOAPIC]));
    assert!(!sound(&[RANGE, &[66, 0, 0]]));
    assert!(!sound(&[&[2, 0, 0]]));
    let name = acpi(1, 2, b"name");
    assert!(sound(&[&name]) && !sound(&[&name[..24]]));
}

#[test]
fn reserved_memory_is_for_all_for_one_or_for_a_range() {
    let bytes = table(&[&ivmd(0x20, 0x7, [0, 0]), &ivmd(0x21, 0x8, [5, 0]), &ivmd(0x22, 0x3, [5, 9])]);
    let ivrs = Ivrs::parse(&bytes).unwrap();
    let found: Vec<_> = ivrs.memory().collect();
    let scopes = [IvmdScope::All, IvmdScope::One(SourceId(5)), IvmdScope::Between(SourceId(5), SourceId(9))];
    assert!(found.iter().map(|ivmd| ivmd.scope).eq(scopes));
    assert!(
        found
            .iter()
            .all(|ivmd| ivmd.memory() == Some(Range::from(0x9F00_0000..0x9F20_0000)) && ivmd.segment == 1)
    );
    assert!(found[0].flags.unity() && found[0].flags.write() && found[1].flags.exclusion());
    assert!(
        scopes[2].contains(SourceId(9))
            && !scopes[2].contains(SourceId(10))
            && !scopes[1].contains(SourceId(9))
    );
    let endless = Ivmd { start: u64::MAX, length: 2, ..found[0] };
    assert_eq!(endless.memory(), None::<Range<PhysicalAddress>>);
    let byte = Ivmd { start: 0x9F00_0000, length: 1, ..found[0] };
    assert_eq!(byte.memory(), Some(Range::from(0x9F00_0000..0x9F00_1000)), "firmware writes this too");
    assert_eq!(Ivmd { start: 0x9F00_0FFF, length: 2, ..byte }.memory().map(Range::len), Some(0x2000));
}

#[test]
fn a_block_of_no_length_ends_the_walk_with_an_error() {
    let unit = ivhd(0x10, 2, &[RANGE]);
    let bytes = table(&[&unit, &[0x10, 0, 0, 0], &unit]);
    let mut blocks = Ivrs::parse(&bytes).unwrap().blocks();
    assert!(matches!(blocks.next(), Some(Ok(Block::Ivhd(_)))));
    assert_eq!(blocks.next(), Some(Err(IvrsError::BadBlock(80))));
    assert_eq!(blocks.next(), None);
}

#[test]
fn a_block_too_short_for_its_type_is_unknown() {
    for (kind, length) in [(0x10, 23), (0x11, 39), (0x40, 39), (0x21, 31), (0x30, 8)] {
        let mut block = std::vec![0; length];
        block[0] = kind;
        block[2] = length as u8;
        let bytes = table(&[&block]);
        let found = Ivrs::parse(&bytes).unwrap().blocks().next();
        assert!(matches!(found, Some(Ok(Block::Unknown { kind: found, .. })) if found == kind), "{kind:#x}");
    }
}

#[test]
fn a_wrong_checksum_is_told_and_no_error_unless_blocks_are_wrong_too() {
    let mut bytes = table(&[&ivhd(0x10, 2, &[RANGE])]);
    bytes[9] ^= 1;
    let ivrs = Ivrs::parse(&bytes).unwrap();
    assert!(!ivrs.is_sound());
    assert_eq!(ivrs.units().count(), 1);
    bytes[50] = 99;
    assert_eq!(Ivrs::parse(&bytes).unwrap_err(), IvrsError::Damaged(48));
}

#[test]
fn what_is_left_of_a_cut_table_can_be_read() {
    let mut bytes = table(&[&ivhd(0x10, 2, &[RANGE]), &ivhd(0x11, 2, &[RANGE])]);
    let length = bytes.len() as u32;
    bytes.truncate(bytes.len() - 2);
    assert_eq!(Ivrs::parse(&bytes).unwrap_err(), IvrsError::BadLength(length));
    let ivrs = Ivrs::salvage(&bytes).unwrap();
    assert_eq!((ivrs.length(), ivrs.is_sound(), ivrs.units().count()), (length, false, 1));
    assert_eq!(ivrs.blocks().last(), Some(Err(IvrsError::BadBlock(80))));
    assert_eq!(Ivrs::salvage(b"IVRS").unwrap_err(), IvrsError::NotIvrs);
}

/// Device entries, well-formed or not, often enough well-formed.
fn entries() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![0_u8..5, 64_u8..73, Just(240), any::<u8>()];
    let entry = (kinds, prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::vec(entry, 0..12).prop_map(|entries| {
        entries.into_iter().flat_map(|(kind, rest)| [kind].into_iter().chain(rest)).collect()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        blocks in prop::collection::vec((any::<u8>(), entries()), 0..6),
        kinds in prop::collection::vec(prop_oneof![Just(0x10_u8), Just(0x11), Just(0x40), 0x20_u8..0x23, any::<u8>()], 6),
        length in any::<Option<u32>>(),
    ) {
        let blocks: Vec<_> = kinds.iter().zip(&blocks).map(|(kind, (flags, entries))| {
            let mut block = ivhd(*kind, u16::from(*flags % 3), &[entries]);
            block[1] = *flags;
            block
        }).collect();
        let mut bytes = table(&blocks.iter().map(Vec::as_slice).collect::<Vec<_>>());
        if let Some(length) = length {
            bytes[4..8].copy_from_slice(&length.to_le_bytes());
            fix_checksum(&mut bytes);
        }
        let Ok(ivrs) = Ivrs::parse(&bytes) else { return Ok(()) };
        prop_assert!(ivrs.blocks().count() <= bytes.len() / 4 + 1);
        prop_assert!(ivrs.units().count() <= ivrs.ivhds().count());
        for unit in ivrs.ivhds() {
            prop_assert!(ivrs.units().filter(|other| other.is_of_same_unit(&unit)).count() == 1);
            let entries = unit.entries.iter().count();
            prop_assert!(entries <= bytes.len() / 4 && unit.scopes().count() <= entries);
        }
        prop_assert!(ivrs.memory().count() <= ivrs.blocks().count());
    }
}

/// Comparing each block with each other one takes the square of their number.
#[test]
fn no_more_blocks_are_compared_than_machines_have() {
    let blocks: Vec<_> = (0..40_000).map(|source| ivhd(0x10, source, &[])).collect();
    let blocks: Vec<_> = blocks.iter().map(Vec::as_slice).collect();
    let bytes = table(&blocks);
    let ivrs = Ivrs::parse(&bytes).unwrap();
    assert_eq!((ivrs.units().count(), ivrs.ivhds().count()), (MOST_IVHDS, 40_000));
}
