//! AMD-Vi tables whose words are written by hand, by the layouts of the specification (2.2.2 to 2.2.7).

use std::collections::BTreeMap;

use amdvi::control::{Control, DeviceTableBase, ExclusionBase, ExclusionLimit};
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use reach::{AmdViRegisters, Binding, Budget, Obstacle, Route, Subject, Tables, UnitRegisters, UnitSetup};

use super::words::{END, Words, pieces};

/// V, TV, IR, IW, and the mode in bits 11:9.
const TRANSLATED: u64 = 3 << 61 | 3;
const GV: u64 = 1 << 55;
const GIOV: u64 = 1 << 54;

/// A unit with a device table of 128 entries at 0x1000, and what it can be: host tables of six levels, guest tables of five,
/// CR3 tables of three, on a machine of 48 bits without HyperTransport.
fn unit() -> UnitSetup {
    let mut device_tables = [DeviceTableBase::default(); 8];
    device_tables[0] = DeviceTableBase::from_bits(0x1000);
    let registers = AmdViRegisters {
        device_tables,
        control: Control::new().with_enabled(true).with_guest_translation(true).with_guest_cr3_address(true),
        features: ExtendedFeature::new().with_gt(true).with_hats(2).with_gats(1).with_glx(2),
        features_2: ExtendedFeature2::new().with_ht_range_ignore(true),
        exclusion_base: ExclusionBase::new(),
        exclusion_limit: ExclusionLimit::new(),
    };
    UnitSetup { registers: UnitRegisters::AmdVi(registers), host_address_bits: 48 }
}

/// A device table whose entries are valid and let nothing pass, but for 00:02.0, which has these two words.
fn device(entry: [u64; 2]) -> Words {
    let mut words: BTreeMap<u64, u64> = (0..128).map(|index| (0x1000 + index * 32, 1)).collect();
    words.extend((0x1000 + 0x10 * 32..).step_by(8).zip(entry));
    Words(words)
}

/// What is found of each subject.
fn found(words: &Words, unit: UnitSetup) -> Vec<(String, Result<Binding, Obstacle>)> {
    let mut found = Vec::new();
    let tables = Tables::new(words, unit);
    let done = tables.each_requester(&mut Budget::new(100), &mut |subject, binding| {
        let name = match subject {
            Subject::Devices { first, last } => format!("{first}-{last}"),
            Subject::Pasids(first) => format!("{first}.."),
            Subject::Requester(requester) => requester.to_string(),
        };
        found.push((name, binding));
    });
    done.unwrap();
    found
}

/// What is found of the devices that the table has entries for.
fn listed(words: &Words) -> Vec<(String, Result<Binding, Obstacle>)> {
    let mut found = found(words, unit());
    let (rest, binding) = found.pop().unwrap();
    assert_eq!((rest.as_str(), binding.is_ok()), ("00:10.0-ff:1f.7", true), "the table ends before these");
    found
}

/// The route of 00:02.0.
fn route(words: &Words) -> Result<Route, Obstacle> {
    let found = listed(words);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "00:02.0");
    found[0].1.map(|binding| binding.route)
}

fn reached(words: &Words) -> Vec<String> {
    pieces(words, unit(), route(words).unwrap())
}

/// 2.2.3: next level 0 is a page of the entry's size, 7 one whose size is in the address, and levels may be skipped.
#[test]
fn host_pages_have_the_size_that_entries_give_them() {
    let mut words = device([TRANSLATED | 4 << 9 | 0x5000, 2]);
    words.0.extend([
        (0x5000, 0x6000_0000_0000_6401), // level 4 to level 2
        (0x6000, 0x6000_0000_0000_7201), // to level 1
        (0x6008, 0x6000_0000_00E0_0001), // 2 MiB
        (0x7000, 0x6000_0000_0000_8001), // 4 KiB
        (0x7008, 0x2000_0000_0000_9001), // read only
        (0x7010, 0x6000_0000_0001_0E01), // 8 KiB, by two entries
        (0x7018, 0x6000_0000_0001_0E01),
        (0x5008, 0x6000_0000_0000_6801),           // a table that is not below
        (0x5010, 1 << 60 | 0x6000_0000_0000_6601), // reserved in entries that name tables
    ]);
    let expected = [
        "0x0+0x1000->0x8000 rw 1",
        "0x1000+0x1000->0x9000 r 1",
        "0x2000+0x1000->0x10000 rw 1",
        "0x3000+0x1000->0x11000 rw 1",
        "0x200000+0x200000->0xe00000 rw 2",
        "0x8000000000+0x8000000000: reserved bits are set",
        "0x10000000000+0x8000000000: reserved bits are set",
    ];
    assert_eq!(reached(&words), expected);
}

