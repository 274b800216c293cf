//! What is damaged, hostile or mistaken: the takeover degrades, and the witness of each mistake notices it.

use crate::crashes::damage::Damage;
use crate::crashes::expectation::Expectation;
use crate::crashes::row::Row;
use crate::guests::kernels::Flavour;
use crate::machines::scenario::device::DiskModel;
use crate::machines::scenario::disk::Disk;
use crate::machines::scenario::events::{End, Start};
use crate::machines::scenario::mutation::Mutation;
use crate::machines::scenario::unit::{Mode, Translation, UnitSetting, Width};
use crate::machines::scenario::{Board, Scenario};
use crate::witnesses::Witness;

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = mutations();
    rows.extend(damages());
    rows.extend(bad_input());
    rows.push(refused());
    rows.extend(contexts());
    rows
}

/// The witness for each mistake must notice it, in every mode. The general kernel has devices that are always at work.
fn mutations() -> Vec<Row> {
    let plain = UnitSetting::PLAIN;
    let scalable = UnitSetting { mode: Mode::Scalable, ..plain };
    let pass_through = UnitSetting { translation: Translation::PassThrough, ..plain };
    let caught = [
        ("", plain, Mutation::SkipTable, Witness::Trace, "first fault"),
        ("-scalable", scalable, Mutation::SkipTable, Witness::Tables, "lost"),
        ("", plain, Mutation::ReuseIova, Witness::Trace, "first changed translation"),
        ("", plain, Mutation::ClearTe, Witness::Trace, "translation was turned off"),
        ("", plain, Mutation::FlipByte, Witness::Memory, "is not what was in memory"),
        ("-pt", pass_through, Mutation::OpenOwn, Witness::Tables, "reaches Holdover's memory"),
        ("-scalable", scalable, Mutation::OpenOwn, Witness::Tables, "reaches Holdover's memory"),
    ];
    let row = |(variant, unit, mutation, witness, objection): (
        &str,
        UnitSetting,
        Mutation,
        Witness,
        &'static str,
    )| {
        let scenario = Scenario { unit, mutation: Some(mutation), ..Scenario::plain(Flavour::Amd64) };
        let name = format!("mutation-{}{variant}", mutation.name());
        Row::new(&name, scenario, Expectation::takeover().but_caught(witness, objection))
    };
    caught.map(row).into()
}

/// The kinds of damage between the panic and the takeover, each in a crash of its own. The general kernel has devices that
/// are always at work.
fn damages() -> Vec<Row> {
    let deep = UnitSetting { width: Width::Bits48, ..UnitSetting::PLAIN };
    let rows = [
        (Damage::ContextBeyondMemory, UnitSetting::PLAIN),
        (Damage::ContextReservedBits, UnitSetting::PLAIN),
        (Damage::ContextWrongWidth, UnitSetting::PLAIN),
        (Damage::DiskContext, UnitSetting::PLAIN),
        (Damage::PasidTableInCaptureKernel, UnitSetting { mode: Mode::Scalable, ..UnitSetting::PLAIN }),
        (Damage::TableInRegisters, UnitSetting::PLAIN),
        (Damage::TableInCaptureKernel, deep),
        (Damage::TableLoop, UnitSetting::PLAIN),
        (Damage::PageInCaptureKernel, UnitSetting::PLAIN),
        (Damage::FanOut, deep),
    ];
    let row = |(damage, unit): (Damage, UnitSetting)| {
        let scenario = Scenario { damage: Some(damage), unit, ..Scenario::plain(Flavour::Amd64) };
        let expectation = Expectation::takeover().and_damage(damage);
        Row::new(&format!("damage-{}", damage.name()), scenario, expectation)
    };
    rows.map(row).into()
}

