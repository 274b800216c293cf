//! Makes random domains and their mappings.

use crate::memory::MemoryKind;
use crate::shapes::{PASS_THROUGH, Size, one_in, pick, range_of, reserved_memory, target, targets};
use crate::vtd::scenario::{Domain, GUEST_TABLES, Mapping, Stage};
use crate::vtd::walk::Traits;
use fastrand::Rng;
use machine::{IoAddress, Level, PAGE_SIZE, Permission, PhysicalAddress, Range};
use std::collections::BTreeMap;
use vtd::first_stage::is_canonical;
use vtd::paging::AddressWidth;

/// Makes domains for units that all have these capabilities, on a machine with this memory.
pub(super) fn domains(
    rng: &mut Rng,
    traits: &Traits,
    memory: &[(Range<PhysicalAddress>, MemoryKind)],
    size: Size,
) -> Vec<Domain> {
    let mut ids: Vec<u16> =
        (1..traits.capability.domains().min(300) as u16).filter(|id| *id != PASS_THROUGH).collect();
    rng.shuffle(&mut ids);
    let mut domains: Vec<Domain> = Vec::new();
    for id in ids.into_iter().take(rng.usize(..=size.domains)) {
        let stage = stage(rng, traits, &domains);
        let Some(width) = width(rng, traits, stage) else { break };
        let host = match stage {
            Stage::Nested(host) => Some(&domains[host].mappings[..]),
            _ => None,
        };
        let targets = targets(memory, host, traits.host_address_bits);
        let space = Space { stage, width };
        let mappings = mappings(rng, traits, space, &targets, size);
        let alike = |other: &Domain| other.width == width && other.stage == stage;
        let shares_with = domains.iter().position(alike).filter(|_| one_in(rng, 4));
        domains.push(Domain { id, stage, width, mappings, shares_with, vast: None });
    }
    domains
}

/// Chooses a stage: second, first if all units have it, or a first stage nested in a domain with mappings.
fn stage(rng: &mut Rng, traits: &Traits, domains: &[Domain]) -> Stage {
    let is_host =
        |index: &usize| domains[*index].stage == Stage::Second && !domains[*index].mappings.is_empty();
    let host = rng.choice((0..domains.len()).filter(is_host).collect::<Vec<_>>());
    match (rng.u8(..3), host) {
        (0, Some(host)) if traits.extended.nest() => Stage::Nested(host),
        (1, _) if traits.extended.fsts() => Stage::First,
        _ => Stage::Second,
    }
}

fn width(rng: &mut Rng, traits: &Traits, stage: Stage) -> Option<AddressWidth> {
    let widths: Vec<_> = match stage {
        Stage::Second => [AddressWidth::BITS_39, AddressWidth::BITS_48, AddressWidth::BITS_57]
            .into_iter()
            .filter(|width| traits.capability.supports(*width))
            .collect(),
        _ if traits.capability.fs5lp() => vec![AddressWidth::BITS_48, AddressWidth::BITS_57],
        _ => vec![AddressWidth::BITS_48],
    };
    rng.choice(widths)
}

/// The addresses of a domain.
#[derive(Clone, Copy)]
struct Space {
    stage: Stage,
    width: AddressWidth,
}

impl Space {
    fn bits(self) -> u32 {
        self.width.bits().unwrap_or(39)
    }

    /// Whether all of `range` can be translated.
    fn holds(self, range: Range<IoAddress>) -> bool {
        let last = IoAddress::new(range.end.get() - 1);
        match (self.stage, self.width.top()) {
            (Stage::Second, _) | (_, None) => last.get() >> self.bits() == 0,
            (_, Some(top)) => is_canonical(range.start, top) && is_canonical(last, top),
        }
    }
}

/// Makes runs of neighbouring pages that do not overlap, and identity mappings of reserved memory.
fn mappings(
    rng: &mut Rng,
    traits: &Traits,
    space: Space,
    targets: &[Range<PhysicalAddress>],
    size: Size,
) -> Vec<Mapping> {
    let mut taken: BTreeMap<IoAddress, Mapping> = BTreeMap::new();
    for _ in 0..rng.usize(..=size.runs) {
        let level = level(rng, traits, space.stage);
        let first = run_start(rng, space, level);
        let permission = pick(rng, &[Permission::Read, Permission::Write, Permission::ReadWrite]);
        for page in 0..rng.u64(1..9) {
            let iova = first.saturating_add(page * level.span());
            let mapping =
                target(rng, targets, level).map(|memory| Mapping { iova, memory, level, permission });
            if let Some(mapping) = mapping.filter(|mapping| is_free(&taken, mapping, space)) {
                taken.insert(iova, mapping);
            }
        }
    }
    // A guest knows nothing of the host's firmware.
    if !matches!(space.stage, Stage::Nested(_)) && one_in(rng, 4) {
        let free = reserved_memory().filter(|mapping| is_free(&taken, mapping, space));
        let free: Vec<Mapping> = free.collect();
        taken.extend(free.into_iter().map(|mapping| (mapping.iova, mapping)));
    }
    taken.into_values().collect()
}

/// Chooses a page size. The first stage always has pages of 2 MiB.
fn level(rng: &mut Rng, traits: &Traits, stage: Stage) -> Level {
    let capability = traits.capability;
    let (large, huge) = match stage {
        Stage::Second => (capability.sslps() & 0b01 != 0, capability.sslps() & 0b10 != 0),
        Stage::First | Stage::Nested(_) => (true, capability.fs1gp()),
    };
    match rng.u8(..8) {
        0 if huge => Level::THREE,
        0..=2 if large => Level::TWO,
        _ => Level::ONE,
    }
}

/// Chooses an address as kernels do: near zero, below 4 GiB, at the end of the width, or anywhere; in the first stage
/// also in the upper half.
fn run_start(rng: &mut Rng, space: Space, level: Level) -> IoAddress {
    let end = 1_u64 << space.bits();
    let near = rng.u64(..64) * level.span();
    let upper_half = !(end / 2 - 1);
    let start = match rng.u8(..5) {
        0 => near,
        1 => 0xFFFF_F000_u64.saturating_sub(near),
        2 => end - PAGE_SIZE - near,
        3 if space.stage != Stage::Second => upper_half + rng.u64(..end / 4),
        _ => rng.u64(..end),
    };
    IoAddress::new(start).align_down(level.span())
}

/// Whether a mapping overlaps no other, can be translated, and avoids interrupt addresses and the tables of guests.
fn is_free(taken: &BTreeMap<IoAddress, Mapping>, mapping: &Mapping, space: Space) -> bool {
    let Some(wanted) = Range::sized(mapping.iova, mapping.level.span()) else { return false };
    space.holds(wanted)
        && !machine::INTERRUPT_WINDOW.overlaps(wanted)
        && !wanted.overlaps(GUEST_TABLES)
        && !taken.values().any(|other| range_of(other).overlaps(wanted))
}
