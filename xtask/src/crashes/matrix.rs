//! Which crashes `cargo xtask test` runs, and what each must show.

mod amdvi;

use crate::crashes::damage::Damage;
use crate::crashes::expectation::Expectation;
use crate::crashes::handover::Loss;
use crate::crashes::row::Row;
use crate::guests::kernels::Flavour;
use crate::guests::stock::{self, SecondUse};
use crate::guests::target::Target;
use crate::machines::emulator::Emulator;
use crate::machines::files::Moment;
use crate::machines::firmware::Firmware;
use crate::machines::qemu::Watch;
use crate::machines::scale::{self, Scale};
use crate::machines::scenario::device::{Device, DiskModel, DiskPlace, DiskTrouble, DiskUse, NvmeOddity};
use crate::machines::scenario::file_system::FileFate;
use crate::machines::scenario::mutation::Mutation;
use crate::machines::scenario::unit::{Caching, Interrupts, Mode, Translation, UnitSetting, Width};
use crate::machines::scenario::watchdog::Watchdog;
use crate::machines::scenario::{
    Board, Capture, Codec, Disk, Display, End, Lockdown, MachineCheck, MemoryUse, Paging, Reservation,
    Scenario, Start, Syscall,
};
use crate::witnesses::Witness;

/// RAM of a server. Linux takes a 64th of it for `struct page`; the rest is a hole in a file.
const SERVER_MIB: u64 = 64 << 10;
/// A reservation that suffices for its devices: more than the plain machine needs.
const SERVER_RESERVED_MIB: u64 = 32;

/// Every row.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = takeovers();
    rows.extend(hardware());
    rows.extend(disks());
    rows.extend(troubled_disks());
    rows.extend(servers());
    rows.extend(root_pointers());
    rows.extend(secure_boot());
    rows.extend(displays());
    rows.push(pending_requests());
    rows.push(made_dumps());
    rows.extend(summary_pages());
    rows.extend(every_kind_of_page());
    rows.push(estimate());
    rows.push(proc_vmcore());
    rows.extend(hand_overs());
    rows.extend(fallbacks());
    rows.extend(codecs());
    rows.extend(mutations());
    rows.extend(damages());
    rows.extend(bad_input());
    rows.extend(odd_nvme());
    rows.extend(areas());
    rows.extend(file_fates());
    rows.extend(power_cuts());
    rows.push(refused());
    rows.extend(contexts());
    rows.extend(machine_checks());
    rows.extend(watchdogs());
    rows.extend(amdvi::rows());
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

/// A larger machine; `load` refuses a reservation that is too small for it. All of its devices have contexts, virtual functions among them.
fn servers() -> Vec<Row> {
    let server = |unit| Scenario {
        scale: Scale::Server,
        unit,
        cpus: 2,
        memory_mib: SERVER_MIB,
        reserved_mib: SERVER_RESERVED_MIB,
        ..Scenario::plain(Flavour::Cloud)
    };
    let virtual_functions = format!("virtual functions {}", scale::VIRTUAL_FUNCTIONS);
    let expectation =
        || Expectation::takeover().and_guest_says(&virtual_functions).and_guest_says("persistent");
    let scalable = UnitSetting { mode: Mode::Scalable, ..UnitSetting::PLAIN };
    let pass_through =
        UnitSetting { translation: Translation::PassThrough, width: Width::Bits48, ..UnitSetting::PLAIN };
    let row = |name, unit| Row::new(name, server(unit), expectation());
    vec![
        row("server-sriov", UnitSetting::PLAIN),
        row("server-pt", pass_through),
        row("server-sriov-scalable", scalable).only_among_all(),
    ]
}

/// One way to ACPI's root pointer each: the command line, EFI's tables, the BIOS's memory.
fn root_pointers() -> Vec<Row> {
    let plain = |firmware, loss| Scenario { firmware, loss, ..Scenario::plain(Flavour::Cloud) };
    let row = |name, scenario, from: &str| {
        Row::new(name, scenario, Expectation::takeover().and_says(&format!("ACPI's root pointer: {from}")))
    };
    let lost = Some(Loss::RootPointer);
    let other_call = Scenario { syscall: Syscall::Load, ..plain(Firmware::Uefi, None) };
    [
        row("uefi", plain(Firmware::Uefi, Some(Loss::AllButCommandLine)), "command line"),
        row("uefi-no-root-pointer", plain(Firmware::Uefi, lost), "SETUP_EFI"),
        row("uefi-c", other_call, "command line").only_among_all(),
        row("bios-no-root-pointer", plain(Firmware::Bios, lost), "BIOS").only_among_all(),
    ]
    .into()
}

