//! Checks whether this host is ready for a crash, and says what to do where it is not.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::areas::{self, AreaError, FoundArea};
use crate::iommu::{self, AMD_UNSUPPORTED, Listing};
use crate::kexec::{self, Refusal};
use crate::loaded::{self, LoadedArea, Standing};
use crate::root_pointer::{self, RootPointerError};
use crate::watchdogs::{self, ArmedWatchdog, Watchdogs};
use crate::{Bytes, reservation, sysfs};

/// Where systemd keeps the units that are enabled, in folders `TARGET.wants`.
const UNITS: &str = "/etc/systemd/system";
/// Units that load a crash kernel of their own: Red Hat's and SUSE's, and Debian's.
const RIVALS: [&str; 2] = ["kdump.service", "kdump-tools.service"];
/// What to do where this user sees too little.
const AS_ROOT: &str = "run `holdover doctor` as root";
/// Bits of the capabilities that root has: `CAP_SYS_ADMIN` shows addresses, `CAP_SYS_BOOT` loads (capabilities(7)).
const ROOT: u64 = 1 << 21 | 1 << 22;

/// The result of all checks.
#[derive(Debug)]
pub struct Diagnosis {
    /// All checks, always in this order.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Whether a crash would be dumped.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.state == CheckState::Ok)
    }
}

/// One thing that a host needs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is needed.
    pub what: &'static str,
    /// Whether it is there.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if nothing is to be done.
    pub remedy: String,
}

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// Present, and can be used.
    Ok,
    /// Missing, or cannot be used.
    Missing,
    /// This user may not see it.
    Unknown,
}

/// What this process may see and do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    Root,
    User,
}

impl Rights {
    /// Reads them in a process's status, as `/proc` shows it (proc_pid_status(5)).
    fn of(status: &str) -> Self {
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if mask.is_some_and(|mask| mask & ROOT == ROOT) { Self::Root } else { Self::User }
    }
}

impl Check {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: CheckState::Ok, found: found.into(), remedy: String::new() }
    }

    fn missing(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, state: CheckState::Missing, found: found.into(), remedy: remedy.into() }
    }

    fn unknown(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: CheckState::Unknown, found: found.into(), remedy: AS_ROOT.into() }
    }
}

/// Checks everything that a host needs. Without the rights of root it sees less, and says so.
pub fn diagnose() -> Result<Diagnosis, AreaError> {
    let rights = Rights::of(&read("/proc/self/status"));
    let sys = Path::new(sysfs::SYS);
    let (mut areas, mut lost) = named(&loaded::areas());
    // Those that a crash will be dumped to are asked; if nothing is loaded, the first that there is.
    let asked = areas.len().max(1);
    areas.extend(areas::files());
    areas.extend(areas::all()?);
    lost.extend(areas::unusable()?);
    let checks = vec![
        reservation(kexec::reserved().unwrap_or(0), reservation::needed(sys)),
        translation(&iommu::units(sys), &Listing::of_firmware(sys)),
        acpi(sys, &read("/proc/cmdline")),
        tool(std::env::var_os("PATH").as_deref().map(std::env::split_paths).into_iter().flatten()),
        permission(rights, kexec::refusal(), &read("/sys/kernel/security/lockdown")),
        area(rights, asked, &areas, &lost),
        rivals(&enabled(Path::new(UNITS))),
        watchdogs(&watchdogs::find()),
        capture_kernel(rights, &standing(&areas)),
    ];
    Ok(Diagnosis { checks })
}

/// Finds the areas that the capture kernel was loaded for, and those of them that are lost.
fn named(loaded: &[LoadedArea]) -> (Vec<FoundArea>, Vec<AreaError>) {
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for LoadedArea { uuid, device, .. } in loaded {
        match FoundArea::again(device, *uuid) {
            Ok(area) => found.push(area),
            Err(error) if error.is_forbidden() => {}
            Err(error) => lost.push(error),
        }
    }
    (found, lost)
}

fn reservation(bytes: u64, needed: u64) -> Check {
    const WHAT: &str = "crash reservation";
    if bytes >= needed {
        return Check::ok(WHAT, Bytes(bytes).to_string());
    }
    let mebibytes = needed >> 20;
    let remedy =
        format!("start the kernel with crashkernel={mebibytes}M: this machine's devices need as much");
    Check::missing(WHAT, Bytes(bytes).to_string(), remedy)
}

