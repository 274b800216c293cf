//! Domains and what they map.

use super::{Size, one_in, pick};
use crate::memory::Kind;
use crate::scenario::{Domain, Mapping, Stage};
use crate::walk::Traits;
use fastrand::Rng;
use machine::{PAGE_SIZE, Range};
use std::collections::BTreeMap;
use vtd::paging::Permission;
use vtd::paging::{AddressWidth, Level};

/// The domain-id of pass-through, which no other domain has.
pub(super) const PASS_THROUGH: u16 = 0xF;

pub(super) fn domains(rng: &mut Rng, traits: &Traits, memory: &[(Range, Kind)], size: Size) -> Vec<Domain> {
    let widths = [AddressWidth::BITS_39, AddressWidth::BITS_48, AddressWidth::BITS_57];
    let widths: Vec<_> = widths.into_iter().filter(|width| traits.capability.supports(*width)).collect();
    if widths.is_empty() {
        return Vec::new();
    }
    let mut ids: Vec<u16> =
        (1..traits.capability.domains().min(300) as u16).filter(|id| *id != PASS_THROUGH).collect();
    rng.shuffle(&mut ids);
    let mut domains: Vec<Domain> = Vec::new();
    for id in ids.into_iter().take(rng.usize(..=size.domains)) {
        let width = pick(rng, &widths);
        let mappings = mappings(rng, traits, width, memory, size);
        let shares_with = domains.iter().position(|other| other.width == width).filter(|_| one_in(rng, 4));
        domains.push(Domain { id, stage: Stage::Second, width, mappings, shares_with });
    }
    domains
}

/// Runs of neighbouring pages, none over another.
fn mappings(
    rng: &mut Rng,
    traits: &Traits,
    width: AddressWidth,
    memory: &[(Range, Kind)],
    size: Size,
) -> Vec<Mapping> {
    let mut taken: BTreeMap<u64, Mapping> = BTreeMap::new();
    for _ in 0..rng.usize(..=size.runs) {
        let level = level(rng, traits);
        let first = run_start(rng, width, level);
        let permission = pick(rng, &[Permission::Read, Permission::Write, Permission::ReadWrite]);
        for page in 0..rng.u64(1..9) {
            let iova = first + page * level.span();
            let mapping =
                target(rng, memory, level).map(|memory| Mapping { iova, memory, level, permission });
            if let Some(mapping) = mapping.filter(|mapping| is_free(&taken, mapping, width)) {
                taken.insert(iova, mapping);
            }
        }
    }
    taken.into_values().collect()
}

fn level(rng: &mut Rng, traits: &Traits) -> Level {
    match (rng.u8(..8), traits.capability.sslps()) {
        (0, 0b11) => Level::THREE,
        (0..=2, 0b01 | 0b11) => Level::TWO,
        _ => Level::ONE,
    }
}

/// Where kernels put things: near zero, below 4 GiB, at the end of the width, anywhere.
fn run_start(rng: &mut Rng, width: AddressWidth, level: Level) -> u64 {
    let end = 1_u64 << width.bits().unwrap_or(39);
    let near = rng.u64(..64) * level.span();
    let start = match rng.u8(..4) {
        0 => near,
        1 => 0xFFFF_F000_u64.saturating_sub(near),
        2 => end - PAGE_SIZE - near,
        _ => rng.u64(..end),
    };
    start & !(level.span() - 1)
}

/// An aligned page of old memory of this size, if there is one.
fn target(rng: &mut Rng, memory: &[(Range, Kind)], level: Level) -> Option<u64> {
    let aligned = |range: &Range| {
        let first = range.start.next_multiple_of(level.span());
        (first, (range.end.saturating_sub(first)) / level.span())
    };
    let old = memory.iter().filter(|(_, kind)| *kind == Kind::Old).map(|(range, _)| aligned(range));
    let (first, pages) = rng.choice(old.filter(|(_, pages)| *pages > 0).collect::<Vec<_>>())?;
    Some(first + rng.u64(..pages) * level.span())
}

/// Whether a mapping overlaps no other, ends within the width, and is not where interrupts are.
fn is_free(taken: &BTreeMap<u64, Mapping>, mapping: &Mapping, width: AddressWidth) -> bool {
    let range = |mapping: &Mapping| Range::new(mapping.iova, mapping.iova + mapping.level.span());
    let wanted = range(mapping);
    let interrupts = Range::new(vtd::INTERRUPT_WINDOW.0, vtd::INTERRUPT_WINDOW.1 + 1);
    wanted.end <= 1 << width.bits().unwrap_or(39)
        && !wanted.overlaps(interrupts)
        && !taken.values().any(|other| range(other).overlaps(wanted))
}