/// Kernels that want a signature. Under Secure Boot the one of the key that firmware trusts does, and no other image is loaded; by
/// `lockdown=` alone the kernel knows no key of ours, so that nothing is.
fn secure_boot() -> Vec<Row> {
    let on = |firmware, lockdown, kernel| Scenario { firmware, lockdown, ..Scenario::plain(kernel) };
    let signed =
        |kernel, emulator| Scenario { emulator, ..on(Firmware::SecureBoot, Lockdown::ByFirmware, kernel) };
    let locked = |firmware| on(firmware, Lockdown::ByCommandLine, Flavour::Cloud);
    let loaded = || {
        Expectation::complete_dump()
            .and_guest_says(
                "load: doctor: lockdown: integrity; Secure Boot is on; the image has no signature",
            )
            .and_guest_says(
                "load: holdover: the image has no signature, and this kernel loads signed images only",
            )
            .and_guest_says("load: holdover: the image is signed with a key that this kernel does not know")
            .and_guest_says("load: holdover: the image's signature does not fit the image")
            .and_guest_says("load: holdover: a kernel that is locked down takes no image by kexec_load")
            .and_guest_says("load: unloaded 0")
            .and_guest_says("load: doctor: lockdown: integrity; Secure Boot is on; the image is signed by ")
    };
    let refused = || {
        Expectation::no_dump()
            .and_guest_says("load: holdover: this kernel is locked down and does not load an image without")
            .and_guest_says("load: holdover: a kernel that is locked down takes no image by kexec_load")
    };
    let no_uefi = refused().and_guest_says("load: doctor: lockdown: integrity; no UEFI; the image has no");
    vec![
        Row::new("secure-boot-signed", signed(Flavour::Cloud, Emulator::Installed), loaded()),
        Row::new("secure-boot-bios", locked(Firmware::Bios), no_uefi),
        Row::new("secure-boot-uefi-lockdown", locked(Firmware::Uefi), refused()).only_among_all(),
        Row::new("secure-boot-amd64", signed(Flavour::Amd64, Emulator::Installed), loaded()).only_among_all(),
        Row::new("secure-boot-6.12", signed(Flavour::Backports, Emulator::Backports), loaded())
            .only_among_all(),
    ]
}

/// What UEFI and VESA leave to draw on: how the dump gets on, and on failure what happened and what to do.
fn displays() -> Vec<Row> {
    let with =
        |firmware, end| Scenario { display: Display::Vga, firmware, end, ..Scenario::plain(Flavour::Cloud) };
    let complete = || {
        Expectation::complete_dump()
            .and_says("MiB/s, ")
            .and_shows(Moment::During, "[ done ] Save the kernel's log\n[ ...  ] Save the memory: ")
            .and_shows(Moment::During, " left")
            .and_shows(Moment::End, "[ done ] Seal the dump")
            .and_shows(Moment::End, "The dump is complete, and this machine restarts now.\nFetch it later:")
    };
    // The display is handed over by the other system call too.
    let other_call = Scenario { syscall: Syscall::Load, ..with(Firmware::Uefi, End::Reset) };
    let dies = |mutation| Scenario { mutation: Some(mutation), ..with(Firmware::Bios, End::Reset) };
    let broken = |why| {
        Expectation::cut_off_dump()
            .and_shows(Moment::End, "THE DUMP ENDS HERE: ")
            .and_shows(Moment::End, why)
            .and_shows(Moment::End, "Fetch what was safe by now: `holdover collect`")
    };
    let failed = Expectation::log()
        .and_says("What to do: check the disk")
        .and_shows(Moment::End, "[FAILED] Save the memory\n[FAILED] Seal the dump")
        .and_shows(Moment::End, "THE DUMP WAS NOT SAVED: the disk failed (")
        .and_shows(Moment::End, "`holdover collect --dmesg")
        .and_shows(Moment::End, "What to do: check the disk and its cable.");
    vec![
        Row::new("display-uefi", with(Firmware::Uefi, End::Reset), complete()),
        Row::new("display-vesa", with(Firmware::Bios, End::Reset), complete()).only_among_all(),
        Row::new("display-vesa-disk-gone", with(Firmware::Bios, End::DiskGoneAfterLog), failed),
        Row::new(
            "display-vesa-panic",
            dies(Mutation::Panic),
            broken("Holdover itself has failed (a panic)."),
        )
        .only_among_all(),
        Row::new(
            "display-vesa-exception",
            dies(Mutation::PageFault),
            broken("Holdover itself has failed (exception 14)."),
        )
        .only_among_all(),
        Row::new("display-uefi-c", other_call, complete()).only_among_all(),
    ]
}