#[test]
fn the_entry_of_a_device_takes_rights_away() {
    let mut words = device([1 << 61 | 3 | 1 << 9 | 0x7000, 0]);
    words.0.insert(0x7000, 0x6000_0000_0000_8001);
    assert_eq!(reached(&words), ["0x0+0x1000->0x8000 r 1"]);
    let pass_through = device([1 << 62 | 3, 0]);
    assert_eq!(
        reached(&pass_through),
        ["0x0+0xfee00000->0x0 w 0", "0xfef00000+0xffff01100000->0xfef00000 w 0"]
    );
}

/// 2.2.2: an entry that is not valid lets its device pass, as does the end of the table. One that is valid and allows nothing
/// blocks.
#[test]
fn devices_without_a_valid_entry_pass_untranslated() {
    let mut words = device([3, 0]);
    assert_eq!(listed(&words), []);
    words.0.extend([(0x1000 + 3 * 32, 0), (0x1000 + 4 * 32, TRANSLATED & !1), (0x1000 + 127 * 32, 0)]);
    let found = found(&words, unit());
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["00:00.3-00:00.4", "00:0f.7-ff:1f.7"]);
    let all = pieces(&words, unit(), found[0].1.unwrap().route);
    assert_eq!(all, ["0x0+0xfee00000->0x0 rw 0", "0xfef00000+0xffff01100000->0xfef00000 rw 0"]);
}

/// The same unit with an exclusion range of the pages 2 to 4: `base` has ExEn, and Allow or not.
fn unit_with_exclusion(base: u64) -> UnitSetup {
    let mut unit = unit();
    if let UnitRegisters::AmdVi(registers) = &mut unit.registers {
        registers.exclusion_base = ExclusionBase::from_bits(0x2000 | base);
        registers.exclusion_limit = ExclusionLimit::from_bits(0x4000);
    }
    unit
}

/// Where 00:02.0 gets by its only route.
fn reached_with(unit: UnitSetup, words: &Words) -> Vec<String> {
    let found = found(words, unit).into_iter().find(|(name, _)| name == "00:02.0");
    found.map(|(_, binding)| pieces(words, unit, binding.unwrap().route)).unwrap_or_default()
}

/// 3.4.6: what a device asks of the exclusion range passes untranslated, whatever tables and rights say.
#[test]
fn the_exclusion_range_passes_untranslated() {
    const EX: u64 = 1 << 39;
    let table = (0..8).map(|page| (0x7000 + page * 8, 0x6000_0000_0001_0001 | page << 12));
    let with = |host, guest| {
        let mut words = device([host, guest]);
        words.0.extend(table.clone());
        words
    };
    let translated = with(1 << 61 | 3 | 1 << 9 | 0x7000, EX);
    let excluded = "0x2000+0x3000->0x2000 rw 0";
    let around = ["0x0+0x1000->0x10000 r 1", "0x1000+0x1000->0x11000 r 1", excluded];
    assert_eq!(reached_with(unit_with_exclusion(1), &translated)[..3], around);
    assert_eq!(reached_with(unit_with_exclusion(1), &translated)[3], "0x5000+0x1000->0x15000 r 1");
    assert_eq!(reached_with(unit_with_exclusion(0), &translated).len(), 8, "it is not enabled");
    let others = with(TRANSLATED | 1 << 9 | 0x7000, 0);
    assert_eq!(reached_with(unit_with_exclusion(1), &others).len(), 8, "it is not for this device");
    assert_eq!(reached_with(unit_with_exclusion(3), &others)[2], excluded, "it is for all");
    for (blocked, what) in [(1, "TV"), (3, "no rights")] {
        assert_eq!(reached_with(unit_with_exclusion(1), &with(blocked, EX)), [excluded], "{what}");
        assert_eq!(reached_with(unit_with_exclusion(1), &with(blocked, 0)), [""; 0], "{what}");
    }
    let passing = reached_with(unit_with_exclusion(1), &with(1 << 61 | 3, EX));
    assert_eq!(passing[..3], ["0x0+0x2000->0x0 r 0", excluded, "0x5000+0xfedfb000->0x5000 r 0"]);
}

