//! What firmware leaves: root pointers, Secure Boot, a display.

use crate::crashes::expectation::Expectation;
use crate::crashes::handover::Loss;
use crate::crashes::row::Row;
use crate::guests::kernels::Flavour;
use crate::machines::emulator::Emulator;
use crate::machines::files::Moment;
use crate::machines::firmware::Firmware;
use crate::machines::scenario::capture::Syscall;
use crate::machines::scenario::events::End;
use crate::machines::scenario::mutation::Mutation;
use crate::machines::scenario::{Display, Lockdown, Scenario};

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = root_pointers();
    rows.extend(secure_boot());
    rows.extend(displays());
    rows
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
