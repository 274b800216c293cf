//! Makes random functions: their domains, and the addresses of their DMA.

use crate::shapes::{CAPTURE, PASS_THROUGH, Size, inside, one_in, pick};
use crate::vtd::scenario::{Attached, DeviceTlb, Domain, Function, Process, Stage, UnitScenario};
use crate::vtd::walk::is_interrupt;
use fastrand::Rng;
use machine::IoAddress;
use std::collections::BTreeMap;
use vtd::control::TableMode;

pub(super) fn functions(
    rng: &mut Rng,
    units: &[UnitScenario],
    domains: &[Domain],
    size: Size,
) -> Vec<Function> {
    let mut functions: BTreeMap<u16, Function> = BTreeMap::new();
    for _ in 0..rng.usize(1..=size.functions.max(1)) {
        let source = u16::from_be_bytes([pick(rng, &[0, 0, 0, 1, 0x3A, 0x80, 0xFF]), rng.u8(..)]);
        let unit = rng.usize(..units.len());
        let Some(attached) = attached(rng, &units[unit], domains) else { continue };
        let works_at = works_at(rng, attached, domains);
        let processes = processes(rng, &units[unit], domains);
        let device_tlb = device_tlb(rng, &units[unit]);
        functions.insert(source, Function { unit, source, attached, works_at, processes, device_tlb });
    }
    functions.into_values().collect()
}

/// Chooses a domain whose tables the unit can walk, or pass-through; `None` if there is neither.
fn attached(rng: &mut Rng, unit: &UnitScenario, domains: &[Domain]) -> Option<Attached> {
    if unit.traits.extended.pt() && one_in(rng, 6) {
        return Some(Attached::PassThrough(PASS_THROUGH));
    }
    let can_walk = |index: &usize| match domains[*index].stage {
        Stage::Second => true,
        Stage::First => unit.mode == TableMode::SCALABLE && unit.traits.extended.fsts(),
        Stage::Nested(_) => unit.mode == TableMode::SCALABLE && unit.traits.extended.nest(),
    };
    rng.choice((0..domains.len()).filter(can_walk).collect::<Vec<_>>()).map(Attached::To)
}

/// Now and then a device-TLB, on units that support them; most of them work.
fn device_tlb(rng: &mut Rng, unit: &UnitScenario) -> Option<DeviceTlb> {
    if !unit.traits.extended.dt() || rng.bool() {
        return None;
    }
    let odd = [DeviceTlb::Silent, DeviceTlb::Garbles, DeviceTlb::Stalls];
    Some(if one_in(rng, 6) { pick(rng, &odd) } else { DeviceTlb::Answers })
}

/// Now and then a process or two, on units that support PASIDs; the directory for the largest PASID takes several
/// pages.
fn processes(rng: &mut Rng, unit: &UnitScenario, domains: &[Domain]) -> Vec<Process> {
    if !unit.traits.extended.pasid() || rng.bool() {
        return Vec::new();
    }
    let large = pick(rng, &[2 * 64 + 5, 32768, 0xF_FFFF]);
    let mut process = |pasid| {
        let attached = attached(rng, unit, domains)?;
        Some(Process { pasid, attached, works_at: works_at(rng, attached, domains) })
    };
    [1, large].into_iter().filter_map(&mut process).collect()
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
    let others = [rng.u64(..1 << 39), u64::MAX].into_iter().filter(|iova| !is_interrupt(*iova));
    works_at.extend(others.map(IoAddress::new));
    works_at
}
