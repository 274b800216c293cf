//! Machines made up at random, as plausible as a kernel that worked: damage is [another matter](crate::damage).

use crate::habits::{Chore, Habit, Habits};
use crate::memory::Kind;
use crate::scenario::{Attached, Domain, Function, Mapping, OldQueue, Process, Scenario};
use crate::walk::{Traits, is_interrupt};
use fastrand::Rng;
use machine::{PAGE_SIZE, Range};
use std::collections::BTreeMap;
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::TableMode;
use vtd::paging::Permission;
use vtd::paging::{AddressWidth, Level};

/// How large made-up machines are at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Domains.
    pub domains: usize,
    /// Functions with a context entry.
    pub functions: usize,
    /// Runs of neighbouring pages that a domain maps.
    pub runs: usize,
}

/// The domain-id of pass-through, which no other domain has.
const PASS_THROUGH: u16 = 0xF;

impl Scenario {
    /// A machine made up from `seed`, at most of this size. One seed and size always make the same machine.
    pub fn random(seed: u64, size: Size) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mode = if one_in(&mut rng, 3) { TableMode::SCALABLE } else { TableMode::LEGACY };
        let traits = traits(&mut rng, mode);
        let memory = memory(&traits);
        let domains = domains(&mut rng, &traits, &memory, size);
        let functions = functions(&mut rng, &traits, &domains, size);
        let queue = queue(&mut rng, &traits);
        let habits = habits(&mut rng);
        Self {
            seed,
            memory,
            traits,
            habits,
            mode,
            queue,
            domains,
            functions,
            damage: Vec::new(),
            meddling: Vec::new(),
        }
    }
}

/// The capture kernel's memory.
const CAPTURE: Range = Range::new(0x200_0000, 0x280_0000);
/// Where memory above 4 GiB starts, on machines that have it.
const HIGH: u64 = 0x1_0000_0000;

/// Some 64 MiB of old memory around the capture kernel's, device registers, and 1 GiB above 4 GiB where that takes no more
/// than one page to map.
fn memory(traits: &Traits) -> Vec<(Range, Kind)> {
    let mut memory = vec![
        (Range::new(0, 0xA_0000), Kind::Old),
        (Range::new(0x10_0000, CAPTURE.start), Kind::Old),
        (CAPTURE, Kind::Capture),
        (Range::new(CAPTURE.end, 0x480_0000), Kind::Old),
        (Range::new(0xFEB0_0000, 0xFEC0_0000), Kind::Mmio),
    ];
    if traits.capability.sslps() == 0b11 {
        memory.push((Range::new(HIGH, HIGH + (1 << 30)), Kind::Old));
    }
    memory
}

fn traits(rng: &mut Rng, mode: TableMode) -> Traits {
    let scalable = mode == TableMode::SCALABLE;
    let widths: [(u8, u8); 5] = [(0b0010, 39), (0b0100, 48), (0b0110, 48), (0b1110, 57), (0b1100, 57)];
    let (sagaw, bits) = pick(rng, &widths);
    let capability = Capability::new()
        .with_nd(pick(rng, &[2, 4, 6]))
        .with_sagaw(sagaw)
        .with_mgaw(bits - 1)
        .with_sslps(pick(rng, &[0b00, 0b01, 0b11]))
        .with_rwbf(one_in(rng, 6))
        .with_cm(one_in(rng, 6))
        .with_esrtps(one_in(rng, 4))
        .with_psi(!one_in(rng, 4))
        .with_mamv(pick(rng, &[0, 9, 18]))
        .with_dwd(true)
        .with_drd(true)
        .with_fro(0x22)
        .with_nfr(pick(rng, &[0, 0, 7]));
    let extended = ExtendedCapability::new()
        .with_c(one_in(rng, 3))
        .with_qi(scalable || !one_in(rng, 4))
        .with_ir(true)
        .with_pt(!one_in(rng, 3))
        .with_sc(rng.bool())
        .with_smts(scalable)
        .with_ssts(scalable)
        .with_pasid(scalable && rng.bool())
        .with_rps(scalable && rng.bool())
        .with_iro(0xF);
    Traits { capability, extended, host_address_bits: pick(rng, &[39, 46, 52]) }
}

