//! Finds the unit that translates a function's requests, by the firmware's table (VT-d 8.3, AMD-Vi 5.2.2).

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use amdvi::ivrs::{Block, Ivhd, IvhdType, Ivrs, IvrsError, MOST_IVHDS};
use machine::growth::{OutOfMemory, collected};
use machine::{Registers, SourceId};
use takeover::DeviceTlb;
use vtd::dmar::{DeviceScope, Dmar, DmarError, Drhd, ScopeType, Structure};

use crate::acpi::AcpiError;
use pci::{Ats, Bridge, Device, Function, Identity, VirtualFunction};

/// Most units that are used; the largest machines have some forty.
pub const MOST_UNITS: usize = 256;

/// The types of blocks that describe a unit of AMD's; one of these that is unknown is too short.
const IVHD: [IvhdType; 3] = [IvhdType::LEGACY, IvhdType::FEATURES, IvhdType::ACPI];

/// Why a function that no unit names may be behind an IOMMU that translates.
///
/// Such a function must not be given physical addresses: they may lead anywhere in the dead kernel's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The firmware's tables cannot be read.
    #[error("no IOMMU is known, and there may be one: {0}")]
    Hidden(AcpiError),
    /// The list of units is damaged, or ends early.
    #[error("{0}")]
    Damaged(#[from] DmarError),
    /// The same of AMD's table.
    #[error("{0}")]
    DamagedIvrs(#[from] IvrsError),
    /// A unit's entry in the list cannot be read, or there are more than are used.
    #[error("the firmware's table lists units that were not read")]
    Unread,
}

impl Doubt {
    /// Says what keeps a table from telling of every function behind which unit it is; `None` if nothing does.
    pub fn of_table(dmar: &Dmar) -> Option<Self> {
        /// The type of a unit's entry, which is unknown only if it is too short.
        const DRHD: u16 = 0;
        let in_structures = dmar.structures().find_map(|structure| match structure {
            Err(error) => Some(Self::Damaged(error)),
            Ok(Structure::Unknown { kind: DRHD, .. }) => Some(Self::Unread),
            Ok(Structure::Drhd(drhd)) if !drhd.scopes.is_sound() => Some(Self::Unread),
            Ok(_) => None,
        });
        in_structures.or_else(|| (dmar.units().count() > MOST_UNITS).then_some(Self::Unread))
    }

    /// The same of AMD's table.
    pub fn of_ivrs(ivrs: &Ivrs) -> Option<Self> {
        let in_blocks = ivrs.blocks().find_map(|block| match block {
            Err(error) => Some(Self::DamagedIvrs(error)),
            Ok(Block::Unknown { kind, .. }) if IVHD.contains(&IvhdType(kind)) => Some(Self::Unread),
            Ok(Block::Ivhd(ivhd)) if !ivhd.entries.is_sound() => Some(Self::Unread),
            Ok(_) => None,
        });
        in_blocks.or_else(|| {
            let are_too_many = ivrs.units().count() > MOST_UNITS || ivrs.ivhds().nth(MOST_IVHDS).is_some();
            are_too_many.then_some(Self::Unread)
        })
    }
}

/// The functions whose requests a unit translates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serves {
    /// PCI segment group.
    pub segment: u32,
    /// Whether it serves all functions that no unit names.
    rest: bool,
    /// The source-ids that are named.
    named: Vec<RangeInclusive<SourceId>>,
    /// Those whose requests arrive under another source-id, by the firmware's word.
    aliases: Vec<(RangeInclusive<SourceId>, SourceId)>,
}

impl Serves {
    /// Reads them from the table; paths lead through the bridges among `devices`.
    pub fn new<R: Registers>(drhd: &Drhd, devices: &[Device<R>]) -> Result<Self, OutOfMemory> {
        let bridge_at = |source: SourceId| {
            let function = Function::from_requester_id(drhd.segment.into(), source.0);
            devices.iter().find(|device| device.function == function)?.bridge()
        };
        let named = collected(drhd.scopes.iter().flat_map(|scope| sources_of(&scope, bridge_at)))?;
        Ok(Self { segment: drhd.segment.into(), rest: drhd.includes_all(), named, aliases: Vec::new() })
    }

    /// Reads them from AMD's table, which names every function and every alias.
    pub fn of_ivhd(ivhd: &Ivhd) -> Result<Self, OutOfMemory> {
        let scopes = || ivhd.scopes().filter(|scope| scope.first <= scope.last);
        let pairs = scopes().filter_map(|scope| Some((scope.first..=scope.last, scope.alias?)));
        let aliases = collected(pairs)?;
        let of_aliases = scopes().filter_map(|scope| scope.alias).map(|alias| alias..=alias);
        let named = collected(scopes().map(|scope| scope.first..=scope.last).chain(of_aliases))?;
        Ok(Self { segment: ivhd.segment.into(), rest: false, named, aliases })
    }