/// `units` are the IOMMUs that the running kernel uses; `listing` is what the firmware lists.
fn translation(units: &[String], listing: &Listing) -> Check {
    const WHAT: &str = "IOMMU";
    if iommu::are_amds(units) {
        return Check::missing(WHAT, units.join(", "), AMD_UNSUPPORTED);
    }
    if !units.is_empty() {
        return Check::ok(WHAT, format!("{}{}", units.join(", "), listing.remarks()));
    }
    match listing {
        Listing::Intel { damage } if !damage.is_empty() => {
            let remedy = "ask for newer firmware; dumps work without, unprotected";
            Check::missing(WHAT, format!("present, off{}", listing.remarks()), remedy)
        }
        Listing::Intel { .. } => {
            let remedy = "add intel_iommu=on to the kernel's command line and restart; dumps work without, unprotected";
            Check::missing(WHAT, "present, off", remedy)
        }
        Listing::Amd => Check::ok(WHAT, "AMD's, off: dumps work, unprotected"),
        Listing::Nothing => {
            let remedy = "turn VT-d on in the firmware; dumps work without, unprotected";
            Check::missing(WHAT, "no DMAR table", remedy)
        }
    }
}

/// Without ACPI's root pointer the capture kernel finds neither remapping units nor devices. `running` is the command line
/// of the running kernel.
fn acpi(sys: &Path, running: &str) -> Check {
    const WHAT: &str = "ACPI root pointer";
    if !root_pointer::is_uefi(sys) {
        return Check::ok(WHAT, "in the memory of a BIOS");
    }
    let named = root_pointer::of_efi(sys);
    let told = || root_pointer::of_running_kernel(sys, running);
    match named.map(|named| named.or_else(told)) {
        Ok(Some(address)) => Check::ok(WHAT, format!("{address:#x}")),
        Ok(None) => {
            let remedy = "`dmesg | grep RSDP` shows it; load with --append acpi_rsdp=0x…";
            Check::missing(WHAT, "named neither by UEFI nor to this kernel", remedy)
        }
        Err(error @ RootPointerError::Unreadable { .. }) => {
            Check::missing(WHAT, error.to_string(), "run `holdover doctor` as root")
        }
        Err(error) => Check::missing(WHAT, error.to_string(), "load with --append acpi_rsdp=0x…"),
    }
}

fn tool(mut path: impl Iterator<Item = PathBuf>) -> Check {
    const WHAT: &str = "kexec";
    match path.find(|folder| folder.join("kexec").is_file()) {
        Some(folder) => Check::ok(WHAT, folder.join("kexec").display().to_string()),
        None => Check::missing(WHAT, "not in PATH", "install the package kexec-tools"),
    }
}

/// `lockdown` has its level in brackets (kernel_lockdown(7)).
fn permission(rights: Rights, refusal: Option<Refusal>, lockdown: &str) -> Check {
    const WHAT: &str = "permission to load";
    if let Some(Refusal { found, remedy }) = refusal {
        return Check::missing(WHAT, found, remedy);
    }
    if lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]") {
        let remedy = "sign the image with a key that the kernel trusts, or turn Secure Boot off";
        return Check::missing(WHAT, format!("lockdown: {}", lockdown.trim()), remedy);
    }
    match rights {
        Rights::Root => Check::ok(WHAT, "yes"),
        Rights::User => Check::unknown(WHAT, "not for this user"),
    }
}

/// The first `asked` of `areas` must be ready. `unusable` are disks and files that should be areas and are none.
fn area(rights: Rights, asked: usize, areas: &[FoundArea], unusable: &[AreaError]) -> Check {
    const WHAT: &str = "dump area";
    if let Some(error) = unusable.first() {
        let remedy = match error {
            AreaError::Gone { .. } | AreaError::File(_) => {
                "run `holdover unload`: a panic would be dumped to what is in its place; then load with another area"
            }
            _ => "look at what is there; `holdover format --force DEVICE` makes the area anew",
        };
        return Check::missing(WHAT, error.to_string(), remedy);
    }
    let checks: Vec<_> = areas.iter().take(asked).map(|one| one_area(one, areas)).collect();
    if checks.is_empty() {
        return match rights {
            Rights::Root => Check::missing(WHAT, "on no disk", "make one with `holdover format DEVICE`"),
            Rights::User => Check::unknown(WHAT, "on no disk that this user may read"),
        };
    }
    let bad = checks.iter().filter(|check| check.state != CheckState::Ok);
    let remedies: Vec<_> = bad.map(|check| check.remedy.as_str()).collect();
    let found: Vec<_> = checks.iter().map(|check| check.found.as_str()).collect();
    if remedies.is_empty() {
        return Check::ok(WHAT, found.join("; "));
    }
    Check::missing(WHAT, found.join("; "), remedies.join("; "))
}