/// Requests with a PASID are always translated; those without one are not, though PASID 0 translates them elsewhere.
#[test]
fn the_exclusion_range_is_for_requests_without_pasid() {
    let mut words = guest(GIOV);
    words.0.extend([(0x5000, 0x8007), (0x8000, 0x87), (0x6000, 0x8007)]);
    let unit = unit_with_exclusion(3);
    let routes = found(&words, unit).into_iter().filter(|(name, _)| name.starts_with("00:02.0"));
    let reached: Vec<_> =
        routes.map(|(name, binding)| (name, pieces(&words, unit, binding.unwrap().route).len())).collect();
    assert_eq!(reached, [("00:02.0".to_owned(), 3), ("00:02.0/0x9".to_owned(), 1)]);
}

/// 2.1.2: requests to what HyperTransport uses for itself reach no memory.
#[test]
fn hypertransports_addresses_are_left_out() {
    let mut unit = unit();
    if let UnitRegisters::AmdVi(registers) = &mut unit.registers {
        registers.features_2.set_ht_range_ignore(false);
    }
    let all = [
        "0x0+0xfee00000->0x0 rw 0",
        "0xfef00000+0xfc01100000->0xfef00000 rw 0",
        "0x10000000000+0xff0000000000->0x10000000000 rw 0",
    ];
    assert_eq!(reached_with(unit, &device([TRANSLATED, 0])), all);
}

/// 2.2.2.3: the upper bits of a source-id choose the segment.
#[test]
fn each_segment_of_a_device_table_has_devices_of_its_own() {
    let mut words = device([3, 0]);
    words.0.extend((0..128).map(|index| (0x2000 + index * 32, 1)));
    words.0.insert(0x2000 + 32, TRANSLATED | 3 << 9 | 0x5000);
    let mut unit = unit();
    if let UnitRegisters::AmdVi(registers) = &mut unit.registers {
        registers.control.set_device_table_segments(1);
        registers.device_tables[1] = DeviceTableBase::from_bits(0x2000);
    }
    let names: Vec<_> = found(&words, unit).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["00:10.0-7f:1f.7", "80:00.1", "80:10.0-ff:1f.7"]);
}

#[test]
fn a_table_that_cannot_be_read_is_told() {
    let mut unit = unit();
    if let UnitRegisters::AmdVi(registers) = &mut unit.registers {
        registers.device_tables[0] = DeviceTableBase::from_bits((END - 0x1000) | 1);
    }
    let found = found(&Words::default(), unit);
    assert_eq!(found[1], ("00:10.0-00:1f.7".into(), Err(Obstacle::Unreadable(END.into()))));
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["00:00.0-00:0f.7", "00:10.0-00:1f.7", "01:00.0-ff:1f.7"]);
}

/// GLX 0 at 0xA000; guest tables of four levels at 0x5000 for PASID 0 and at 0x6000 for PASID 9.
fn guest(extra: u64) -> Words {
    let mut words = device([TRANSLATED | GV | 2 << 58 | extra, 1 << 16]);
    words.0.extend([(0xA000, 0x5001), (0xA000 + 9 * 8, 0x6001)]);
    words
}

/// 2.2.6: guest tables have the processor's format; GIoV puts requests without PASID under PASID 0.
#[test]
fn guest_tables_are_found_by_pasid() {
    let names = |words: &Words| listed(words).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&guest(0)), ["00:02.0", "00:02.0/0x0", "00:02.0/0x9"]);
    assert_eq!(names(&guest(GIOV)), ["00:02.0", "00:02.0/0x9"]);
    let mut words = guest(GIOV);
    words.0.extend([(0x6000, 0x7007), (0x7000, 0x4000_0087), (0x7008, 0x8005), (0x8000, 0x20_0087)]);
    let route = listed(&words)[1].1.unwrap().route;
    let expected = ["0x0+0x40000000->0x40000000 rw 3", "0x40000000+0x200000->0x200000 r 2"];
    assert_eq!(pieces(&words, unit(), route), expected);
}