    /// The source-ids under which a function's requests arrive besides its own, by the firmware's word.
    pub fn aliases_of(&self, function: Function) -> impl Iterator<Item = SourceId> + '_ {
        let source = source_of(function);
        let aliased =
            self.aliases.iter().filter(move |(range, alias)| range.contains(&source) && *alias != source);
        aliased.map(|(_, alias)| *alias)
    }

    fn names(&self, function: Function) -> bool {
        let source = source_of(function);
        self.segment == function.segment && self.named.iter().any(|range| range.contains(&source))
    }

    fn takes_rest_of(&self, segment: u32) -> bool {
        self.rest && self.segment == segment
    }
}

/// The unit that names a function.
fn unit_naming<'a>(mut units: impl Iterator<Item = &'a Serves>, function: Function) -> Option<usize> {
    units.position(|serves| serves.names(function))
}

/// The unit that translates a function's requests: the one that names it, or the one that takes what none names.
pub fn unit_of<'a>(units: &(impl Iterator<Item = &'a Serves> + Clone), function: Function) -> Option<usize> {
    unit_naming(units.clone(), function)
        .or_else(|| units.clone().position(|serves| serves.takes_rest_of(function.segment)))
}

/// The unit of a function: by the firmware's table as far as that is whole, else by the contexts that the dead kernel made;
/// `has_context` says whether the unit of an index has one for the function.
pub fn unit_responsible<'a>(
    units: &(impl Iterator<Item = &'a Serves> + Clone),
    doubt: Option<Doubt>,
    has_context: impl Fn(usize) -> bool,
    function: Function,
) -> Option<usize> {
    let listed = match doubt {
        None => unit_of(units, function),
        Some(_) => unit_naming(units.clone(), function),
    };
    listed.or_else(|| (0..units.clone().count()).find(|&index| has_context(index)))
}

/// Whether a unit of this segment with contexts for these sources has one for a function.
pub fn has_context_of(
    function: Function,
    segment: u32,
    mut contexts: impl Iterator<Item = SourceId>,
) -> bool {
    segment == function.segment && contexts.any(|source| source == source_of(function))
}

/// The source-id of a function's requests, as units know them.
pub fn source_of(function: Function) -> SourceId {
    SourceId(function.requester_id())
}

/// What a unit needs to know of a device's TLB: whether the device caches translations now, and how it is told to forget them.
pub fn device_tlb<R: Registers>(device: &Device<R>) -> DeviceTlb {
    let Identity { vendor, device: id, .. } = device.identity();
    tlb_of(device.function, device.function, device.ats(), tellings(vendor, id))
}

/// The same of a virtual function.
pub fn virtual_device_tlb(hidden: &VirtualFunction) -> DeviceTlb {
    tlb_of(hidden.function, hidden.physical, hidden.ats, tellings(hidden.vendor, hidden.device))
}

fn tlb_of(function: Function, physical: Function, ats: Option<Ats>, tellings: u8) -> DeviceTlb {
    DeviceTlb {
        source: source_of(function),
        enabled: ats.is_some_and(|ats| ats.enabled),
        physical: source_of(physical),
        depth: ats.map_or(1, |ats| ats.queue_depth),
        tellings,
    }
}

/// How often a device must be told to forget its translations. Intel's QuickAssist functions 4940h to 4943h may use one that
/// was on its way when the first telling arrived.
fn tellings(vendor: u16, device: u16) -> u8 {
    if vendor == 0x8086 && device & !3 == 0x4940 { 2 } else { 1 }
}

/// The source-ids that a device scope names: a function's; for a bridge also those of all buses behind it.
fn sources_of<F: Fn(SourceId) -> Option<Bridge>>(
    scope: &DeviceScope,
    bridge_at: F,
) -> impl Iterator<Item = RangeInclusive<SourceId>> + use<F> {
    let place = place_of(scope, &bridge_at);
    let named = place.filter(|_| matches!(scope.kind, ScopeType::ENDPOINT | ScopeType::BRIDGE));
    let bridge = named.filter(|_| scope.kind == ScopeType::BRIDGE).and_then(bridge_at);
    let behind = bridge
        .map(|bridge| SourceId::new(bridge.secondary_bus, 0)..=SourceId::new(bridge.subordinate_bus, 0xFF));
    named.map(|source| source..=source).into_iter().chain(behind)
}