fn bad_input() -> Vec<Row> {
    let plain = || Scenario::plain(Flavour::Cloud);
    let rows = [
        (
            "no-crash",
            Scenario { start: Start::Exec, ..plain() },
            Expectation::no_dump().and_says("elfcorehdr"),
        ),
        (
            "no-remapping-unit",
            Scenario {
                unit: UnitSetting { translation: Translation::NoUnit, ..UnitSetting::PLAIN },
                ..plain()
            },
            Expectation::complete_dump().and_says("DMAR"),
        ),
        (
            "reach-configuration-ports",
            Scenario {
                board: Board::Pc,
                unit: UnitSetting { translation: Translation::NoUnit, ..UnitSetting::PLAIN },
                ..plain()
            },
            Expectation::complete_dump().and_says("DMAR"),
        ),
        (
            "reach-absent-unit",
            Scenario {
                unit: UnitSetting { translation: Translation::Absent, ..UnitSetting::PLAIN },
                ..plain()
            },
            Expectation::complete_dump().and_says("no remapping unit can be at 0x0"),
        ),
        (
            "translation-off",
            Scenario { unit: UnitSetting { translation: Translation::Off, ..UnitSetting::PLAIN }, ..plain() },
            Expectation::complete_dump().and_says("translation is off"),
        ),
        (
            "no-labelled-disk",
            Scenario { disk: Disk::OtherLabel, ..plain() },
            Expectation::no_dump().and_says("no disk"),
        ),
        ("disk-too-small", Scenario { disk: Disk::TooSmall, ..plain() }, Expectation::partial_dump()),
        (
            "disk-tight",
            Scenario { disk: Disk::Tight, memory_mib: 5120, ..plain() },
            Expectation::partial_dump().and_readable(),
        ),
        (
            "disk-too-small-for-level",
            Scenario { disk: Disk::TooSmallForLevel, level: 1, ..plain() },
            Expectation::partial_dump().and_readable().and_says("all of level"),
        ),
        (
            "power-cut",
            Scenario { end: End::PowerCut, memory_mib: 5120, ..plain() },
            Expectation::cut_off_dump().and_readable(),
        ),
        (
            "dmesg-first-power-cut",
            Scenario { end: End::PowerCutAfterLog, memory_mib: 5120, ..plain() },
            Expectation::log(),
        ),
        (
            "dmesg-first-disk-gone",
            Scenario { end: End::DiskGoneAfterLog, memory_mib: 5120, ..plain() },
            Expectation::log().and_says("the disk failed"),
        ),
    ];
    rows.map(|(name, scenario, expectation)| Row::new(name, scenario, expectation)).into()
}

/// A machine on which no dump is possible: `doctor` and `load` say so. An administrator who loads the capture kernel all the same gets
/// a reason from that kernel too.
fn refused() -> Row {
    let legacy = Scenario { disk_model: DiskModel::VirtioLegacy, ..Scenario::plain(Flavour::Cloud) };
    let refused = Expectation::no_dump().and_refused("VIRTIO_F_VERSION_1");
    Row::new("reach-legacy-disk", legacy, refused.and_says("no usable capability"))
}

/// Where the old kernel may be when it panics, each with another disk: on another processor than the first, in an interrupt, in an
/// NMI. (`crash` wants the backtrace of a crash on request; there is no debug information of the kernel that an NMI kills.)
fn contexts() -> Vec<Row> {
    let panics =
        |kernel, start, disk_model| Scenario { start, disk_model, cpus: 2, ..Scenario::plain(kernel) };
    let rows = [
        ("nvme-panic-elsewhere", Flavour::Cloud, Start::PanicElsewhere, DiskModel::Nvme, "CPU: 1 "),
        (
            "virtio-scsi-panic-in-interrupt",
            Flavour::Cloud,
            Start::PanicInInterrupt,
            DiskModel::VirtioScsi,
            "<IRQ>",
        ),
        // Where an NMI interrupts a program, the trace has no <NMI>: it runs on the stack of the task.
        ("ahci-panic-in-nmi", Flavour::Amd64, Start::PanicInNmi, DiskModel::Ahci, " exc_nmi+"),
    ];
    let row = |(name, kernel, start, disk, words)| {
        Row::new(name, panics(kernel, start, disk), Expectation::takeover().and_kernel_says(words))
    };
    rows.map(row).into()
}