/// Host tables translate where the CR3 table and the guest tables are, and where they lead.
#[test]
fn guest_tables_over_host_tables_go_through_both() {
    let mut words = device([TRANSLATED | GV | GIOV | 2 << 58 | 1 << 9 | 0xE000, 1 << 16]);
    words.0.extend([
        // Host tables: guest pages 0xA, 5 to 8 and 0xD are 64 KiB further up.
        (0xE000 + 0xA * 8, 0x6000_0000_0001_A001),
        (0xE000 + 0x5 * 8, 0x6000_0000_0001_5001),
        (0xE000 + 0x6 * 8, 0x6000_0000_0001_6001),
        (0xE000 + 0x7 * 8, 0x6000_0000_0001_7001),
        (0xE000 + 0x8 * 8, 0x6000_0000_0001_8001),
        (0xE000 + 0xD * 8, 0x2000_0000_0001_D001), // read only
        (0x1_A000, 0x5001),
        (0x1_5000, 0x6007),
        (0x1_6000, 0x7007),
        (0x1_7000, 0x8007),
        (0x1_8000, 0xD007),
    ]);
    assert_eq!(reached(&words), ["0x0+0x1000->0x1d000 r 1"]);
    words.0.remove(&(0xE000 + 0xA * 8));
    let unmapped = Obstacle::TableUnmapped(0xA000.into());
    assert_eq!(listed(&words), [("00:02.0/0x0..".into(), Err(unmapped))]);
    // Without GCR3TRPMode, CR3 tables have physical addresses; what they name has not.
    words.0.insert(0xA000, 0x5001);
    let mut unit = unit();
    if let UnitRegisters::AmdVi(registers) = &mut unit.registers {
        registers.control.set_guest_cr3_address(false);
    }
    assert_eq!(reached_with(unit, &words), ["0x0+0x1000->0x1d000 r 1"]);
}

/// Two levels: each entry of the first is for 512 PASIDs.
#[test]
fn cr3_tables_of_several_levels_are_walked() {
    let mut words = device([TRANSLATED | GV | GIOV | 1 << 56 | 2 << 58, 1 << 16]);
    words.0.extend([(0xA000 + 3 * 8, 0xB001), (0xB008, 0x5001), (0xA000 + 4 * 8, END | 1)]);
    let names: Vec<_> = listed(&words).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["00:02.0/0x601", "00:02.0/0x800.."]);
    words.0.extend([(0xA000 + 3 * 8, 0xB003), (0xA000 + 4 * 8, 1 << 52 | 0xB001)]);
    let faults = |first: &str| (first.to_owned(), Err(Obstacle::ReservedBits));
    assert_eq!(listed(&words), [faults("00:02.0/0x600.."), faults("00:02.0/0x800..")]);
}

#[test]
fn what_the_unit_lacks_lets_nothing_pass() {
    assert_eq!(route(&device([TRANSLATED | 7 << 9, 0])), Err(Obstacle::Width(7)));
    assert_eq!(route(&device([TRANSLATED | 1 << 63, 0])), Err(Obstacle::ReservedBits));
    assert_eq!(route(&device([TRANSLATED | 1 << 9 | 1 << 50, 0])), Err(Obstacle::ReservedBits));
    let too_many = device([TRANSLATED | GV | GIOV | 3 << 56, 0]);
    assert_eq!(listed(&too_many), [("00:02.0/0x0..".into(), Err(Obstacle::Width(3)))]);
    let mut unit = unit();
    if let UnitRegisters::AmdVi(registers) = &mut unit.registers {
        registers.control.set_guest_translation(false);
        registers.features.set_hats(0);
    }
    let names: Vec<_> = found(&guest(GIOV), unit).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["00:02.0", "00:10.0-ff:1f.7"], "guest tables are not looked at");
    assert_eq!(found(&device([TRANSLATED | 5 << 9, 0]), unit)[0].1, Err(Obstacle::Width(5)));
}
