//! Lists everything in a remapping unit's tables, as a reader of a dump does; the dead kernel's memory is the fuzzer's bytes.

#![no_main]

use holdover_fuzz::Memory;
use libfuzzer_sys::fuzz_target;
use machine::Position;
use reach::{Budget, Subject, Tables, Target, VtdSetup};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::RootTableAddress;

/// Bytes of registers in front of the memory: RTADDR, CAP and ECAP.
const REGISTERS: usize = 24;
/// Most tables that are read. Where tables form loops there is no end to them.
const TABLES: u64 = 256;
/// As many as any processor has.
const HOST_ADDRESS_BITS: u32 = 52;

fuzz_target!(|bytes: &[u8]| {
    let Some((registers, memory)) = bytes.split_at_checked(REGISTERS) else { return };
    let mut registers = registers.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let mut register = || registers.next().unwrap_or_default();
    let unit = VtdSetup {
        root: RootTableAddress::from_bits(register()),
        capability: Capability::from_bits(register()),
        extended: ExtendedCapability::from_bits(register()),
        host_address_bits: HOST_ADDRESS_BITS,
    };
    let memory = Memory::new(memory);
    let tables = Tables::new(&memory, unit);
    let mut budget = Budget::new(TABLES);
    let mut routes = Vec::new();
    let _ = tables.each_requester(&mut budget, &mut |place, binding| {
        assert!(binding.is_err() || matches!(place, Subject::Requester(_)));
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
