//! Disks behind every driver and every kind of bridge, and disks that make trouble.

use crate::crashes::expectation::Expectation;
use crate::crashes::row::Row;
use crate::guests::kernels::Flavour;
use crate::machines::qemu::Watch;
use crate::machines::scenario::Scenario;
use crate::machines::scenario::device::{DiskModel, DiskPlace, DiskTrouble, DiskUse, NvmeOddity};
use crate::machines::scenario::unit::{Mode, Translation, UnitSetting};

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = disks();
    rows.extend(troubled_disks());
    rows.extend(odd_nvme());
    rows
}

/// Other disks than virtio's, each behind every kind of translation, and with requests that nobody has answered: its own, or those of
/// another disk behind the same function. QEMU finishes all requests when it stops a machine, so that these are not stopped.
fn disks() -> Vec<Row> {
    let with = |kernel, disk_model| Scenario { disk_model, ..Scenario::plain(kernel) };
    [
        ("ahci", with(Flavour::Amd64, DiskModel::Ahci)),
        ("ahci-chipset", with(Flavour::Amd64, DiskModel::AhciOfChipset)),
        ("virtio-scsi", with(Flavour::Cloud, DiskModel::VirtioScsi)),
        ("nvme", with(Flavour::Cloud, DiskModel::Nvme)),
    ]
    .into_iter()
    .flat_map(|(name, plain)| disk(name, &plain))
    .chain(pvscsi())
    .collect()
}

/// QEMU's device reaches its rings past the remapping unit, but their state and data through it: Linux dies of it unless
/// translation is off.
fn pvscsi() -> [Row; 2] {
    let off = UnitSetting { translation: Translation::Off, ..UnitSetting::PLAIN };
    let plain = Scenario { disk_model: DiskModel::Pvscsi, unit: off, ..Scenario::plain(Flavour::Cloud) };
    let [.., idle, busy, _] = disk("pvscsi", &plain);
    [idle, busy]
}

fn disk(name: &str, plain: &Scenario) -> [Row; 6] {
    let row = |variant, scenario, expectation| Row::new(&format!("{name}-{variant}"), scenario, expectation);
    let behind = |variant, mode, translation| {
        let unit = UnitSetting { translation, mode, ..UnitSetting::PLAIN };
        row(variant, Scenario { unit, ..plain.clone() }, Expectation::takeover())
    };
    let off = UnitSetting { translation: Translation::Off, ..UnitSetting::PLAIN };
    let in_use = |variant, disk_use: DiskUse| {
        let busy = format!("busy {}", disk_use.read(plain.disk_model).unwrap_or_default());
        let dump = if plain.unit.translation == Translation::Off {
            Expectation::complete_dump()
        } else {
            Expectation::takeover()
        };
        let holds = format!("{} holds area", plain.disk_model.place(disk_use));
        let expectation = dump.watched(Watch::Trace).and_guest_says(&busy).and_says(&holds);
        row(variant, Scenario { disk_use, ..plain.clone() }, expectation)
    };
    [
        behind("legacy", Mode::Legacy, Translation::On),
        behind("scalable", Mode::Scalable, Translation::On),
        behind("pt", Mode::Legacy, Translation::PassThrough).only_among_all(),
        row(
            "off",
            Scenario { unit: off, ..plain.clone() },
            Expectation::complete_dump().and_says("translation is off"),
        )
        .only_among_all(),
        in_use("busy", DiskUse::Busy),
        in_use("busy-neighbour", DiskUse::BusyNeighbour).only_among_all(),
    ]
}