fn one_area(one: &FoundArea, all: &[FoundArea]) -> Check {
    const WHAT: &str = "dump area";
    let room = Bytes(one.label.capacity());
    let found = format!("{} on {}, {room}", one.label.uuid, one.device.display());
    if let Some(copy) = one.copies(all).next() {
        return Check::missing(WHAT, found, copy.to_string());
    }
    if let Err(error) = one.check_place() {
        return Check::missing(WHAT, found, error.to_string());
    }
    if let Ok(Some(dump)) = one.uncollected() {
        return Check::missing(WHAT, found, dump.to_string());
    }
    match one.locate().map(|location| location.controller) {
        Ok(Some(controller)) => match controller.objection() {
            None => Check::ok(WHAT, format!("{found}, behind {}", controller.function)),
            Some(objection) => Check::missing(WHAT, found, format!("{objection}; choose another disk")),
        },
        _ => Check::missing(WHAT, found, "its disk is behind no PCI function; choose another disk"),
    }
}

/// An armed watchdog goes on counting in a crash.
fn watchdogs(found: &Watchdogs) -> Check {
    const WHAT: &str = "watchdogs";
    let unknown: Vec<_> = found.unknown().map(will_bite).collect();
    if !unknown.is_empty() {
        let remedy = "the capture kernel cannot keep it quiet: stop it, or give it as long as a dump takes";
        return Check::missing(WHAT, unknown.join(", "), remedy);
    }
    let armed: Vec<_> = found.armed.iter().map(|one| one.identity.as_str()).collect();
    if armed.is_empty() {
        return Check::ok(WHAT, "none armed");
    }
    Check::ok(WHAT, format!("{}: kept quiet during a dump", armed.join(", ")))
}

fn will_bite(one: &ArmedWatchdog) -> String {
    match one.timeout {
        Some(seconds) => format!("{} will bite after {seconds} s", one.identity),
        None => format!("{} will bite", one.identity),
    }
}

/// `enabled` are the units that load another crash kernel.
fn rivals(enabled: &[String]) -> Check {
    const WHAT: &str = "other crash kernels";
    if enabled.is_empty() {
        return Check::ok(WHAT, "no service loads one");
    }
    let units = enabled.join(" ");
    let remedy =
        format!("`systemctl disable --now {units}`, then `holdover load`: there is room for one only");
    Check::missing(WHAT, format!("{units} enabled"), remedy)
}

fn standing(areas: &[FoundArea]) -> Standing {
    match kexec::is_loaded() {
        Ok(true) => loaded::standing(areas),
        _ => Standing::Nothing,
    }
}

fn capture_kernel(rights: Rights, standing: &Standing) -> Check {
    const WHAT: &str = "capture kernel";
    const AGAIN: &str = "run `holdover load` again";
    match standing {
        Standing::Nothing => {
            Check::missing(WHAT, "not loaded", "load it with `holdover load --image IMAGE --area UUID`")
        }
        Standing::Foreign => {
            Check::missing(WHAT, "one is loaded, not by `holdover load` since this boot", AGAIN)
        }
        Standing::Replaced(ago) => {
            let found = format!("loaded {ago}; another was loaded since then");
            Check::missing(WHAT, found, AGAIN)
        }
        Standing::Stale(ago, changes) => {
            let found = format!("loaded {ago}; since then: {}", changes.join("; "));
            Check::missing(WHAT, found, AGAIN)
        }
        Standing::Ours(ago) => Check::ok(WHAT, format!("loaded by Holdover {ago}, and still there")),
        Standing::Unseen(ago) => unseen(rights, &format!("loaded by Holdover {ago}")),
    }
}