/// The source-id of the function at the end of a scope's path, if all functions on the way are bridges.
fn place_of(scope: &DeviceScope, bridge_at: impl Fn(SourceId) -> Option<Bridge>) -> Option<SourceId> {
    let mut bus = scope.bus;
    let mut place = None;
    for (device, function) in scope.path() {
        if let Some(above) = place {
            bus = bridge_at(above)?.secondary_bus;
        }
        place = Some(SourceId::at(bus, device, function));
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::Listing;
    use fixtures::ConfigSpace;
    use machine::Range;

    /// A DRHD structure of segment 0 with these flags and device scopes.
    fn drhd(flags: u8, scopes: &[u8]) -> Vec<u8> {
        let mut drhd = vec![0, 0, 16 + scopes.len() as u8, 0, flags, 0, 0, 0];
        drhd.extend(0xFED9_0000u64.to_le_bytes());
        drhd.extend(scopes);
        drhd
    }

    /// A DMAR table with these structures.
    fn dmar(structures: &[u8]) -> Vec<u8> {
        let mut table = b"DMAR".to_vec();
        table.resize(48, 0);
        table.extend(structures);
        let len = table.len() as u32;
        table[4..8].copy_from_slice(&len.to_le_bytes());
        table[9] = table.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
        table
    }

    /// Whose requests a unit with these flags and device scopes translates, on a machine of no known devices.
    fn serves(flags: u8, scopes: &[u8]) -> Serves {
        let table = dmar(&drhd(flags, scopes));
        Serves::new::<ConfigSpace>(&Dmar::parse(&table).unwrap().units().next().unwrap(), &[]).unwrap()
    }

    /// The ranges that the scopes of a unit name, where 00:1c.0 is a bridge to buses 5 to 7 and 05:02.0 one to bus 6.
    fn named(scopes: &[u8]) -> Vec<String> {
        let bridge_at = |source: SourceId| {
            let (secondary_bus, subordinate_bus) = match source.0 {
                0x00E0 => (5, 7),
                0x0510 => (6, 6),
                _ => return None,
            };
            Some(Bridge { secondary_bus, subordinate_bus, windows: [Range::default(); 2] })
        };
        let table = dmar(&drhd(0, scopes));
        let drhd = Dmar::parse(&table).unwrap().units().next().unwrap();
        let ranges = drhd.scopes.iter().flat_map(|scope| sources_of(&scope, bridge_at));
        ranges.map(|range| format!("{}-{}", range.start(), range.end())).collect()
    }

    /// A table of one megabyte can list tens of thousands of units; each takes page tables, time, and a share of the
    /// frames.
    #[test]
    fn no_more_units_are_looked_at_than_machines_have() {
        let of = |count: usize| {
            Listing::Dmar(Dmar::parse(&dmar(&drhd(1, &[]).repeat(count))).unwrap()).units().count()
        };
        assert_eq!((of(0), of(40), of(256), of(60_000)), (0, 40, 256, 256));
    }

    /// Otherwise a function that such a unit names would be taken for one that none names.
    #[test]
    fn units_that_cannot_be_read_leave_a_doubt() {
        let doubt = |structures: &[u8]| Doubt::of_table(&Dmar::parse(&dmar(structures)).unwrap());
        assert_eq!(doubt(&drhd(1, &[3, 8, 0, 0, 0, 0xFF, 0, 0])), None);
        assert_eq!(doubt(&drhd(0, &[1, 9, 0, 0, 0, 0, 2, 0])), Some(Doubt::Unread));
        assert_eq!(doubt(&[0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Some(Doubt::Unread));
        let cut = [&drhd(1, &[])[..], &[0, 0, 0, 0]].concat();
        assert_eq!(doubt(&cut), Some(Doubt::Damaged(DmarError::BadStructure(64))));
        assert_eq!(doubt(&drhd(1, &[]).repeat(257)), Some(Doubt::Unread));
    }

    #[test]
    fn a_function_is_found_behind_the_bridges_of_its_path() {
        let endpoint = [1, 8, 0, 0, 0, 0, 2, 0];
        let behind_two_bridges = [1, 12, 0, 0, 0, 0, 0x1C, 0, 2, 0, 3, 1];
        assert_eq!(named(&endpoint), ["00:02.0-00:02.0"]);
        assert_eq!(named(&behind_two_bridges), ["06:03.1-06:03.1"]);
    }

    #[test]
    fn a_bridge_is_named_with_all_buses_behind_it() {
        assert_eq!(named(&[2, 8, 0, 0, 0, 0, 0x1C, 0]), ["00:1c.0-00:1c.0", "05:00.0-07:1f.7"]);
    }

    #[test]
    fn interrupt_controllers_and_paths_through_no_bridge_name_nothing() {
        let io_apic = [3, 8, 0, 0, 0, 0xFF, 0, 0];
        let no_bridge = [1, 10, 0, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(named(&[io_apic.as_slice(), &no_bridge].concat()), [""; 0]);
    }

    #[test]
    fn a_unit_serves_what_it_names_or_the_rest_of_its_segment() {
        let function = Function { segment: 0, bus: 0, devfn: 0x10 };
        let (naming, rest) = (serves(0, &[1, 8, 0, 0, 0, 0, 2, 0]), serves(1, &[]));
        assert!(naming.names(function) && !naming.takes_rest_of(0));
        assert!(!rest.names(function) && rest.takes_rest_of(0) && !rest.takes_rest_of(1));
        assert!(!naming.names(Function { segment: 1, ..function }));
    }

    /// 03:01.0 has ATS with this control register, enabled by bit 15.
    #[test]
    fn a_device_keeps_translations_while_ats_is_enabled() {
        let device = |control| {
            let config = ConfigSpace::new(&[(0x100, &[0x0F, 0, 0x01, 0, 0x24, 0, 0, control])]);
            Device { function: Function { segment: 0, bus: 3, devfn: 8 }, config }
        };
        let source = SourceId(0x0308);
        let tlb = DeviceTlb { source, enabled: true, physical: source, depth: 4, tellings: 1 };
        assert_eq!(device_tlb(&device(0x80)), tlb);
        assert_eq!(device_tlb(&device(0)), DeviceTlb { enabled: false, ..tlb });
    }

    #[test]
    fn sriov_functions_have_device_tlbs_of_their_own_behind_their_physical_function() {
        let function = |devfn| Function { segment: 0, bus: 3, devfn };
        let ats = Some(Ats { enabled: true, queue_depth: 8 });
        let (function, physical) = (function(0x80), function(0));
        let hidden = VirtualFunction { function, physical, vendor: 0x8086, device: 0x154C, ats };
        let tlb = virtual_device_tlb(&hidden);
        assert_eq!((tlb.source, tlb.physical), (SourceId(0x0380), SourceId(0x0300)));
        assert_eq!((tlb.enabled, tlb.depth, tlb.tellings), (true, 8, 1));
        let without = VirtualFunction { ats: None, ..hidden };
        assert!(!virtual_device_tlb(&without).enabled);
    }

    #[test]
    fn quickassist_functions_are_told_twice() {
        let intel = [0x493F, 0x4940, 0x4941, 0x4942, 0x4943, 0x4944].map(|device| tellings(0x8086, device));
        assert_eq!(intel, [1, 2, 2, 2, 2, 1]);
        assert_eq!(tellings(0x1AF4, 0x4940), 1);
    }

    /// INCLUDE_PCI_ALL takes what is left, wherever it stands in the table.
    #[test]
    fn the_unit_that_names_a_function_comes_before_the_one_that_takes_the_rest() {
        let units = [serves(1, &[]), serves(0, &[1, 8, 0, 0, 0, 0, 2, 0])];
        let function = Function { segment: 0, bus: 0, devfn: 0x10 };
        assert_eq!(unit_of(&units.iter(), function), Some(1));
        assert_eq!(unit_of(&units.iter(), Function { devfn: 0x18, ..function }), Some(0));
        assert_eq!(unit_of(&units.iter(), Function { segment: 1, ..function }), None);
    }
    /// A table that is damaged may lack the unit that names a function; then what is left is nobody's.
    #[test]
    fn contexts_tell_whose_a_function_is_where_the_table_does_not() {
        let units = [serves(1, &[]), serves(0, &[1, 8, 0, 0, 0, 0, 2, 0]), serves(0, &[])];
        let (named, other) = (function(0x10), function(0x18));
        let unit = |doubt, context, function| {
            unit_responsible(&units.iter(), doubt, |index| Some(index) == context, function)
        };
        for (doubt, of_the_rest) in [(None, Some(0)), (Some(Doubt::Unread), None)] {
            assert_eq!(unit(doubt, Some(2), named), Some(1), "the table comes first");
            assert_eq!(unit(doubt, None, other), of_the_rest);
            assert_eq!(unit(doubt, Some(2), other), of_the_rest.or(Some(2)));
        }
        let elsewhere = Function { segment: 1, ..other };
        assert_eq!(unit(None, Some(2), elsewhere), Some(2));
        assert_eq!(unit(None, None, elsewhere), None);
    }

    #[test]
    fn a_context_is_a_functions_only_in_its_segment() {
        let sources = || [SourceId(0x10), SourceId(0x20)].into_iter();
        assert!(has_context_of(function(0x20), 0, sources()));
        assert!(!has_context_of(function(0x18), 0, sources()));
        assert!(!has_context_of(function(0x20), 1, sources()));
    }

    fn function(devfn: u8) -> Function {
        Function { segment: 0, bus: 0, devfn }
    }
}
