//! VT-d tables whose words are written by hand, by the layouts of the specification (9.2 to 9.8).

use std::collections::BTreeMap;

use reach::{Budget, Obstacle, Route, Spent, Subject, Tables, UnitRegisters, UnitSetup, VtdRegisters};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::RootTableAddress;

use super::words::{END, Words, pieces};

/// Everything that a unit of scalable mode can have, on a machine of 46 bits.
fn unit() -> UnitSetup {
    let registers = VtdRegisters {
        root: RootTableAddress::from_bits(0x1400),
        // SAGAW: 39, 48 and 57 bits; MGAW 48; SSLPS: 2 MiB and 1 GiB; FS1GP; FS5LP.
        capability: Capability::from_bits(0b1110 << 8 | 47 << 16 | 3 << 34 | 1 << 56 | 1 << 60),
        // PT, NEST, PASID, SMTS, SSTS, FSTS, RPS, RPRIVS.
        extended: ExtendedCapability::from_bits(
            1 << 6 | 1 << 26 | 1 << 40 | 1 << 43 | 1 << 46 | 1 << 47 | 1 << 49 | 1 << 53,
        ),
    };
    UnitSetup { registers: UnitRegisters::Vtd(registers), host_address_bits: 46 }
}

/// 00:02.0 with this PASID table entry for its requests without PASID.
fn device(entry: [u64; 3]) -> Words {
    let mut words = BTreeMap::from([(0x1000, 0x2001), (0x2000 + 0x10 * 32, 0x3001), (0x3000, 0x4001)]);
    words.extend((0x4000..).step_by(8).zip(entry));
    Words(words)
}

/// The route of the only requester.
fn route(words: &Words) -> Result<Route, Obstacle> {
    let mut found = Vec::new();
    let tables = Tables::new(words, unit());
    tables.each_requester(&mut Budget::new(100), &mut |place, binding| found.push((place, binding))).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(matches!(found[0].0, Subject::Requester(requester) if requester.to_string() == "00:02.0"));
    found[0].1.map(|binding| binding.route)
}

/// Where the only requester's addresses lead.
fn reached(words: &Words) -> Vec<String> {
    pieces(words, unit(), route(words).unwrap())
}

/// PGTT 1 (first stage) or 3 (nested), AW 2 (48 bits); first stage of four levels at 0x5000, second stage at 0x9000.
fn first_stage() -> Words {
    device([1 << 6 | 1, 7, 0x5000])
}

fn nested() -> Words {
    device([0x9000 | 3 << 6 | 2 << 2 | 1, 7, 0x5000])
}

#[test]
fn first_stage_pages_have_the_rights_of_all_levels() {
    let mut words = first_stage();
    words.0.extend([
        (0x5000, 0x6007),
        (0x6000, 0x7007),
        (0x6008, 0x4000_0087), // 1 GiB, user, writable
        (0x7000, 0x8005),      // not writable from here on
        (0x7008, 0x20_1087),   // 2 MiB; bit 12 is its PAT bit
        (0x8000, 0xA007),
        (0x8008, 0xB003), // no user requests
    ]);
    let expected = [
        "0x0+0x1000->0xa000 r 1",
        "0x1000+0x1000->0xb000 rs 1",
        "0x200000+0x200000->0x200000 rw 2",
        "0x40000000+0x40000000->0x40000000 rw 3",
    ];
    assert_eq!(reached(&words), expected);
}

/// RID_PRIV makes requests without PASID privileged (9.4), which SRE allows and WPE binds to read-only pages (9.6).
#[test]
fn privileged_requests_go_by_what_the_pasid_entry_says_of_supervisors() {
    let with = |supervisors: u64| {
        let mut words = device([1 << 6 | 1, 7, 0x5000 | supervisors]);
        // A page that is neither writable nor for users.
        words.0.extend([(0x5000, 0x6007), (0x6000, 0x7007), (0x7000, 0x8007), (0x8000, 0xA001)]);
        words.0.insert(0x2000 + 0x10 * 32 + 8, 1 << 20);
        words
    };
    let (allowed, bound) = (1, 1 << 4);
    assert_eq!(route(&with(0)), Err(Obstacle::Supervisor));
    assert_eq!(reached(&with(allowed)), ["0x0+0x1000->0xa000 rw 1"]);
    assert_eq!(reached(&with(allowed | bound)), ["0x0+0x1000->0xa000 r 1"]);
}

#[test]
fn the_upper_half_of_a_first_stage_is_sign_extended() {
    let mut words = first_stage();
    words.0.extend([(0x5000 + 511 * 8, 0x6007), (0x6000 + 511 * 8, 0x7007), (0x7000 + 511 * 8, 0xE0_0087)]);
    assert_eq!(reached(&words), ["0xffffffffffe00000+0x200000->0xe00000 rw 2"]);
}

