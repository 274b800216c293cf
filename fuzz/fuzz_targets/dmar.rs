//! The ACPI DMAR table, as firmware or a dead kernel left it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vtd::dmar::{Dmar, Structure};

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
