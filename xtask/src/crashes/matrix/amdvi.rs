//! Takeovers of AMD's IOMMU.

use crate::crashes::damage::Damage;
use crate::crashes::expectation::Expectation;
use crate::crashes::row::Row;
use crate::guests::kernels::Flavour;
use crate::guests::stock::{self, SecondUse};
use crate::machines::qemu::Watch;
use crate::machines::scenario::Scenario;
use crate::machines::scenario::capture::Capture;
use crate::machines::scenario::device::{Device, DiskModel, DiskPlace, DiskUse};
use crate::machines::scenario::memory::{Paging, Reservation};
use crate::machines::scenario::mutation::Mutation;
use crate::machines::scenario::unit::{Interrupts, Translation, UnitSetting};
use crate::witnesses::Witness;

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = conditions();
    rows.extend(disks());
    rows.push(pending_requests());
    rows.push(in_place());
    rows.extend(damages());
    rows.extend(mutations());
    rows.extend(hand_overs());
    rows
}

/// Any two values of kernel, translation, interrupts, processors, memory and depth of paging meet in a row; the first three rows have
/// every value. A reservation above 4 GiB comes with memory there.
fn conditions() -> Vec<Row> {
    use Flavour::{Amd64Backports, Amd64Testing};
    use Interrupts::{Plain, Remapped, X2apic};
    use Paging::{FiveLevel, FourLevel};
    use Reservation::{High, Low};
    use Translation::{On, PassThrough};

    let rows = [
        ("amdvi-6.12", Amd64Backports, On, Remapped, 1, Low, FourLevel),
        ("amdvi-7.2-x2apic-high", Amd64Testing, On, X2apic, 2, High, FiveLevel),
        ("amdvi-pt-interrupts-not-remapped", Amd64Backports, PassThrough, Plain, 2, Low, FiveLevel),
        ("amdvi-7.2-pt", Amd64Testing, PassThrough, Remapped, 1, High, FiveLevel),
        ("amdvi-x2apic", Amd64Backports, PassThrough, X2apic, 1, High, FourLevel),
        ("amdvi-7.2-interrupts-not-remapped", Amd64Testing, On, Plain, 1, High, FourLevel),
        ("amdvi-two-processors", Amd64Testing, PassThrough, Remapped, 2, Low, FourLevel),
        ("amdvi-5level", Amd64Backports, On, X2apic, 1, Low, FiveLevel),
    ];
    let row = |(name, kernel, translation, interrupts, cpus, reservation, paging)| {
        let memory_mib = if reservation == High { 6144 } else { 1024 };
        let unit = UnitSetting { translation, interrupts, ..UnitSetting::AMD };
        let plain = Scenario::amd(kernel);
        let scenario = Scenario { paging, unit, cpus, memory_mib, reservation, ..plain };
        Row::new(name, scenario, Expectation::takeover())
    };
    let mut rows = rows.map(row);
    for row in &mut rows[3..] {
        row.only_among_all = true;
    }
    rows.into()
}

/// Disks behind every driver and every kind of bridge. Linux 6.1 dies of a virtio disk that the firmware has left at work. (None is loaded
/// by the other system call: then the core has only a part of page frame 0x9f, which makedumpfile leaves out.)
fn disks() -> Vec<Row> {
    use DiskPlace::{PciBridge, PcieToPciBridge, RootBus, Switch};
    use Flavour::{Amd64, Amd64Backports, Amd64Testing};

    let rows = [
        ("amdvi-nvme-switch", Amd64Testing, DiskModel::Nvme, Switch),
        ("amdvi-ahci-pci-bridge", Amd64Backports, DiskModel::Ahci, PciBridge),
        ("amdvi-ahci-chipset", Amd64Testing, DiskModel::AhciOfChipset, RootBus),
        ("amdvi-virtio-scsi-pcie-bridge", Amd64Backports, DiskModel::VirtioScsi, PcieToPciBridge),
        ("amdvi-6.1-nvme", Amd64, DiskModel::Nvme, RootBus),
    ];
    let row = |(name, kernel, disk_model, disk_place)| {
        let scenario = Scenario { disk_model, disk_place, ..Scenario::amd(kernel) };
        Row::new(name, scenario, Expectation::takeover()).only_among_all()
    };
    rows.map(row).into()
}

/// Requests that nobody has answered yet, of the dump's disk and of another, in a machine that is not stopped.
fn pending_requests() -> Row {
    let busy = Scenario {
        disk_model: DiskModel::Nvme,
        disk_use: DiskUse::Busy,
        ..Scenario::amd(Flavour::Amd64Backports)
    };
    let expectation = Expectation::takeover().watched(Watch::Trace).and_active(Device::SLOW_DISK);
    Row::new("amdvi-pending-requests", busy, expectation).only_among_all()
}

/// A device table below 4 GiB, and no memory for another there: it is changed where it is.
fn in_place() -> Row {
    let plain = Scenario::amd(Flavour::Amd64Backports);
    let scenario = Scenario { reservation: Reservation::OnlyHigh, memory_mib: 6144, ..plain };
    let expectation = Expectation::takeover().and_says("in one step: kept in place");
    Row::new("amdvi-in-place", scenario, expectation).only_among_all()
}