/// 3.8: the second stage translates where the first-stage tables are, and where they lead.
#[test]
fn nested_pages_go_through_both_stages() {
    let mut words = nested();
    words.0.extend([
        // Second stage: guest 0..2 MiB in small pages, 2 MiB..4 MiB as one, read-only.
        (0x9000, 0xA003),
        (0xA000, 0xB003),
        (0xB000, 0xC003),
        (0xB008, 0xE0_0081),
        (0xC000 + 0x5 * 8, 0x1_5003), // the first stage's tables
        (0xC000 + 0x6 * 8, 0x1_6003),
        (0xC000 + 0x7 * 8, 0x1_7003),
        (0xC000 + 0x8 * 8, 0x1_8003),
        (0xC000 + 0xD * 8, 0x1_9003), // a page
        // First stage, where the second stage puts it.
        (0x1_5000, 0x6007),
        (0x1_6000, 0x7007),
        (0x1_7000, 0x8007),
        (0x1_7008, 0x20_0087), // 2 MiB over 2 MiB
        (0x1_7010, 0x6_0007),  // a table that the second stage does not map
        (0x1_8000, 0xD005),    // a page over a page
        (0x1_8008, 0x5_0007),  // a page that the second stage does not map
    ]);
    let expected = [
        "0x0+0x1000->0x19000 r 1",
        "0x200000+0x200000->0xe00000 r 2",
        "0x400000+0x200000: the first-stage table at 0x60000 is not mapped by the second stage",
    ];
    assert_eq!(reached(&words), expected);
}

#[test]
fn a_large_first_stage_page_is_cut_as_the_second_stage_is() {
    let mut words = nested();
    words.0.extend([
        (0x9000, 0xA003),
        (0xA000, 0xB003),
        (0xB000, 0xC003),
        (0xC000 + 0x5 * 8, 0x1_5003),
        (0xC000 + 0x6 * 8, 0x1_6003),
        (0xC000 + 0x7 * 8, 0x1_7003),
        (0x1_5000, 0x6007),
        (0x1_6000, 0x7007),
        (0x1_7000, 0x87), // guest 0..2 MiB
    ]);
    assert_eq!(
        reached(&words),
        ["0x5000+0x1000->0x15000 rw 1", "0x6000+0x1000->0x16000 rw 1", "0x7000+0x1000->0x17000 rw 1"]
    );
}

#[test]
fn reserved_bits_and_tables_outside_memory_are_told_where_they_are() {
    let mut words = device([0x9000 | 2 << 6 | 2 << 2 | 1, 7, 0]);
    words.0.extend([
        (0x9000, 0xA003),
        (0xA000, 0xB003),
        (0xA008, END | 3),
        (0xB000, 1 << 50 | 3),
        (0xB008, 0x1083),
    ]);
    let expected = [
        "0x0+0x200000: reserved bits are set",
        "0x200000+0x200000: reserved bits are set",
        "0x40000000+0x40000000: the table at 0x100000 cannot be read",
    ];
    assert_eq!(reached(&words), expected);
}

/// 3.14, 7.1.3: no table translates the interrupt window, and none may lead into it.
#[test]
fn interrupts_are_left_out_on_both_sides() {
    let mut words = device([0x9000 | 2 << 6 | 2 << 2 | 1, 7, 0]);
    // 1 GiB at 3 GiB leads to itself, and the one at 0 there as well.
    words.0.extend([(0x9000, 0xA003), (0xA000, 0xC000_0083), (0xA018, 0xC000_0083)]);
    let expected = [
        "0x0+0x3ee00000->0xc0000000 rw 3",
        "0x3ef00000+0x1100000->0xfef00000 rw 3",
        "0xc0000000+0x3ee00000->0xc0000000 rw 3",
        "0xfef00000+0x1100000->0xfef00000 rw 3",
    ];
    assert_eq!(reached(&words), expected);
}

#[test]
fn what_the_unit_lacks_lets_nothing_pass() {
    assert_eq!(route(&device([5 << 6 | 1, 7, 0])), Err(Obstacle::Type(5)));
    assert_eq!(route(&device([2 << 6 | 1, 7, 0])), Err(Obstacle::Width(0)));
    assert_eq!(route(&device([1 << 6 | 1, 7, 2 << 2])), Err(Obstacle::Width(2)));
    assert_eq!(route(&device([1 << 6 | 1 << 10 | 1, 7, 0])), Err(Obstacle::ReservedBits));
    assert_eq!(route(&device([0, 7, 0])), Err(Obstacle::NoPasidEntry));
}

#[test]
fn a_walk_ends_with_its_budget() {
    let mut words = device([0x9000 | 2 << 6 | 2 << 2 | 1, 7, 0]);
    words.0.extend((0..512).map(|index| (0x9000 + index * 8, 0x9003)));
    let (mut pieces, mut budget) = (0, Budget::new(1000));
    let done =
        Tables::new(&words, unit()).each_piece(route(&words).unwrap(), &mut budget, &mut |_| pieces += 1);
    assert_eq!((done, budget), (Err(Spent), Budget::new(0)));
    assert!(pieces < 1000 * 512);
}

#[test]
fn one_walk_cannot_spend_the_budget_of_others() {
    let mut all = Budget::new(10);
    let share = all.lend(4);
    assert_eq!((all, share), (Budget::new(6), Budget::new(4)));
    all.give_back(Budget::new(3));
    assert_eq!((all.lend(100), all), (Budget::new(9), Budget::new(0)));
}