/// Requests of the throttled disk are answered after the takeover. The machine is not stopped in this one: QEMU finishes all
/// requests when it stops a machine.
fn pending_requests() -> Row {
    let expectation = Expectation::takeover().watched(Watch::Trace).and_active(Device::SLOW_DISK);
    Row::new("pending-requests", Scenario::plain(Flavour::Cloud), expectation)
}

/// The kernel whose debug information is here: `crash` and drgn need it.
fn made_dumps() -> Row {
    let expectation = Expectation::takeover().and_made_dumps();
    Row::new("made-dumps", Scenario::plain(Flavour::Cloud), expectation)
}

/// What the page says of a crash, of kernels that carry their symbols in three different ways; and how a browser shows it, which is a
/// large package that nothing else takes: without one that row fails.
fn summary_pages() -> Vec<Row> {
    let row = |name: &str, kernel, emulator| {
        let scenario = Scenario { cpus: 2, emulator, ..Scenario::plain(kernel) };
        Row::new(name, scenario, Expectation::takeover().and_summary())
    };
    let newer = [("summary-page-backports", Flavour::Backports), ("summary-page-testing", Flavour::Testing)];
    let newer = newer.map(|(name, kernel)| row(name, kernel, Emulator::Backports).only_among_all());
    let shown = Expectation::takeover().and_summary_in_browser();
    let shown = Row::new("summary-page-browser", Scenario::plain(Flavour::Cloud), shown).only_among_all();
    let installed = row("summary-page", Flavour::Cloud, Emulator::Installed);
    [installed, shown].into_iter().chain(newer).collect()
}

/// The kernels that record memory errors, one for each way in which types of pages are marked. QEMU 7.2 now and then turns
/// the flags that `cmpxchg16b` leaves into values that no processor has, and newer kernels die of this while they boot.
fn every_kind_of_page() -> Vec<Row> {
    let row = |kernel: Flavour| {
        let emulator = if kernel == Flavour::Amd64 { Emulator::Installed } else { Emulator::Backports };
        let scenario = Scenario { emulator, memory_use: MemoryUse::EveryKind, ..Scenario::plain(kernel) };
        let name = format!("every-kind-of-page-{}", kernel.name());
        Row::new(&name, scenario, Expectation::takeover().and_every_level())
    };
    [Flavour::Amd64, Flavour::Backports, Flavour::Testing].map(row).into()
}

/// What `holdover doctor` estimates of a dump, beside the dump.
fn estimate() -> Row {
    let scenario = Scenario { memory_use: MemoryUse::EveryKind, ..Scenario::plain(Flavour::Amd64) };
    Row::new("estimate", scenario, Expectation::takeover().and_estimated()).only_among_all()
}

/// The codecs other than the default.
fn codecs() -> Vec<Row> {
    let row = |codec: Codec| {
        let scenario = Scenario { codec, ..Scenario::plain(Flavour::Cloud) };
        let name = format!("codec-{}", codec.name());
        Row::new(&name, scenario, Expectation::takeover().and_codec(codec))
    };
    [Codec::Lzo, Codec::Zstd, Codec::None].map(row).into()
}