/// Disks that fail in the middle of the dump, behind each driver: what they took is sealed, or was said to be safe, and the machine
/// is reset in time.
fn troubled_disks() -> Vec<Row> {
    use DiskTrouble::{Hang, WriteErrors};

    let on = |disk_model, trouble| {
        let kernel = if disk_model == DiskModel::Ahci { Flavour::Amd64 } else { Flavour::Cloud };
        Scenario { disk_model, disk_trouble: Some(trouble), memory_mib: 5120, ..Scenario::plain(kernel) }
    };
    let refuses = |name, model| {
        let partial = Expectation::partial_dump()
            .and_readable()
            .and_says("does not take the dump: the device reported error");
        Row::new(name, on(model, WriteErrors), partial)
    };
    let hangs = |name, model| {
        let cut_off = Expectation::cut_off_dump()
            .and_readable()
            .and_says("Only a part of the dump was saved: the disk failed");
        Row::new(name, on(model, Hang), cut_off)
    };
    vec![
        hangs("nvme-hangs", DiskModel::Nvme),
        refuses("ahci-refuses-writes", DiskModel::Ahci),
        refuses("nvme-refuses-writes", DiskModel::Nvme).only_among_all(),
        hangs("ahci-hangs", DiskModel::Ahci).only_among_all(),
        refuses("virtio-blk-refuses-writes", DiskModel::VirtioBlk).only_among_all(),
        hangs("virtio-blk-hangs", DiskModel::VirtioBlk).only_among_all(),
        refuses("virtio-scsi-refuses-writes", DiskModel::VirtioScsi).only_among_all(),
        hangs("virtio-scsi-hangs", DiskModel::VirtioScsi).only_among_all(),
    ]
}

/// NVMe controllers of odd shapes as the dump's disk: any two oddities are together in one row, one without the other in another, and
/// the plain rows have neither.
fn odd_nvme() -> Vec<Row> {
    use NvmeOddity::{LargeBlocks, MemoryBuffer, OneQueuePair, SmallTransfers, ThirdNamespace};

    let plain = UnitSetting::PLAIN;
    let scalable = UnitSetting { mode: Mode::Scalable, ..plain };
    let pass_through = UnitSetting { translation: Translation::PassThrough, ..plain };
    let off = UnitSetting { translation: Translation::Off, ..plain };
    let on = |unit, disk_place, oddities: &[NvmeOddity]| Scenario {
        disk_model: DiskModel::Nvme,
        disk_place,
        nvme: oddities.to_vec(),
        unit,
        ..Scenario::plain(Flavour::Cloud)
    };
    let row = |name, unit, place, oddities: &[NvmeOddity]| {
        Row::new(name, on(unit, place, oddities), Expectation::takeover())
    };
    let (root, switch) = (DiskPlace::RootBus, DiskPlace::Switch);
    vec![
        row("nvme-odd-scalable", scalable, switch, &[LargeBlocks, SmallTransfers, OneQueuePair]),
        row("nvme-odd-pt", pass_through, root, &[SmallTransfers, ThirdNamespace, MemoryBuffer]),
        Row::new(
            "nvme-odd-off",
            on(off, switch, &[OneQueuePair, ThirdNamespace, MemoryBuffer]),
            Expectation::complete_dump().and_says("translation is off"),
        ),
        row("nvme-large-blocks", plain, root, &[LargeBlocks, OneQueuePair, MemoryBuffer]).only_among_all(),
        row("nvme-third", plain, switch, &[LargeBlocks, SmallTransfers, ThirdNamespace]).only_among_all(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::crashes::matrix;

    #[test]
    fn any_two_oddities_of_nvme_are_in_rows_together_apart_and_not_at_all() {
        use NvmeOddity::{LargeBlocks, MemoryBuffer, OneQueuePair, SmallTransfers, ThirdNamespace};
        let oddities = [LargeBlocks, MemoryBuffer, OneQueuePair, SmallTransfers, ThirdNamespace];
        let conditions = |scenario: &Scenario| {
            let mut is: Vec<_> = oddities.iter().map(|oddity| scenario.nvme.contains(oddity)).collect();
            is.push(scenario.disk_place == DiskPlace::Switch);
            is
        };
        let of_nvme = |row: &Row| row.scenario.disk_model == DiskModel::Nvme;
        let rows: Vec<_> =
            matrix::rows().iter().filter(|row| of_nvme(row)).map(|row| conditions(&row.scenario)).collect();
        for first in 0..=oddities.len() {
            for second in 0..first {
                let pairs: BTreeSet<_> = rows.iter().map(|row| (row[first], row[second])).collect();
                assert_eq!(pairs.len(), 4, "{first} with {second}");
            }
        }
    }
}
