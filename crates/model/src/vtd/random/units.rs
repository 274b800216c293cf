//! Makes random remapping units: their capabilities, and the state that the old kernel left them in.

use crate::habits::{Chore, Habit, Habits};
use crate::shapes::{Size, one_in, pick};
use crate::vtd::scenario::{OldQueue, UnitScenario};
use crate::vtd::walk::Traits;
use fastrand::Rng;
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::TableMode;

/// One unit on most machines.
pub(super) fn units(rng: &mut Rng, size: Size) -> Vec<UnitScenario> {
    let more = size.units.saturating_sub(1);
    let count = 1 + if one_in(rng, 3) { rng.usize(..=more) } else { 0 };
    let host_address_bits = pick(rng, &[39, 46, 52]);
    // All units of a machine share the write buffer.
    let buffered = one_in(rng, 6);
    let mut units: Vec<_> = (0..count).map(|_| unit(rng, host_address_bits)).collect();
    for unit in &mut units {
        unit.traits.capability.set_rwbf(buffered);
    }
    units
}

fn unit(rng: &mut Rng, host_address_bits: u32) -> UnitScenario {
    let mode = if one_in(rng, 3) { TableMode::SCALABLE } else { TableMode::LEGACY };
    let traits = traits(rng, mode, host_address_bits);
    let queue = queue(rng, &traits);
    UnitScenario { traits, habits: habits(rng), mode, queue }
}

fn traits(rng: &mut Rng, mode: TableMode, host_address_bits: u32) -> Traits {
    let scalable = mode == TableMode::SCALABLE;
    let widths: [(u8, u8); 5] = [(0b0010, 39), (0b0100, 48), (0b0110, 48), (0b1110, 57), (0b1100, 57)];
    let (sagaw, bits) = pick(rng, &widths);
    let capability = Capability::new()
        .with_nd(pick(rng, &[2, 4, 6]))
        .with_sagaw(sagaw)
        .with_mgaw(bits - 1)
        .with_sslps(pick(rng, &[0b00, 0b01, 0b11]))
        .with_cm(one_in(rng, 6))
        .with_esrtps(one_in(rng, 4))
        .with_psi(!one_in(rng, 4))
        .with_mamv(pick(rng, &[0, 9, 18]))
        .with_dwd(true)
        .with_drd(true)
        .with_fro(0x22)
        .with_nfr(pick(rng, &[0, 0, 7]))
        .with_fs1gp(scalable && rng.bool())
        .with_fs5lp(scalable && rng.bool());
    let first_stage = scalable && rng.bool();
    let privileges = first_stage && rng.bool();
    let queue = scalable || !one_in(rng, 4);
    let extended = ExtendedCapability::new()
        .with_c(one_in(rng, 3))
        .with_qi(queue)
        .with_dt(queue && one_in(rng, 3))
        .with_ir(true)
        .with_pt(!one_in(rng, 3))
        .with_sc(rng.bool())
        .with_smts(scalable)
        .with_ssts(scalable)
        .with_fsts(first_stage)
        .with_nest(first_stage && rng.bool())
        .with_smpwcs(scalable && rng.bool())
        .with_ssads(scalable && rng.bool())
        .with_eafs(first_stage && rng.bool())
        .with_srs(privileges)
        .with_rprivs(privileges)
        .with_pasid(scalable && rng.bool())
        .with_pss(19)
        .with_rps(scalable && rng.bool())
        .with_iro(0xF);
    Traits { capability, extended, host_address_bits }
}

/// The capabilities that all units share, as far as shared tables depend on them.
pub(super) fn common(units: &[UnitScenario]) -> Traits {
    let traits = units.iter().map(|unit| unit.traits);
    traits.reduce(shared).unwrap_or_default()
}

fn shared(one: Traits, other: Traits) -> Traits {
    let (a, b) = (one.capability, other.capability);
    let capability = a
        .with_nd(a.nd().min(b.nd()))
        .with_sagaw(a.sagaw() & b.sagaw())
        .with_mgaw(a.mgaw().min(b.mgaw()))
        .with_sslps(a.sslps() & b.sslps())
        .with_fs1gp(a.fs1gp() && b.fs1gp())
        .with_fs5lp(a.fs5lp() && b.fs5lp());
    let (a, b) = (one.extended, other.extended);
    let extended = a.with_fsts(a.fsts() && b.fsts()).with_nest(a.nest() && b.nest());
    Traits { capability, extended, ..one }
}

fn queue(rng: &mut Rng, traits: &Traits) -> OldQueue {
    if !traits.extended.qi() {
        return OldQueue::Off;
    }
    match rng.u8(..12) {
        0 => OldQueue::Off,
        1 | 2 => OldQueue::Busy(rng.u32(1..6)),
        3 => OldQueue::Stopped,
        4 => OldQueue::TimedOut(rng.u32(..4)),
        5 => OldQueue::Garbled,
        _ => OldQueue::Idle,
    }
}

/// Habits of a unit that is slow now and then, but never stuck.
fn habits(rng: &mut Rng) -> Habits {
    let mut habits = Habits::default();
    for chore in Chore::VTD {
        if one_in(rng, 4) {
            habits = habits.with(chore, Habit::After(rng.u32(0..20)));
        }
    }
    habits
}
