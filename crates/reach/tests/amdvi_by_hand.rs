//! Device tables and host tables of AMD-Vi's, written word by word.

use std::collections::BTreeMap;

use amdvi::control::DeviceTableBase;
use machine::{OldMemory, PhysicalAddress, Unreadable};
use reach::{AmdViSetup, Budget, Obstacle, Rights, Route, Spent, Subject, Tables, Target};

/// The device table, of two pages.
const DEVICES: u64 = 0x1000;
const BOTH: u64 = 3 << 61;
const READ: u64 = 1 << 61;

/// Memory of which only these words are not zero, and which ends at 1 MiB.
struct Words(BTreeMap<u64, u64>);

impl OldMemory for Words {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        if address.get() >= 1 << 20 {
            return Err(Unreadable { address, len: into.len() as u64 });
        }
        for (word, at) in into.as_chunks_mut().0.iter_mut().zip((address.get()..).step_by(8)) {
            *word = self.0.get(&at).copied().unwrap_or_default().to_le_bytes();
        }
        Ok(())
    }
}

/// A device table in which all functions are blocked but those with other entries: the first two words.
fn words(entries: &[(u64, [u64; 2])], tables: &[(u64, u64)]) -> Words {
    let mut words: BTreeMap<_, _> = (0..256).map(|source| (DEVICES + source * 32, 3)).collect();
    for &(source, [low, high]) in entries {
        words.extend([(DEVICES + source * 32, low), (DEVICES + source * 32 + 8, high)]);
    }
    words.extend(tables.iter().copied());
    Words(words)
}

fn unit(base: u64) -> AmdViSetup {
    let mut device_table = [DeviceTableBase::new(); 8];
    device_table[0] = DeviceTableBase::from_bits(base);
    AmdViSetup { device_table, segments: 1, host_address_bits: 40 }
}

/// The source-ids that are told of, each with its domain and its route, or an obstacle.
fn requesters(words: &Words) -> Vec<(u16, Result<(u16, Route), Obstacle>)> {
    let mut told = Vec::new();
    let tables = Tables::new(words, unit(DEVICES | 1));
    let visit = &mut |subject, binding: Result<reach::Binding, Obstacle>| {
        let (Subject::Requester(machine::Requester { source, .. }) | Subject::Bus(source)) = subject else {
            panic!("{subject:?}")
        };
        told.push((source.0, binding.map(|binding| (binding.domain, binding.route))));
    };
    tables.each_requester(&mut Budget::new(100), visit).unwrap();
    told
}

/// Where the I/O addresses of a function lead: first address, length, physical address, rights.
fn pieces(words: &Words, source: u16) -> Vec<(u64, u64, u64, String)> {
    let (_, binding) = requesters(words).into_iter().find(|(other, _)| *other == source).unwrap();
    let mut pieces = Vec::new();
    let visit = &mut |piece: reach::Piece| {
        let Target::Memory { address, rights, .. } = piece.target else { panic!("{piece:?}") };
        pieces.push((piece.iova.get(), piece.len, address.get(), rights.to_string()));
    };
    let tables = Tables::new(words, unit(DEVICES | 1));
    tables.each_piece(binding.unwrap().1, &mut Budget::new(100), visit).unwrap();
    pieces
}

#[test]
fn entries_that_let_requests_pass_are_told_of_and_blocked_ones_are_not() {
    let words = words(
        &[
            (0x08, [BOTH | 0x3603, 7]),
            (0x10, [0, 0]),
            (0x18, [READ | 3, 9]),
            (0x20, [BOTH | 0x3601, 1]),
            (0x28, [BOTH | 1 << 55 | 3, 1]),
            (0x30, [BOTH | 0x3e03, 1]),
            (0x38, [BOTH | 0x360b, 1]),
        ],
        &[],
    );
    let told = requesters(&words);
    let root = reach::Root { address: 0x3000.into(), top: machine::Level::THREE };
    let read = Rights { write: false, ..Rights::ALL };
    let expected = [
        (0x08, Ok((7, Route::Host { root, rights: Rights::ALL }))),
        (0x10, Ok((0, Route::PassThrough(Rights::ALL)))),
        (0x18, Ok((9, Route::PassThrough(read)))),
        (0x28, Err(Obstacle::GuestTables)),
        (0x30, Err(Obstacle::Width(7))),
        (0x38, Err(Obstacle::ReservedBits)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn host_tables_are_walked_with_pages_of_every_size_and_levels_that_are_skipped() {
    let tables = [
        (0x3000, BOTH | 0x4401),                        // level 2
        (0x3008, BOTH | 0x5201),                        // straight to level 1
        (0x4008, READ | 0x20_0001),                     // 2 MiB
        (0x4010, BOTH | 0x80_0000 | 0x1f_f000 | 0xe01), // 4 MiB, twice
        (0x4018, BOTH | 0x80_0000 | 0x1f_f000 | 0xe01),
        (0x5008, BOTH | 0xa001), // 4 KiB
    ];
    let words = words(&[(0x08, [BOTH | 0x3603, 7])], &tables);
    let expected = [
        (0x20_0000, 0x20_0000, 0x20_0000, "r".to_owned()),
        (0x40_0000, 0x20_0000, 0x80_0000, "rw".to_owned()),
        (0x60_0000, 0x20_0000, 0xa0_0000, "rw".to_owned()),
        (0x4000_1000, 0x1000, 0xa000, "rw".to_owned()),
    ];
    assert_eq!(pieces(&words, 0x08), expected);
}

#[test]
fn the_entry_limits_what_its_tables_allow() {
    let words = words(&[(0x08, [READ | 0x5203, 7])], &[(0x5008, BOTH | 0xa001)]);
    assert_eq!(pieces(&words, 0x08), [(0x1000, 0x1000, 0xa000, "r".to_owned())]);
}

#[test]
fn what_is_not_translated_leaves_interrupts_and_hypertransport_out() {
    let words = words(&[(0x10, [0, 0])], &[]);
    let starts: Vec<_> =
        pieces(&words, 0x10).into_iter().map(|(start, len, ..)| (start, start + len)).collect();
    assert_eq!(
        starts,
        [(0, 0xfee0_0000), (0xfef0_0000, 0xfd_0000_0000)],
        "40 bits end with HyperTransport's"
    );
}

#[test]
fn a_device_table_that_cannot_be_read_is_an_obstacle_and_a_budget_is_kept() {
    let words = words(&[], &[]);
    let mut obstacles = 0;
    let visit = &mut |_, binding: Result<reach::Binding, Obstacle>| {
        obstacles += usize::from(matches!(binding, Err(Obstacle::Unreadable(_))));
    };
    let tables = Tables::new(&words, unit(0x10_0000 | 1));
    tables.each_requester(&mut Budget::new(100), visit).unwrap();
    assert_eq!(obstacles, 2);
    let largest = Tables::new(&words, unit(DEVICES | 0x1ff));
    assert_eq!(largest.each_requester(&mut Budget::new(100), &mut |_, _| {}), Err(Spent));
}
