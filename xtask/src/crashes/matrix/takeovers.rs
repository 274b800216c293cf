//! Takeovers of VT-d in every mode, on every kind of machine that it is found in.

use crate::crashes::expectation::Expectation;
use crate::crashes::row::Row;
use crate::guests::kernels::Flavour;
use crate::machines::emulator::Emulator;
use crate::machines::scenario::Scenario;
use crate::machines::scenario::capture::Syscall;
use crate::machines::scenario::device::DiskPlace;
use crate::machines::scenario::memory::{Paging, Reservation};
use crate::machines::scenario::unit::{Caching, Interrupts, Mode, Translation, UnitSetting, Width};

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = takeovers();
    rows.extend(hardware());
    rows
}

/// Every mode, with and without translation, every depth of paging, below and above 4 GiB, spread over kernels and system
/// calls; in the mode that Linux uses by itself, all of these. A reservation above 4 GiB comes with wide I/O addresses.
fn takeovers() -> Vec<Row> {
    use Flavour::{Amd64, Cloud};
    use Mode::{Legacy, Scalable};
    use Paging::{FiveLevel, FourLevel};
    use Reservation::{High, Low};
    use Syscall::{File, Load};
    use Translation::{On, PassThrough};

    let rows = [
        (Amd64, File, Legacy, On, FourLevel, Low),
        (Amd64, File, Legacy, On, FiveLevel, Low),
        (Amd64, Load, Legacy, On, FourLevel, Low),
        (Amd64, Load, Legacy, On, FiveLevel, Low),
        (Cloud, File, Legacy, On, FourLevel, Low),
        (Cloud, File, Legacy, On, FiveLevel, Low),
        (Cloud, Load, Legacy, On, FourLevel, Low),
        (Cloud, Load, Legacy, On, FiveLevel, Low),
        (Cloud, Load, Legacy, On, FourLevel, High),
        (Amd64, File, Legacy, On, FiveLevel, High),
        (Amd64, Load, Legacy, PassThrough, FourLevel, Low),
        (Cloud, File, Legacy, PassThrough, FiveLevel, Low),
        (Cloud, File, Legacy, PassThrough, FourLevel, High),
        (Amd64, Load, Legacy, PassThrough, FiveLevel, High),
        (Amd64, File, Scalable, On, FourLevel, Low),
        (Cloud, Load, Scalable, On, FiveLevel, Low),
        (Cloud, File, Scalable, On, FourLevel, High),
        (Amd64, Load, Scalable, On, FiveLevel, High),
        (Cloud, Load, Scalable, PassThrough, FourLevel, Low),
        (Amd64, File, Scalable, PassThrough, FiveLevel, Low),
        (Amd64, Load, Scalable, PassThrough, FourLevel, High),
        (Cloud, File, Scalable, PassThrough, FiveLevel, High),
    ];
    let row = |(kernel, syscall, mode, translation, paging, reservation)| {
        let (memory_mib, width) = match reservation {
            Low => (1024, Width::Bits39),
            High | Reservation::OnlyHigh => (5120, Width::Bits48),
        };
        // Two processors in half of the rows: the notes of each belong in the dump.
        let cpus = if paging == FiveLevel { 2 } else { 1 };
        let unit = UnitSetting { translation, mode, width, ..UnitSetting::PLAIN };
        let plain = Scenario::plain(kernel);
        Scenario { syscall, paging, unit, cpus, memory_mib, reservation, ..plain }
    };
    rows.map(row).map(|scenario| Row::new(&name_of(&scenario), scenario, Expectation::takeover())).into()
}

/// The name lists the differences from Linux's defaults.
fn name_of(scenario: &Scenario) -> String {
    let Scenario { kernel, syscall, paging, unit, reservation, .. } = scenario;
    let mut name = format!("{}-{}-{}level", kernel.name(), syscall.letter(), paging.levels());
    let more = [
        (unit.mode == Mode::Scalable, "-scalable"),
        (unit.translation == Translation::PassThrough, "-pt"),
        (*reservation == Reservation::High, "-high"),
    ];
    more.into_iter().filter(|(differs, _)| *differs).for_each(|(_, word)| name += word);
    name
}

/// Other hardware and another kernel.
fn hardware() -> Vec<Row> {
    let unit = |unit: UnitSetting| Scenario { unit, ..Scenario::plain(Flavour::Cloud) };
    let identity = UnitSetting { translation: Translation::Identity, ..UnitSetting::PLAIN };
    let disk_at = |disk_place| Scenario { disk_place, ..Scenario::plain(Flavour::Cloud) };
    let first_stage = |kernel, paging| Scenario {
        emulator: Emulator::Backports,
        unit: UnitSetting { mode: Mode::FirstStage, width: Width::Bits48, ..UnitSetting::PLAIN },
        paging,
        ..Scenario::plain(kernel)
    };
    let newer =
        |unit| Scenario { emulator: Emulator::Backports, unit, ..Scenario::plain(Flavour::Backports) };
    let rows = [
        ("caching-mode", unit(UnitSetting { caching: Caching::Anything, ..UnitSetting::PLAIN })),
        (
            "interrupts-not-remapped",
            unit(UnitSetting { interrupts: Interrupts::Plain, ..UnitSetting::PLAIN }),
        ),
        ("identity-table", unit(identity)),
        ("disk-behind-pci-bridge", disk_at(DiskPlace::PciBridge)),
        ("disk-behind-pcie-bridge", disk_at(DiskPlace::PcieToPciBridge)),
        ("first-stage-amd64", first_stage(Flavour::Amd64, Paging::FourLevel)),
        ("first-stage-backports", first_stage(Flavour::Backports, Paging::FiveLevel)),
        ("x2apic-backports", newer(UnitSetting { interrupts: Interrupts::X2apic, ..UnitSetting::PLAIN })),
    ];
    rows.map(|(name, scenario)| Row::new(name, scenario, Expectation::takeover())).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_combination_of_modes_paging_and_memory_is_a_row() {
        let combination = |row: &Row| {
            let Scenario { unit, paging, reservation, .. } = &row.scenario;
            format!("{:?} {:?} {paging:?} {reservation:?}", unit.mode, unit.translation)
        };
        let combinations: BTreeSet<_> = takeovers().iter().map(combination).collect();
        assert_eq!(combinations.len(), 2 * 2 * 2 * 2);
    }
}
