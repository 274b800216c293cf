//! Any words as tables of any unit.

use amdvi::control::{Control, DeviceTableBase, ExclusionBase, ExclusionLimit};
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use machine::Position;
use proptest::prelude::*;
use reach::{AmdViRegisters, Budget, Tables, UnitRegisters, UnitSetup, VtdRegisters};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::RootTableAddress;

use super::words::Words;

/// A unit of either architecture, with any registers. Its root or device table is among the words.
fn units() -> impl Strategy<Value = UnitSetup> {
    let vtd = any::<[u64; 3]>().prop_map(|[root, capability, extended]| {
        UnitRegisters::Vtd(VtdRegisters {
            root: RootTableAddress::from_bits(root & 0xFFF | (root >> 60) << 12),
            capability: Capability::from_bits(capability),
            extended: ExtendedCapability::from_bits(extended),
        })
    });
    let amd =
        any::<([u64; 8], u64, u64, [u64; 2])>().prop_map(|(bases, control, features, [base, limit])| {
            UnitRegisters::AmdVi(AmdViRegisters {
                device_tables: bases.map(|base| DeviceTableBase::from_bits(base & 0x3 | (base >> 60) << 12)),
                control: Control::from_bits(control),
                features: ExtendedFeature::from_bits(features),
                features_2: ExtendedFeature2::from_bits(features.rotate_left(20)),
                exclusion_base: ExclusionBase::from_bits(base),
                exclusion_limit: ExclusionLimit::from_bits(limit),
            })
        });
    (prop_oneof![vtd, amd], 0..70_u32)
        .prop_map(|(registers, host_address_bits)| UnitSetup { registers, host_address_bits })
}

proptest! {
    #[test]
    fn any_words_and_any_unit_are_survived(
        words in prop::collection::vec((0..0x8000_u64 / 8, any::<u64>(), 0..0x10_u64), 0..200),
        unit in units(),
    ) {
        // Half of the entries lead to a table nearby.
        let near = |word: u64, page: u64| if word & 8 == 0 { word & 0xFFF | page << 12 } else { word };
        let words = Words(words.into_iter().map(|(at, word, page)| (at * 8, near(word, page))).collect());
        let tables = Tables::new(&words, unit);
        let mut routes = Vec::new();
        let _ = tables.each_requester(&mut Budget::new(300), &mut |_, binding| {
            routes.extend(binding.ok().map(|binding| binding.route));
        });
        for route in routes.into_iter().take(20) {
            let _ = tables.each_piece(route, &mut Budget::new(100), &mut |piece| {
                assert!(piece.len > 0 && piece.iova.checked_add(piece.len - 1).is_some(), "{piece:?}");
            });
        }
    }
}
