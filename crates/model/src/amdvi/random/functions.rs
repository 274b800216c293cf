//! Makes random functions: their domains, and the addresses of their DMA.

use super::domains::IDS;
use crate::amdvi::scenario::{
    Attached, DeviceTlb, Domain, Excluded, Function, GuestTables, Process, Stage, UnitScenario,
};
use crate::amdvi::walk::HYPERTRANSPORT;
use crate::reached::Rights;
use crate::shapes::{CAPTURE, PASS_THROUGH, Size, inside, one_in, pick};
use fastrand::Rng;
use machine::IoAddress;
use std::collections::BTreeMap;

/// Entries of a page of a device table.
const ENTRIES: u64 = 128;

pub(super) fn functions(
    rng: &mut Rng,
    units: &[UnitScenario],
    domains: &[Domain],
    size: Size,
) -> Vec<Function> {
    let mut functions: BTreeMap<u16, Function> = BTreeMap::new();
    for number in 0..rng.usize(1..=size.functions.max(1)) {
        let unit = rng.usize(..units.len());
        let source = source(rng, &units[unit]);
        let attached = attached(rng, &units[unit], domains);
        let works_at = works_at(rng, heeded(attached, &units[unit], domains), domains);
        let processes = processes(rng, &units[unit], attached, domains);
        // Cached translations are tagged by domain-id and PASID: those of a function's own processes need an id of its own.
        let id = (!processes.is_empty()).then_some(IDS + number as u16);
        let device_tlb = device_tlb(rng, attached);
        let excluded = if one_in(rng, 3) { Excluded::Yes } else { Excluded::No };
        let function = Function { unit, source, attached, id, works_at, processes, device_tlb, excluded };
        functions.insert(source, function);
    }
    functions.into_values().collect()
}

/// Chooses an id that the unit's table has an entry for.
fn source(rng: &mut Rng, unit: &UnitScenario) -> u16 {
    let bits = 16 - u32::from(unit.segments);
    let entries = (unit.table_pages * ENTRIES).min(1 << bits);
    let segment = rng.u64(..1 << unit.segments);
    (segment << bits | rng.u64(..entries)) as u16
}

/// Chooses a domain that the unit can walk, or one of the ways to have none.
fn attached(rng: &mut Rng, unit: &UnitScenario, domains: &[Domain]) -> Attached {
    let can_walk = |index: &usize| {
        let feature = unit.traits.feature;
        match domains[*index].stage {
            Stage::Host => true,
            Stage::Guest | Stage::Nested(_) => feature.gt() && feature.gio(),
        }
    };
    let rights = pick(rng, &[Rights::ALL, Rights::ALL, Rights { read: true, write: false }, Rights::NONE]);
    let domain = rng.choice((0..domains.len()).filter(can_walk).collect::<Vec<_>>());
    match (rng.u8(..16), domain) {
        (0 | 1, _) | (_, None) => Attached::PassThrough(PASS_THROUGH, rights),
        (2, _) => Attached::Aborted,
        (3, _) => Attached::Untranslated,
        (_, Some(domain)) => Attached::To(domain),
    }
}

/// What becomes of requests without PASID where the unit uses no guest tables: they pass, or go through host tables alone.
fn heeded(attached: Attached, unit: &UnitScenario, domains: &[Domain]) -> Attached {
    let Attached::To(domain) = attached else { return attached };
    match domains[domain].stage {
        _ if unit.guest_tables == GuestTables::Used => attached,
        Stage::Host => attached,
        Stage::Nested(host) => Attached::To(host),
        Stage::Guest => Attached::PassThrough(domains[domain].id, Rights::ALL),
    }
}

/// Now and then a device-TLB; most of them work.
fn device_tlb(rng: &mut Rng, attached: Attached) -> Option<DeviceTlb> {
    let Attached::To(_) = attached else { return None };
    if !one_in(rng, 4) {
        return None;
    }
    let odd = [DeviceTlb::Silent, DeviceTlb::Garbles, DeviceTlb::Stalls];
    Some(if one_in(rng, 6) { pick(rng, &odd) } else { DeviceTlb::Answers })
}

/// Now and then a process or two, whose guest tables are nested if the function has host tables.
fn processes(rng: &mut Rng, unit: &UnitScenario, attached: Attached, domains: &[Domain]) -> Vec<Process> {
    if !unit.traits.feature.gt() || rng.bool() {
        return Vec::new();
    }
    let stage = match attached {
        Attached::To(index) => match domains[index].stage {
            Stage::Host => Stage::Nested(index),
            guest => guest,
        },
        Attached::PassThrough(_, Rights::ALL) => Stage::Guest,
        // What an entry does not allow, it does not allow its guest tables either.
        _ => return Vec::new(),
    };
    let own_top = match attached {
        Attached::To(index) if domains[index].stage != Stage::Host => Some(domains[index].top),
        _ => None,
    };
    let fits = |index: &usize| {
        domains[*index].stage == stage && own_top.is_none_or(|top| domains[*index].top == top)
    };
    let mut fitting: Vec<usize> = (0..domains.len()).filter(fits).collect();
    // All guest tables of a device have the same levels.
    let top = own_top.or(fitting.first().map(|index| domains[*index].top));
    fitting.retain(|index| Some(domains[*index].top) == top);
    let largest = 0x1FF_u32 | [0, 0x3_FFFF, 0xF_FFFF][usize::from(unit.traits.feature.glx().min(2))];
    let mut process = |pasid| {
        let domain = rng.choice(&fitting).copied()?;
        let works_at = works_at(rng, Attached::To(domain), domains);
        Some(Process { pasid, domain, works_at })
    };
    [1, largest].into_iter().filter_map(&mut process).collect()
}

/// Chooses addresses within the mappings, and one or two outside.
fn works_at(rng: &mut Rng, attached: Attached, domains: &[Domain]) -> Vec<IoAddress> {
    let Attached::To(domain) = attached else {
        let addresses = [rng.u64(..0xA_0000), rng.u64(0x10_0000..CAPTURE.start.get()), CAPTURE.end.get()];
        return addresses.map(IoAddress::new).into();
    };
    let mappings = domains[domain].mappings.iter();
    let mut works_at: Vec<IoAddress> = mappings.map(|mapping| inside(rng, mapping)).collect();
    rng.shuffle(&mut works_at);
    works_at.truncate(8);
    let is_memory = |iova: &IoAddress| {
        ![machine::INTERRUPT_WINDOW, HYPERTRANSPORT].into_iter().any(|other| other.contains(*iova))
    };
    let others = [rng.u64(..1 << 39), u64::MAX].map(IoAddress::new);
    works_at.extend(others.into_iter().filter(is_memory));
    works_at
}
