//! Another Linux makes the dump, and finds the unit translating by Holdover's tables.

use crate::crashes::expectation::Expectation;
use crate::crashes::handover::Loss;
use crate::crashes::row::Row;
use crate::guests::kernels::Flavour;
use crate::guests::stock::{self, SecondUse};
use crate::guests::target::Target;
use crate::machines::emulator::Emulator;
use crate::machines::firmware::Firmware;
use crate::machines::scenario::Scenario;
use crate::machines::scenario::capture::Capture;
use crate::machines::scenario::device::{DiskModel, DiskTrouble};
use crate::machines::scenario::memory::{Paging, Reservation};
use crate::machines::scenario::mutation::Mutation;
use crate::machines::scenario::unit::{Mode, Translation, UnitSetting, Width};

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = hand_overs();
    rows.extend(fallbacks());
    rows
}

/// Another Linux makes the dump, and finds the units translating by Holdover's tables: in each mode, and however it is told to use
/// them. By itself it faults, hangs or lets devices write anywhere in most of these. (None is loaded by the other system call, for the
/// reason above: makedumpfile 1.7.2 and 1.7.8 leave out page frame 0x9f, of which the core has the first 0xc00 bytes.)
fn hand_overs() -> Vec<Row> {
    let on = |kernel, unit, second_use| Scenario {
        capture: Capture::HandedOver,
        second_use,
        reserved_mib: stock::RESERVED_MIB,
        unit,
        ..Scenario::plain(kernel)
    };
    let row = |name, scenario| Row::new(name, scenario, Expectation::handed_over().and_record());
    let legacy = UnitSetting::PLAIN;
    let scalable = UnitSetting { mode: Mode::Scalable, ..legacy };
    let pass_through = UnitSetting { translation: Translation::PassThrough, ..legacy };
    let amd64 = |unit, second_use| on(Flavour::Amd64, unit, second_use);
    let high = Scenario {
        paging: Paging::FiveLevel,
        cpus: 2,
        memory_mib: 5120,
        reservation: Reservation::High,
        ..amd64(UnitSetting { width: Width::Bits48, ..legacy }, SecondUse::On)
    };
    vec![
        row("handover-legacy", amd64(legacy, SecondUse::On)),
        row("handover-scalable", amd64(scalable, SecondUse::On)).only_among_all(),
        row("handover-mismatch", amd64(scalable, SecondUse::Legacy)).only_among_all(),
        row("handover-pt", amd64(pass_through, SecondUse::On)).only_among_all(),
        row("handover-into-pt", amd64(legacy, SecondUse::PassThrough)).only_among_all(),
        row("handover-pt-into-pt", amd64(pass_through, SecondUse::PassThrough)).only_among_all(),
        row("handover-off", amd64(legacy, SecondUse::Off)).only_among_all(),
        row("handover-high-5level", high).only_among_all(),
    ]
    .into_iter()
    .chain(hand_overs_to_others_drivers())
    .chain(hand_overs_of_newer_kernels())
    .collect()
}

/// The second Linux writes where Holdover cannot: it has no driver for the controller, for encryption, for volumes of many pieces, or for
/// network cards.
fn hand_overs_to_others_drivers() -> Vec<Row> {
    let row = |name, kernel, disk_model, target| {
        let scenario = Scenario {
            capture: Capture::HandedOver,
            reserved_mib: stock::RESERVED_MIB,
            disk_model,
            target,
            ..Scenario::plain(kernel)
        };
        Row::new(name, scenario, Expectation::handed_over())
    };
    let (amd64, plain) = (Flavour::Amd64, DiskModel::VirtioBlk);
    vec![
        row("handover-ssh-virtio-net", Flavour::Cloud, plain, Target::Ssh).only_among_all(),
        by_newer_emulator(row("handover-ssh-e1000e", amd64, plain, Target::Ssh)).only_among_all(),
        row("handover-nfs", Flavour::Cloud, plain, Target::Nfs).only_among_all(),
        row("handover-megasas", amd64, DiskModel::Megasas, Target::Disk).only_among_all(),
        row("handover-luks", amd64, DiskModel::Nvme, Target::Luks).only_among_all(),
        row("handover-lvm", amd64, DiskModel::VirtioScsi, Target::Lvm).only_among_all(),
    ]
}

/// QEMU 7.2's card sometimes ends the emulator when a driver starts it anew: an assertion in its timer of interrupts, which newer ones lack.
fn by_newer_emulator(row: Row) -> Row {
    Row { scenario: Scenario { emulator: Emulator::Backports, ..row.scenario }, ..row }
}

/// A newer kernel as the one that crashes, as the one that makes the dump, and as both; and a machine that UEFI has started.
fn hand_overs_of_newer_kernels() -> Vec<Row> {
    use Flavour::{Amd64, Backports, Testing};
    let row = |name, scenario| Row::new(name, scenario, Expectation::handed_over()).only_among_all();
    let from = |kernel, second_kernel| Scenario {
        capture: Capture::HandedOver,
        emulator: Emulator::Backports,
        second_kernel: Some(second_kernel),
        reserved_mib: stock::RESERVED_MIB,
        ..Scenario::plain(kernel)
    };
    let uefi = Scenario { emulator: Emulator::Installed, firmware: Firmware::Uefi, ..from(Amd64, Amd64) };
    vec![
        row("handover-6.12", from(Backports, Backports)),
        row("handover-into-6.12", from(Amd64, Backports)),
        row("handover-6.12-into-6.1", from(Backports, Amd64)),
        row("handover-testing", from(Testing, Testing)),
        row("handover-into-testing", from(Amd64, Testing)),
        row("handover-uefi", uefi),
    ]
}

/// Another Linux makes the dump because Holdover does not come to its end: its disk takes nothing, or it fails itself, before the
/// takeover, in it, or in the middle of the dump while its disk is at work. And the other way: the other Linux is damaged, and an area takes
/// the dump.
fn fallbacks() -> Vec<Row> {
    use Mutation::{FailDiscover, FailTakeOver, PageFault, Panic, PanicTakingOver};
    let plain = Scenario {
        capture: Capture::Fallback,
        reserved_mib: stock::RESERVED_MIB,
        ..Scenario::plain(Flavour::Amd64)
    };
    let no_writes = Scenario { disk_trouble: Some(DiskTrouble::NoWrites), ..plain.clone() };
    let failing = |mutation| Scenario { mutation: Some(mutation), ..plain.clone() };
    let row = |name: &str, scenario, expectation: Expectation, said: &str| {
        Row::new(name, scenario, expectation.and_says(said))
    };
    let damaged = Scenario {
        reserved_mib: stock::RESERVED_MIB,
        loss: Some(Loss::Fallback),
        ..Scenario::plain(Flavour::Amd64)
    };
    let why = "no hand-over to a fallback kernel: the fallback kernel is damaged";
    let kept = Expectation::handed_over;
    let found = Expectation::handed_over_as_found;
    let own = "a mistake on request";
    vec![
        row("handover-when-needed", no_writes, kept().and_record(), "the disk failed"),
        row("handover-after-panic", failing(Panic), kept().and_record(), own),
        row("handover-after-exception", failing(PageFault), kept().and_record(), "page fault at 0x8")
            .only_among_all(),
        row("handover-without-discovery", failing(FailDiscover), found(), "no sealed dump:").only_among_all(),
        row("handover-without-takeover", failing(FailTakeOver), kept(), "no memory for tables")
            .only_among_all(),
        row("handover-damaged", damaged, Expectation::takeover(), why),
        row("handover-amid-takeover", failing(PanicTakingOver), kept(), own).only_among_all(),
    ]
}
