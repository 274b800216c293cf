//! The ACPI IVRS table, as firmware or a dead kernel left it.

#![no_main]

use amdvi::ivrs::{Ivhd, Ivrs};
use libfuzzer_sys::fuzz_target;
use machine::SourceId;

/// Where a table has its checksum (ACPI specification 6.5, section 5.2.6).
const CHECKSUM: usize = 9;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    read(&bytes);
    make_the_sum_right(&mut bytes);
    read(&bytes);
});

/// Corrects the checksum: few mutations keep it right, and a wrong one would end the parsing there.
fn make_the_sum_right(bytes: &mut [u8]) {
    let length =
        bytes.get(4..8).map_or(0, |length| u32::from_le_bytes([length[0], length[1], length[2], length[3]]));
    let Some(table) = bytes.get_mut(..length as usize) else { return };
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = table.get_mut(CHECKSUM) {
        *checksum = checksum.wrapping_sub(sum);
    }
}

/// Reads everything in a table. There are no more parts than bytes, and one block for each unit.
fn read(bytes: &[u8]) {
    let Ok(ivrs) = Ivrs::parse(bytes) else { return };
    let parts: usize = ivrs.ivhds().map(|unit| 1 + scopes(&unit)).sum();
    assert!(parts + ivrs.memory().count() <= bytes.len());
    for unit in ivrs.ivhds() {
        assert_eq!(ivrs.units().filter(|other| other.is_of_same_unit(&unit)).count(), 1);
    }
    assert!(ivrs.memory().filter_map(|block| block.memory()).all(|memory| memory.start <= memory.end));
}

/// How many ranges of devices a unit has.
fn scopes(unit: &Ivhd) -> usize {
    let scopes = unit.scopes().inspect(|scope| assert!(!scope.contains(SourceId(0)) || scope.first.0 == 0));
    let count = scopes.count();
    assert!(count <= unit.entries.iter().count());
    count
}