/// The same kernel takes the dump as stock kdump does it. (By the other system call, a range of RAM ends within a page, which
/// makedumpfile loses.)
fn proc_vmcore() -> Row {
    let stock = Scenario {
        capture: Capture::Stock,
        reserved_mib: stock::RESERVED_MIB,
        ..Scenario::plain(Flavour::Cloud)
    };
    Row::new("proc-vmcore", stock, Expectation::stock_dumps())
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

/// Several areas, and an area that is not free.
fn areas() -> Vec<Row> {
    let on = |disk| Scenario { disk, ..Scenario::plain(Flavour::Cloud) };
    let often = |panics_before| Scenario { panics_before, ..Scenario::plain(Flavour::Cloud) };
    let whole = Expectation::complete_dump;
    let rows = [
        (
            "second-area-first-missing",
            on(Disk::AfterMissing),
            whole().and_says("no disk takes the dump to area 00000000-1111-").and_readable_in_place(),
        ),
        (
            "second-area-first-fails",
            on(Disk::AfterFailing),
            whole().and_says("begins again").and_first_area_partial(),
        ),
        ("file-ext4", on(Disk::FileExt4), whole()),
        ("file-xfs", on(Disk::FileXfs), whole()),
        ("file-btrfs", on(Disk::FileBtrfs), whole()),
        (
            "two-panics",
            on(Disk::HoldsDump),
            Expectation::no_dump()
                .and_says("of an earlier crash, which nobody has collected")
                .and_says("Fetch the earlier one"),
        ),
        ("fifty-panics-the-first-four", often(3), whole()),
    ];
    let hangs = Scenario { disk_trouble: Some(DiskTrouble::Hang), ..on(Disk::AfterFailing) };
    let all = [
        ("fifty-panics", often(49), whole()),
        (
            "second-area-first-hangs",
            hangs,
            whole().and_says("is there another area?").and_first_area_partial(),
        ),
        ("volume", on(Disk::Volume), whole()),
    ];
    let row = |(name, scenario, expectation)| Row::new(name, scenario, expectation);
    rows.map(row).into_iter().chain(all.map(row).map(Row::only_among_all)).collect()
}

/// The power is cut at many instants of one dump, whose disk is slow enough for several seals in between.
fn power_cuts() -> Vec<Row> {
    let rows = [
        ("power-cuts-virtio-blk", Flavour::Cloud, DiskModel::VirtioBlk),
        ("power-cuts-nvme", Flavour::Cloud, DiskModel::Nvme),
        ("power-cuts-ahci", Flavour::Amd64, DiskModel::Ahci),
    ];
    let recorded = |name: &str, scenario| {
        let scenario = Scenario { end: End::Recorded, ..scenario };
        Row::new(name, scenario, Expectation::complete_dump().and_power_cuts())
    };
    let row = |(name, kernel, disk_model)| recorded(name, Scenario { disk_model, ..Scenario::plain(kernel) });
    let part = Scenario { disk: Disk::Partition, ..Scenario::plain(Flavour::Cloud) };
    let part = recorded("power-cuts-partition", part).only_among_all();
    rows.map(row).into_iter().chain([part]).collect()
}

/// What becomes of a file that is the area after Holdover was loaded.
fn file_fates() -> Vec<Row> {
    let row = |name: &str, disk, file_fate, expectation: Expectation, said: &[&str]| {
        let scenario = Scenario { disk, file_fate, ..Scenario::plain(Flavour::Cloud) };
        let said = said.iter().fold(expectation, |all, words| all.and_guest_says(&format!("load: {words}")));
        Row::new(&format!("file-{name}-after-load"), scenario, said)
    };
    let whole = Expectation::complete_dump;
    let kept = ["refused: rm", "refused: mv", "refused: truncate", "refused: dd", "verified: 0"];
    let kept_and = |more: &[&'static str]| [&kept[..], more].concat();
    let moved = [
        "loose: 3",
        "repaired: 0",
        "holdover: the loaded capture",
        "dump area",
        "moved: 3 loaded: 0",
        "removed: 0",
    ];
    // Not only because of what the blocks hold by now: the label is what a file's blocks are known by.
    let replaced =
        || Expectation::others_files().and_says("no disk takes the dump").and_says(": label: no such record");
    vec![
        row("ext4-moved", Disk::FileExt4, FileFate::Moved, whole(), &moved),
        row("ext4-replaced", Disk::FileExt4, FileFate::Replaced, replaced(), &["dump area"]),
        row(
            "xfs-reflinked",
            Disk::FileXfs,
            FileFate::Tried,
            whole(),
            &kept_and(&["refused: cp", "done: xfs_fsr"]),
        ),
        row(
            "btrfs-reflinked",
            Disk::FileBtrfs,
            FileFate::Tried,
            whole(),
            &kept_and(&["refused: cp", "refused: btrfs"]),
        ),
        row("ext4-truncated", Disk::FileExt4, FileFate::Tried, whole(), &kept).only_among_all(),
        row("xfs-moved", Disk::FileXfs, FileFate::Moved, whole(), &moved).only_among_all(),
        row("btrfs-moved", Disk::FileBtrfs, FileFate::Moved, whole(), &moved).only_among_all(),
        row("xfs-replaced", Disk::FileXfs, FileFate::Replaced, replaced(), &["dump area"]).only_among_all(),
    ]
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

/// Machine checks before and during the dump. `crash` wants the backtrace of a crash on request: the kernel without its
/// debug information is the one that a machine check kills.
fn machine_checks() -> Vec<Row> {
    let dumping =
        |kernel, check| Scenario { machine_check: Some(check), memory_mib: 5120, ..Scenario::plain(kernel) };
    let counted = || Expectation::complete_dump().and_says("machine_checks=1");
    let recoverable = MachineCheck::Recoverable;
    let twice = Scenario { start: Start::MachineCheck, ..dumping(Flavour::Amd64, recoverable) };
    let fatal = dumping(Flavour::Cloud, MachineCheck::Fatal);
    let followed = Some(Mutation::SecondMachineCheck);
    let followed = Scenario { mutation: followed, ..dumping(Flavour::Cloud, recoverable) };
    let both = Expectation::complete_dump().and_says("machine_checks=2");
    let rows = [
        ("machine-check-recoverable", dumping(Flavour::Cloud, recoverable), counted()),
        ("machine-check-followed-by-another", followed, both),
        ("machine-check-after-a-fatal-one", twice, counted().and_says("was handling a machine check")),
        ("machine-check-fatal", fatal, Expectation::cut_off_dump().and_says("fatal machine check")),
    ];
    rows.map(|(name, scenario, expectation)| Row::new(name, scenario, expectation)).into()
}

/// Watchdogs that would bite in the middle of the dump, and some that bite. The countdown of WDAT's cannot be made as long as the
/// dump takes, so that pings must come to the end.
fn watchdogs() -> Vec<Row> {
    let armed =
        |watchdog: Watchdog| Scenario { watchdog: Some(watchdog), ..Scenario::plain(watchdog.kernel()) };
    let told = |watchdog, mutation| Scenario { mutation: Some(mutation), ..armed(watchdog) };
    let bites = |watchdog, mutation| Scenario { end: End::Watchdog, ..told(watchdog, mutation) };
    let pinged = |watchdogs: &[&str], pings| Expectation::complete_dump().and_pings(watchdogs, pings);
    let hangs = Expectation::cut_off_dump().and_readable().and_says("watchdog wdat runs");
    let waits = told(Watchdog::Wdat, Mutation::SlowUnit);
    vec![
        Row::new("watchdog-itco", armed(Watchdog::Itco), pinged(&["itco"], 8)),
        Row::new(
            "watchdog-i6300esb-ipmi",
            armed(Watchdog::I6300esbAndIpmi),
            pinged(&["i6300esb", "ipmi"], 16),
        ),
        Row::new("watchdog-wdat", armed(Watchdog::Wdat), pinged(&["wdat"], 8)),
        Row::new("watchdog-bites-a-hang", bites(Watchdog::Wdat, Mutation::Hang), hangs),
        Row::new("watchdog-slow-unit", waits, pinged(&["wdat"], 24)).only_among_all(),
        Row::new("mutation-no-pings", bites(Watchdog::Itco, Mutation::NoPings), Expectation::cut_off_dump()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_rows_share_a_name() {
        let rows = rows();
        let names: BTreeSet<_> = rows.iter().map(|row| &row.name).collect();
        assert_eq!(names.len(), rows.len());
    }

    #[test]
    fn every_combination_of_modes_paging_and_memory_is_a_row() {
        let combination = |row: &Row| {
            let Scenario { unit, paging, reservation, .. } = &row.scenario;
            format!("{:?} {:?} {paging:?} {reservation:?}", unit.mode, unit.translation)
        };
        let combinations: BTreeSet<_> = takeovers().iter().map(combination).collect();
        assert_eq!(combinations.len(), 2 * 2 * 2 * 2);
    }

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
            rows().iter().filter(|row| of_nvme(row)).map(|row| conditions(&row.scenario)).collect();
        for first in 0..=oddities.len() {
            for second in 0..first {
                let pairs: BTreeSet<_> = rows.iter().map(|row| (row[first], row[second])).collect();
                assert_eq!(pairs.len(), 4, "{first} with {second}");
            }
        }
    }

    #[test]
    fn what_is_told_to_make_a_mistake_must_be_caught_and_nothing_else() {
        // What is told to a machine with a watchdog is for that watchdog to notice, and where the kernel dies, for a person. A second
        // machine check is no mistake. After a failure on request, a fallback kernel makes a dump that all witnesses must accept.
        let others = [Mutation::SecondMachineCheck, Mutation::Panic, Mutation::PageFault].map(Some);
        let is_mistake = |row: &Row| {
            let Scenario { watchdog, mutation, capture, .. } = &row.scenario;
            watchdog.is_none() && !others.contains(mutation) && *capture != Capture::Fallback
        };
        let told = |row: &Row| row.scenario.mutation.is_some() && is_mistake(row);
        assert!(rows().iter().all(|row| told(row) == row.expectation.mistake.is_some()));
    }
}
