//! Makes random domains and their mappings.

use crate::amdvi::scenario::{Domain, GUEST_TABLES, Levels, Mapping, Pages, Stage, Style};
use crate::amdvi::walk::{HYPERTRANSPORT, Traits, is_canonical};
use crate::memory::MemoryKind;
use crate::shapes::{PASS_THROUGH, Size, one_in, pick, range_of, reserved_memory, target, targets};
use fastrand::Rng;
use machine::{IoAddress, Level, PAGE_SIZE, Permission, PhysicalAddress, Range};
use std::collections::BTreeMap;

/// Domain-ids of domains are below it; those above are for functions with tables of their own.
pub(super) const IDS: u16 = 300;

/// Makes domains for units that all have these features, on a machine with this memory.
pub(super) fn domains(
    rng: &mut Rng,
    traits: &Traits,
    memory: &[(Range<PhysicalAddress>, MemoryKind)],
    size: Size,
) -> Vec<Domain> {
    let mut ids: Vec<u16> = (1..IDS).filter(|id| *id != PASS_THROUGH).collect();
    rng.shuffle(&mut ids);
    let mut domains: Vec<Domain> = Vec::new();
    for id in ids.into_iter().take(rng.usize(..=size.domains)) {
        let stage = stage(rng, traits, &domains);
        let top = top(rng, traits, stage);
        let host = match stage {
            Stage::Nested(host) => Some(&domains[host].mappings[..]),
            _ => None,
        };
        let targets = targets(memory, host, traits.host_address_bits);
        let (space, style) = (Space { stage, top }, style(rng));
        let mappings = mappings(rng, space, &targets, (style, size));
        let alike =
            |other: &Domain| other.top == top && other.stage == stage && other.style.levels == Levels::All;
        let shares_with = domains.iter().position(alike).filter(|_| one_in(rng, 4));
        domains.push(Domain { id, stage, top, mappings, style, shares_with });
    }
    domains
}

/// Chooses a stage: host, guest if all units have it, or a guest nested in a domain with mappings.
fn stage(rng: &mut Rng, traits: &Traits, domains: &[Domain]) -> Stage {
    // A host maps its guest's tables at high addresses, and is as high.
    let is_host = |index: &usize| {
        let domain = &domains[*index];
        domain.stage == Stage::Host && domain.top >= Level::FOUR && !domain.mappings.is_empty()
    };
    let host = rng.choice((0..domains.len()).filter(is_host).collect::<Vec<_>>());
    match (rng.u8(..3), host) {
        (0, Some(host)) if traits.feature.gt() => Stage::Nested(host),
        (1, _) if traits.feature.gt() => Stage::Guest,
        _ => Stage::Host,
    }
}

/// Mostly as many levels as Linux has; the lowest have room for little.
fn top(rng: &mut Rng, traits: &Traits, stage: Stage) -> Level {
    let feature = traits.feature;
    let (levels, highest): (&[Level], _) = match stage {
        Stage::Host => (
            &[
                Level::ONE,
                Level::TWO,
                Level::THREE,
                Level::THREE,
                Level::FOUR,
                Level::FOUR,
                Level::FIVE,
                Level::SIX,
            ],
            feature.host_levels(),
        ),
        Stage::Guest | Stage::Nested(_) => (&[Level::FOUR, Level::FIVE], feature.guest_levels()),
    };
    let highest = highest.unwrap_or(Level::FOUR);
    pick(rng, levels).min(highest)
}

fn style(rng: &mut Rng) -> Style {
    Style {
        levels: if one_in(rng, 3) { Levels::Skipped } else { Levels::All },
        pages: if rng.bool() { Pages::Joined } else { Pages::Single },
    }
}

/// The addresses of a domain.
#[derive(Clone, Copy)]
struct Space {
    stage: Stage,
    top: Level,
}

impl Space {
    /// The last address that can be translated, less the upper half.
    fn last(self) -> u64 {
        u64::MAX >> (64 - self.top.width())
    }

