//! Lists everything in a remapping unit's tables, as a reader of a dump does; the dead kernel's memory is the fuzzer's bytes.

#![no_main]

use amdvi::control::{Control, DeviceTableBase, ExclusionBase, ExclusionLimit};
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use holdover_fuzz::Memory;
use libfuzzer_sys::fuzz_target;
use machine::Position;
use reach::{AmdViRegisters, Budget, Tables, Target, UnitRegisters, UnitSetup, VtdRegisters};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::RootTableAddress;

/// Bytes in front of the memory: the architecture, three registers, and three more of AMD's.
const HEADER: usize = 56;
/// Most tables that are read. Where tables form loops there is no end to them.
const TABLES: u64 = 256;
/// As many as any processor has.
const HOST_ADDRESS_BITS: u32 = 52;

/// The registers of a unit, of AMD's if the first number is odd.
fn registers([architecture, first, second, third, others @ ..]: [u64; 7]) -> UnitRegisters {
    if architecture & 1 == 0 {
        UnitRegisters::Vtd(VtdRegisters {
            root: RootTableAddress::from_bits(first),
            capability: Capability::from_bits(second),
            extended: ExtendedCapability::from_bits(third),
        })
    } else {
        // Segments follow each other in memory.
        let base = DeviceTableBase::from_bits(first);
        let segment =
            |index| base.with_frame((base.frame() + index * (u64::from(base.size()) + 1)) & ((1 << 40) - 1));
        UnitRegisters::AmdVi(AmdViRegisters {
            device_tables: [0, 1, 2, 3, 4, 5, 6, 7].map(segment),
            control: Control::from_bits(second),
            features: ExtendedFeature::from_bits(third),
            features_2: ExtendedFeature2::from_bits(others[0]),
            exclusion_base: ExclusionBase::from_bits(others[1]),
            exclusion_limit: ExclusionLimit::from_bits(others[2]),
        })
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((header, memory)) = bytes.split_first_chunk::<HEADER>() else { return };
    let mut words = header.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let registers = registers([(); 7].map(|()| words.next().unwrap_or_default()));
    let unit = UnitSetup { registers, host_address_bits: HOST_ADDRESS_BITS };
    let memory = Memory::new(memory);
    let tables = Tables::new(&memory, unit);
    let mut budget = Budget::new(TABLES);
    let mut routes = Vec::new();
    let _ = tables.each_requester(&mut budget, &mut |_, binding| {
        routes.extend(binding.map(|binding| binding.route));
    });
    routes.sort_unstable();
    routes.dedup();
    for route in routes {
        let _ = tables.each_piece(route, &mut Budget::new(TABLES), &mut |piece| {
            assert!(piece.len > 0 && piece.iova.checked_add(piece.len - 1).is_some(), "{piece:?}");
            if let Target::Memory { address, .. } = piece.target {
                assert!(address.get() + piece.len <= 1 << HOST_ADDRESS_BITS, "{piece:?}");
            }
        });
    }
});
