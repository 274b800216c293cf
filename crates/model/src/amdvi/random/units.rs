//! Makes random remapping units: their features, and the state that the old kernel left them in.

use crate::amdvi::scenario::{
    Cr3Addresses, ExcludedDevices, Exclusion, GuestTables, Interrupts, OldCommands, OldLog, Others,
    UnitScenario, Writes,
};
use crate::amdvi::walk::Traits;
use crate::habits::{Chore, Habit, Habits};
use crate::shapes::{Size, one_in, pick};
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use fastrand::Rng;
use machine::Range;

/// One unit on most machines.
pub(super) fn units(rng: &mut Rng, size: Size) -> Vec<UnitScenario> {
    let more = size.units.saturating_sub(1);
    let count = 1 + if one_in(rng, 3) { rng.usize(..=more) } else { 0 };
    let host_address_bits = pick(rng, &[39, 46, 48, 52]);
    (0..count).map(|_| unit(rng, host_address_bits)).collect()
}

fn unit(rng: &mut Rng, host_address_bits: u32) -> UnitScenario {
    let traits = traits(rng, host_address_bits);
    let segments = if one_in(rng, 4) { rng.u8(..=traits.feature.device_table_segments()) } else { 0 };
    UnitScenario {
        traits,
        habits: habits(rng),
        table_pages: pick(rng, &[1, 2, 2, 8, 12]),
        segments,
        others: pick(rng, &[Others::Blocked, Others::Blocked, Others::Aborted, Others::Untranslated]),
        commands: commands(rng),
        events: pick(rng, &[OldLog::Running, OldLog::Running, OldLog::Running, OldLog::Full, OldLog::Off]),
        logs: if one_in(rng, 3) { OldLog::Running } else { OldLog::Off },
        exclusion: exclusion(rng),
        writes: if rng.bool() { Writes::Whole } else { Writes::Halves },
        guest_tables: if one_in(rng, 6) { GuestTables::Ignored } else { GuestTables::Used },
        cr3_addresses: if rng.bool() { Cr3Addresses::Guests } else { Cr3Addresses::Physical },
        interrupts: if one_in(rng, 4) { Interrupts::Passed } else { Interrupts::Remapped },
        ..UnitScenario::default()
    }
}

fn traits(rng: &mut Rng, host_address_bits: u32) -> Traits {
    let guest = rng.bool();
    let marks = one_in(rng, 3);
    let feature = ExtendedFeature::new()
        .with_prefetch(rng.bool())
        .with_ppr(rng.bool())
        .with_xt(rng.bool())
        .with_nx(rng.bool())
        .with_gt(guest)
        .with_ia(!one_in(rng, 40))
        .with_ga(rng.bool())
        .with_hats(rng.u8(..3))
        .with_gats(rng.u8(..2))
        .with_glx(rng.u8(..3))
        .with_pasid_max(19)
        .with_device_table_segments(rng.u8(..4))
        .with_gio(guest)
        .with_host_accessed(marks)
        .with_host_dirty(marks);
    let feature2 = ExtendedFeature2::new().with_ht_range_ignore(one_in(rng, 4));
    Traits { feature, feature2, host_address_bits }
}

/// The features that all units share, as far as shared tables depend on them.
pub(super) fn common(units: &[UnitScenario]) -> Traits {
    let traits = units.iter().map(|unit| unit.traits);
    traits.reduce(shared).unwrap_or_default()
}

fn shared(one: Traits, other: Traits) -> Traits {
    let (a, b) = (one.feature, other.feature);
    let feature = a
        .with_hats(a.hats().min(b.hats()))
        .with_gt(a.gt() && b.gt())
        .with_gats(a.gats().min(b.gats()))
        .with_glx(a.glx().min(b.glx()));
    let ignored = one.feature2.ht_range_ignore() && other.feature2.ht_range_ignore();
    Traits { feature, feature2: one.feature2.with_ht_range_ignore(ignored), ..one }
}

fn commands(rng: &mut Rng) -> OldCommands {
    match rng.u8(..8) {
        0 => OldCommands::Off,
        1 | 2 => OldCommands::Busy(rng.u32(1..6)),
        3 => OldCommands::Stopped,
        _ => OldCommands::Idle,
    }
}

/// Now and then a few pages of old memory.
fn exclusion(rng: &mut Rng) -> Option<Exclusion> {
    let start = rng.u64(0x10..0x90) << 12;
    let range = Range::from(start..start + (rng.u64(1..16) << 12));
    let devices = if one_in(rng, 3) { ExcludedDevices::All } else { ExcludedDevices::Some };
    one_in(rng, 5).then_some(Exclusion { range, devices })
}

/// Habits of a unit that is slow now and then, but never stuck.
fn habits(rng: &mut Rng) -> Habits {
    let mut habits = Habits::default();
    for chore in Chore::AMDVI {
        if one_in(rng, 4) {
            habits = habits.with(chore, Habit::After(rng.u32(0..20)));
        }
    }
    habits
}