    /// Whether all of `range` can be translated.
    fn holds(self, range: Range<IoAddress>) -> bool {
        let last = IoAddress::new(range.end.get() - 1);
        match self.stage {
            Stage::Host => last.get() <= self.last(),
            Stage::Guest | Stage::Nested(_) => {
                is_canonical(range.start, self.top) && is_canonical(last, self.top)
            }
        }
    }
}

/// Makes runs of neighbouring pages that do not overlap, and identity mappings of reserved memory.
fn mappings(
    rng: &mut Rng,
    space: Space,
    targets: &[Range<PhysicalAddress>],
    (style, size): (Style, Size),
) -> Vec<Mapping> {
    let mut taken: BTreeMap<IoAddress, Mapping> = BTreeMap::new();
    for _ in 0..rng.usize(..=size.runs) {
        for mapping in run(rng, space, targets, style) {
            if is_free(&taken, &mapping, space) {
                taken.insert(mapping.iova, mapping);
            }
        }
    }
    // A guest knows nothing of the host's firmware.
    if !matches!(space.stage, Stage::Nested(_)) && one_in(rng, 4) {
        let free: Vec<Mapping> =
            reserved_memory().filter(|mapping| is_free(&taken, mapping, space)).collect();
        taken.extend(free.into_iter().map(|mapping| (mapping.iova, mapping)));
    }
    taken.into_values().collect()
}

/// Neighbouring pages, of memory here and there; where pages are joined, mostly of neighbouring memory.
fn run(rng: &mut Rng, space: Space, targets: &[Range<PhysicalAddress>], style: Style) -> Vec<Mapping> {
    let level = level(rng, space);
    let first = run_start(rng, space, level);
    let permission = pick(rng, &[Permission::Read, Permission::Write, Permission::ReadWrite]);
    let joined = style.pages == Pages::Joined && !one_in(rng, 3);
    let pages = if joined { 1 << rng.u32(0..6) } else { rng.u64(1..9) };
    let start = target(rng, targets, level).map(|start| {
        let aligned = start.align_down((level.span() * pages).next_power_of_two());
        if joined { aligned } else { start }
    });
    let page = |number: u64| {
        let iova = first.saturating_add(number * level.span());
        let memory = match start {
            Some(start) if joined => Some(start.saturating_add(number * level.span())),
            _ => target(rng, targets, level),
        }?;
        let inside = targets
            .iter()
            .any(|target| target.covers(Range::new(memory, memory.saturating_add(level.span()))));
        inside.then_some(Mapping { iova, memory, level, permission })
    };
    (0..pages).filter_map(page).collect()
}

/// Chooses a page size.
fn level(rng: &mut Rng, space: Space) -> Level {
    let level = match rng.u8(..8) {
        0 => Level::THREE,
        1 | 2 => Level::TWO,
        _ => Level::ONE,
    };
    level.min(space.top)
}

/// Chooses an address as kernels do: near zero, below 4 GiB, at the end of the width, or anywhere; in guest tables also in the
/// upper half.
fn run_start(rng: &mut Rng, space: Space, level: Level) -> IoAddress {
    let last = space.last();
    let near = rng.u64(..64) * level.span();
    let start = match rng.u8(..5) {
        0 => near,
        1 => 0xFFFF_F000_u64.saturating_sub(near),
        2 => last.saturating_sub(PAGE_SIZE - 1).saturating_sub(near),
        3 if space.stage != Stage::Host => !(last / 2) | rng.u64(..=last / 4),
        _ => rng.u64(..=last),
    };
    IoAddress::new(start).align_down(level.span())
}

/// Whether a mapping overlaps no other, can be translated, and avoids addresses that mean no memory and the tables of guests.
fn is_free(taken: &BTreeMap<IoAddress, Mapping>, mapping: &Mapping, space: Space) -> bool {
    let Some(wanted) = Range::sized(mapping.iova, mapping.level.span()) else { return false };
    let others = [machine::INTERRUPT_WINDOW, HYPERTRANSPORT, GUEST_TABLES];
    space.holds(wanted)
        && !others.into_iter().any(|other| other.overlaps(wanted))
        && !taken.values().any(|other| range_of(other).overlaps(wanted))
}