/// What was loaded is known, and the kernel does not show what there is now.
fn unseen(rights: Rights, loaded: &str) -> Check {
    const WHAT: &str = "capture kernel";
    match rights {
        Rights::Root => {
            Check::ok(WHAT, format!("{loaded}; this kernel does not show whether it is still there"))
        }
        Rights::User => Check::unknown(WHAT, format!("{loaded}; only root sees whether it is still there")),
    }
}

/// The rivals that systemd starts, by the links in its folder of units.
fn enabled(units: &Path) -> Vec<String> {
    let wants = entries(units)
        .into_iter()
        .filter(|folder| Path::new(folder).extension().is_some_and(|ending| ending == "wants"));
    let mut enabled: Vec<String> = wants
        .flat_map(|folder| entries(&units.join(folder)))
        .filter(|unit| RIVALS.contains(&unit.as_str()))
        .collect();
    enabled.dedup();
    enabled
}

/// A file's text, empty if there is no such file.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Names in a folder, sorted; none if there is no such folder.
fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_reservation_below_what_the_machine_needs_is_too_small() {
        let check = reservation((70 << 20) - 1, 70 << 20);
        assert_eq!(check.state, CheckState::Missing);
        assert!(check.remedy.contains("crashkernel=70M"), "{}", check.remedy);
        assert_eq!(reservation(70 << 20, 70 << 20).state, CheckState::Ok);
    }

    #[test]
    fn translation_that_is_off_is_told_from_hardware_without() {
        let intel = Listing::Intel { damage: Vec::new() };
        assert_eq!(translation(&["dmar0".into()], &intel).state, CheckState::Ok);
        assert!(translation(&[], &intel).remedy.contains("intel_iommu=on"));
        assert!(translation(&[], &Listing::Nothing).remedy.contains("firmware"));
    }

    /// The capture kernel refuses to guess where a disk behind one leads, so there is no dump.
    #[test]
    fn an_iommu_of_amds_is_in_the_way_while_it_is_on() {
        let on = translation(&["ivhd0".into()], &Listing::Amd);
        assert_eq!(on.state, CheckState::Missing);
        assert!(on.remedy.contains("amd_iommu=off"), "{}", on.remedy);
        assert_eq!(translation(&[], &Listing::Amd).state, CheckState::Ok);
    }

    #[test]
    fn a_broken_table_is_named() {
        let broken = Listing::Intel { damage: vec!["structure 1: a unit at address 0".into()] };
        let off = translation(&[], &broken);
        assert!(off.found.contains("a unit at address 0") && off.remedy.contains("firmware"), "{off:?}");
        let on = translation(&["dmar0".into()], &broken);
        assert!(on.state == CheckState::Ok && on.found.contains("a unit at address 0"), "{on:?}");
    }

    #[test]
    fn a_watchdog_that_the_capture_kernel_does_not_know_is_a_danger() {
        let armed = |identity: &str, kind| {
            let one = ArmedWatchdog { identity: identity.to_owned(), kind, timeout: Some(30) };
            Watchdogs { armed: vec![one], ipmi: None }
        };
        assert_eq!(watchdogs(&Watchdogs::default()).state, CheckState::Ok);
        assert_eq!(watchdogs(&armed("iTCO_wdt", Some(watchdog::Kind::Tco))).state, CheckState::Ok);
        let unknown = watchdogs(&armed("hpwdt", None));
        assert_eq!(
            (unknown.state, unknown.found.as_str()),
            (CheckState::Missing, "hpwdt will bite after 30 s")
        );
    }

    #[test]
    fn a_copy_of_the_dump_area_is_a_danger() {
        let label = area::Label { uuid: uuid::Uuid::from_u128(1), length: 1 << 20, created: 0 };
        let on = |device: &str| FoundArea::on_device(device.into(), label);
        let check = area(Rights::Root, 1, &[on("/dev/vda"), on("/dev/vdb")], &[]);
        assert_eq!(check.state, CheckState::Missing);
        assert!(check.remedy.contains("holdover format --force /dev/vdb"), "{}", check.remedy);
    }

    #[test]
    fn a_kernel_that_loads_nothing_or_signed_images_only_is_noticed() {
        let root = |refusal, lockdown| permission(Rights::Root, refusal, lockdown);
        assert_eq!(root(None, "[none] integrity confidentiality\n").state, CheckState::Ok);
        assert_eq!(root(None, "").state, CheckState::Ok);
        let refusal = Refusal { found: "kexec_load_limit_panic is 0", remedy: "restart" };
        assert_eq!(root(Some(refusal), "").found, refusal.found);
        assert!(root(None, "none [integrity] confidentiality\n").remedy.contains("sign"));
    }

    #[test]
    fn a_user_is_told_what_only_root_can_check() {
        assert_eq!(Rights::of("Name:\tholdover\nCapEff:\t000001ffffffffff\n"), Rights::Root);
        assert_eq!(Rights::of("CapEff:\t0000000000000000\n"), Rights::User);
        let checks = [permission(Rights::User, None, ""), area(Rights::User, 1, &[], &[])];
        for check in checks {
            assert_eq!((check.state, check.remedy.as_str()), (CheckState::Unknown, AS_ROOT));
        }
        assert_eq!(area(Rights::Root, 1, &[], &[]).state, CheckState::Missing);
    }

    #[test]
    fn a_label_that_cannot_be_is_told() {
        let error = AreaError::Cut { device: "/dev/vdb".into(), length: Bytes(1 << 30) };
        let check = area(Rights::Root, 1, &[], &[error]);
        assert!(check.found.contains("/dev/vdb has the label of a dump area"), "{}", check.found);
    }

    #[test]
    fn an_area_that_the_capture_kernel_was_loaded_for_and_is_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (found, lost) =
            named(&[LoadedArea { uuid: Uuid::nil(), device: folder.path().join("area"), place: None }]);
        assert!(found.is_empty());
        let check = area(Rights::Root, 1, &found, &lost);
        assert!(check.found.contains("is gone") && check.remedy.contains("holdover unload"), "{check:?}");
    }

    /// The second of two.
    #[test]
    fn each_area_that_the_capture_kernel_was_loaded_for_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let mut areas = Vec::new();
        for name in ["one", "two"] {
            let path = folder.path().join(name);
            fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
            areas::format(&path, areas::IfUsed::Refuse).unwrap();
            areas.push(areas::find(&areas::AreaName::Device(path)).unwrap());
        }
        let file = dumpfile::BlockFile::open_exclusive(&areas[1].device).unwrap();
        let mut dump = area::Area::open(file, 0, areas[1].label.uuid).unwrap().begin().unwrap();
        machine::BlockDevice::write(&mut dump, 0, &[1; 4096]).unwrap();
        dump.seal(area::Completeness::Complete, 4096).unwrap();
        assert!(area(Rights::Root, 2, &areas, &[]).remedy.contains("holdover collect"));
    }

    #[test]
    fn a_service_that_loads_another_crash_kernel_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(rivals(&enabled(folder.path())).state, CheckState::Ok);
        let wants = folder.path().join("multi-user.target.wants");
        fs::create_dir(&wants).unwrap();
        std::os::unix::fs::symlink("/nowhere", wants.join("kdump-tools.service")).unwrap();
        fs::write(wants.join("ssh.service"), "").unwrap();
        let check = rivals(&enabled(folder.path()));
        assert!(check.remedy.contains("disable --now kdump-tools.service"), "{}", check.remedy);
    }

    #[test]
    fn a_host_of_uefi_without_a_root_pointer_is_noticed() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(acpi(sys.path(), "").state, CheckState::Ok);
        let efi = sys.path().join("firmware/efi");
        fs::create_dir_all(&efi).unwrap();
        assert!(acpi(sys.path(), "quiet").remedy.contains("acpi_rsdp"));
        assert_eq!(acpi(sys.path(), "acpi_rsdp=0x5000").found, "0x5000");
        fs::write(efi.join("systab"), "ACPI20=nowhere\n").unwrap();
        assert!(acpi(sys.path(), "acpi_rsdp=0x5000").found.contains("nowhere"));
        fs::write(efi.join("systab"), "ACPI20=0x7f77e014\n").unwrap();
        assert_eq!(acpi(sys.path(), "").state, CheckState::Ok);
    }

    #[test]
    fn kexec_is_looked_for_in_every_folder_of_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = || [PathBuf::from("/nowhere"), folder.path().to_owned()].into_iter();
        assert_eq!(tool(path()).state, CheckState::Missing);
        fs::write(folder.path().join("kexec"), "").unwrap();
        assert_eq!(tool(path()).state, CheckState::Ok);
    }
}
