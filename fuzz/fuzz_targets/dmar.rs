//! The ACPI DMAR table, as firmware or a dead kernel left it.

#![no_main]

use fixtures::acpi_table::fix_checksum_within;
use libfuzzer_sys::fuzz_target;
use vtd::dmar::{Dmar, Structure};

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    read(&bytes);
    fix_checksum_within(&mut bytes);
    read(&bytes);
});

/// Reads everything in a table. However often its parts name each other, there are no more parts than bytes.
fn read(bytes: &[u8]) {
    let Ok(dmar) = Dmar::parse(bytes) else { return };
    assert!((1..=256).contains(&dmar.host_address_bits()));
    let parts: usize = dmar.structures().flatten().map(|structure| 1 + scopes(&structure)).sum();
    assert!(parts <= bytes.len());
    assert!(dmar.units().all(|unit| unit.register_bytes().is_power_of_two()));
}

/// How many scopes and hops a structure has.
fn scopes(structure: &Structure) -> usize {
    let scopes = match structure {
        Structure::Drhd(unit) => unit.scopes,
        Structure::Rmrr(region) => region.scopes,
        Structure::Atsr(scoped) | Structure::Satc(scoped) | Structure::Sidp(scoped) => scoped.scopes,
        Structure::Rhsa(_) | Structure::Andd(_) | Structure::Unknown { .. } => return 0,
    };
    scopes.iter().map(|scope| 1 + scope.path().count() + usize::from(scope.source().is_some())).sum()
}