/// The kinds of damage that a device table and its page tables can take, each in a crash of its own.
fn damages() -> Vec<Row> {
    let kinds = [
        Damage::ContextBeyondMemory,
        Damage::ContextReservedBits,
        Damage::ContextWrongWidth,
        Damage::DiskContext,
        Damage::TableInRegisters,
        Damage::TableInCaptureKernel,
        Damage::TableLoop,
        Damage::PageInCaptureKernel,
    ];
    let row = |damage: Damage| {
        let scenario = Scenario { damage: Some(damage), ..Scenario::amd(Flavour::Amd64Backports) };
        let expectation = Expectation::takeover().and_damage(damage);
        Row::new(&format!("amdvi-damage-{}", damage.name()), scenario, expectation).only_among_all()
    };
    kinds.map(row).into()
}

/// Another Linux makes the dump, and finds AMD's unit translating by Holdover's tables. Linux 6.12 sets a device table of its own, in two
/// halves; Linux 7.2 goes on with the one that it finds, and with command buffer and event log. By itself it writes no dump if it is told to
/// let devices pass, or to leave the unit alone.
fn hand_overs() -> Vec<Row> {
    use Flavour::{Amd64Backports, Amd64Testing};
    use SecondUse::{Off, On, PassThrough};
    const PASSING: Translation = Translation::PassThrough;

    let rows = [
        ("handover-amdvi", Amd64Backports, Translation::On, Amd64Backports, On),
        ("handover-amdvi-pt", Amd64Backports, PASSING, Amd64Backports, On),
        ("handover-amdvi-7.2", Amd64Testing, Translation::On, Amd64Testing, On),
        ("handover-amdvi-7.2-pt", Amd64Testing, PASSING, Amd64Testing, On),
        ("handover-amdvi-7.2-into-pt", Amd64Testing, Translation::On, Amd64Testing, PassThrough),
        ("handover-amdvi-7.2-pt-into-pt", Amd64Testing, PASSING, Amd64Testing, PassThrough),
        ("handover-amdvi-7.2-off", Amd64Testing, Translation::On, Amd64Testing, Off),
        ("handover-amdvi-into-7.2", Amd64Backports, Translation::On, Amd64Testing, On),
        ("handover-amdvi-7.2-into-6.12", Amd64Testing, PASSING, Amd64Backports, PassThrough),
    ];
    let row = |(name, kernel, translation, second_kernel, second_use)| {
        let scenario = Scenario {
            capture: Capture::HandedOver,
            unit: UnitSetting { translation, ..UnitSetting::AMD },
            second_kernel: Some(second_kernel),
            second_use,
            reserved_mib: stock::RESERVED_MIB,
            ..Scenario::amd(kernel)
        };
        Row::new(name, scenario, Expectation::handed_over().and_record()).only_among_all()
    };
    let mut rows: Vec<_> = rows.map(row).into();
    // Linux trusts no device table above 4 GiB.
    let mut high = row(("handover-amdvi-7.2-high", Amd64Testing, PASSING, Amd64Testing, On));
    high.scenario = Scenario { memory_mib: 5120, reservation: Reservation::High, ..high.scenario };
    rows.push(high);
    rows
}

/// The witness for each mistake must notice it.
fn mutations() -> Vec<Row> {
    let pass_through = UnitSetting { translation: Translation::PassThrough, ..UnitSetting::AMD };
    let caught = [
        (UnitSetting::AMD, Mutation::SkipTable, Witness::Trace, "first fault"),
        (UnitSetting::AMD, Mutation::ReuseIova, Witness::Trace, "first changed translation"),
        (UnitSetting::AMD, Mutation::ClearTe, Witness::Trace, "translation was turned off"),
        (UnitSetting::AMD, Mutation::BlockEntry, Witness::Tables, "lost"),
        (UnitSetting::AMD, Mutation::SkipInvalidation, Witness::Trace, "was not told to forget"),
        (pass_through, Mutation::OpenOwn, Witness::Tables, "reaches Holdover's memory"),
    ];
    let row = |(unit, mutation, witness, objection): (UnitSetting, Mutation, Witness, &'static str)| {
        let scenario = Scenario { mutation: Some(mutation), unit, ..Scenario::amd(Flavour::Amd64Backports) };
        let name = format!("amdvi-mutation-{}", mutation.name());
        Row::new(&name, scenario, Expectation::takeover().but_caught(witness, objection))
    };
    caught.map(row).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn any_two_conditions_meet_in_a_row() {
        let of = |row: &Row| {
            let Scenario { kernel, unit, cpus, reservation, paging, .. } = &row.scenario;
            [
                format!("{kernel:?}"),
                format!("{:?}", unit.translation),
                format!("{:?}", unit.interrupts),
                format!("{cpus}"),
                format!("{reservation:?}"),
                format!("{paging:?}"),
            ]
        };
        let rows: Vec<_> = conditions().iter().map(of).collect();
        let values = |index: usize| rows.iter().map(|row| &row[index]).collect::<BTreeSet<_>>();
        for second in 0..rows[0].len() {
            for first in 0..second {
                let pairs: BTreeSet<_> = rows.iter().map(|row| (&row[first], &row[second])).collect();
                assert_eq!(pairs.len(), values(first).len() * values(second).len(), "{first} with {second}");
            }
        }
    }

    #[test]
    fn the_rows_that_run_by_default_have_every_condition() {
        let conditions = conditions();
        let by_default = conditions.iter().filter(|row| !row.only_among_all);
        let interrupts: BTreeSet<_> =
            by_default.clone().map(|row| format!("{:?}", row.scenario.unit.interrupts)).collect();
        assert_eq!((by_default.count(), interrupts.len()), (3, 3));
    }
}
