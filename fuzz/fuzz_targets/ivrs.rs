//! The ACPI IVRS table, as firmware or a dead kernel left it.

#![no_main]

use amdvi::ivrs::{Ivhd, Ivrs};
use fixtures::acpi_table::fix_checksum_within;
use libfuzzer_sys::fuzz_target;
use machine::SourceId;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    read(&bytes);
    fix_checksum_within(&mut bytes);
    read(&bytes);
});

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