fn queue(rng: &mut Rng, traits: &Traits) -> OldQueue {
    if !traits.extended.qi() {
        return OldQueue::Off;
    }
    match rng.u8(..10) {
        0 => OldQueue::Off,
        1 | 2 => OldQueue::Busy(rng.u32(1..6)),
        _ => OldQueue::Idle,
    }
}

/// Slow now and then, but nothing is stuck.
fn habits(rng: &mut Rng) -> Habits {
    let mut habits = Habits::default();
    for chore in Chore::ALL {
        if one_in(rng, 4) {
            habits = habits.with(chore, Habit::After(rng.u32(0..20)));
        }
    }
    habits
}

fn domains(rng: &mut Rng, traits: &Traits, memory: &[(Range, Kind)], size: Size) -> Vec<Domain> {
    let widths = [AddressWidth::BITS_39, AddressWidth::BITS_48, AddressWidth::BITS_57];
    let widths: Vec<_> = widths.into_iter().filter(|width| traits.capability.supports(*width)).collect();
    let mut ids: Vec<u16> =
        (1..traits.capability.domains().min(300) as u16).filter(|id| *id != PASS_THROUGH).collect();
    rng.shuffle(&mut ids);
    let mut domains: Vec<Domain> = Vec::new();
    for id in ids.into_iter().take(rng.usize(..=size.domains)) {
        let width = pick(rng, &widths);
        let mappings = mappings(rng, traits, width, memory, size);
        let shares_with = domains.iter().position(|other| other.width == width).filter(|_| one_in(rng, 4));
        domains.push(Domain { id, width, mappings, shares_with });
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

fn functions(rng: &mut Rng, traits: &Traits, domains: &[Domain], size: Size) -> Vec<Function> {
    let mut functions: BTreeMap<u16, Function> = BTreeMap::new();
    for _ in 0..rng.usize(1..=size.functions.max(1)) {
        let source = u16::from_be_bytes([pick(rng, &[0, 0, 0, 1, 0x3A, 0x80, 0xFF]), rng.u8(..)]);
        let Some(attached) = attached(rng, traits, domains) else { continue };
        let works_at = works_at(rng, attached, domains);
        let processes = processes(rng, traits, domains);
        functions.insert(source, Function { source, attached, works_at, processes });
    }
    functions.into_values().collect()
}

/// Some domain, or pass-through; none if there is none.
fn attached(rng: &mut Rng, traits: &Traits, domains: &[Domain]) -> Option<Attached> {
    let pass = traits.extended.pt() && one_in(rng, 6);
    match (pass, domains.len()) {
        (true, _) => Some(Attached::PassThrough(PASS_THROUGH)),
        (false, 0) => None,
        (false, count) => Some(Attached::To(rng.usize(..count))),
    }
}

/// On units that know PASIDs, now and then a process or two.
fn processes(rng: &mut Rng, traits: &Traits, domains: &[Domain]) -> Vec<Process> {
    if !traits.extended.pasid() || rng.bool() {
        return Vec::new();
    }
    let mut process = |pasid| {
        let attached = attached(rng, traits, domains)?;
        Some(Process { pasid, attached, works_at: works_at(rng, attached, domains) })
    };
    [1, 2 * 64 + 5].into_iter().filter_map(&mut process).collect()
}

/// Addresses within what is mapped, and one or two that are not.
fn works_at(rng: &mut Rng, attached: Attached, domains: &[Domain]) -> Vec<u64> {
    let Attached::To(domain) = attached else {
        return vec![rng.u64(..0xA_0000), rng.u64(0x10_0000..CAPTURE.start), CAPTURE.end];
    };
    let inside = |mapping: &Mapping| mapping.iova + rng.u64(..mapping.level.span());
    let mut works_at: Vec<u64> = domains[domain].mappings.iter().map(inside).collect();
    rng.shuffle(&mut works_at);
    works_at.truncate(8);
    works_at.extend([rng.u64(..1 << 39), u64::MAX].into_iter().filter(|iova| !is_interrupt(*iova)));
    works_at
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

fn one_in(rng: &mut Rng, count: u32) -> bool {
    rng.u32(..count) == 0
}
