//! Checks whether this host is ready for a crash, and says what to do where it is not.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use crate::areas::{self, AreaError, FoundArea};
use crate::iommu::{self, AMD_UNSUPPORTED, Listing};
use crate::{Bytes, kexec, sysfs};

/// The least reservation that Holdover is tested with.
const RESERVATION: u64 = 16 << 20;

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
}

impl Check {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: CheckState::Ok, found: found.into(), remedy: String::new() }
    }

    fn missing(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, state: CheckState::Missing, found: found.into(), remedy: remedy.into() }
    }
}

/// Checks everything that a host needs. Without the rights of root it sees less, and says so.
pub fn diagnose() -> Result<Diagnosis, AreaError> {
    let checks = vec![
        reservation(kexec::reserved().unwrap_or(0)),
        translation(&iommu::units(), &iommu::Listing::of_firmware()),
        tool(std::env::var_os("PATH").as_deref().map(std::env::split_paths).into_iter().flatten()),
        permission(&read("/proc/sys/kernel/kexec_load_disabled"), &read("/sys/kernel/security/lockdown")),
        area(&areas::all()?),
        capture_kernel(kexec::is_loaded().unwrap_or(false)),
    ];
    Ok(Diagnosis { checks })
}

fn reservation(bytes: u64) -> Check {
    const WHAT: &str = "crash reservation";
    if bytes < RESERVATION {
        Check::missing(
            WHAT,
            Bytes(bytes).to_string(),
            "add crashkernel=16M to the kernel's command line and restart",
        )
    } else {
        Check::ok(WHAT, Bytes(bytes).to_string())
    }
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

fn tool(mut path: impl Iterator<Item = PathBuf>) -> Check {
    const WHAT: &str = "kexec";
    match path.find(|folder| folder.join("kexec").is_file()) {
        Some(folder) => Check::ok(WHAT, folder.join("kexec").display().to_string()),
        None => Check::missing(WHAT, "not in PATH", "install the package kexec-tools"),
    }
}

/// `disabled` is 1 when no kernel may be loaded any more; `lockdown` has its level in brackets
/// (Documentation/admin-guide/sysctl/kernel.rst, kernel_lockdown(7)).
fn permission(disabled: &str, lockdown: &str) -> Check {
    const WHAT: &str = "permission to load";
    if disabled.trim() == "1" {
        return Check::missing(WHAT, "kexec_load_disabled is 1", "restart, and load before it is set");
    }
    if lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]") {
        let remedy = "sign the image with a key that the kernel trusts, or turn Secure Boot off";
        return Check::missing(WHAT, format!("lockdown: {}", lockdown.trim()), remedy);
    }
    Check::ok(WHAT, "yes")
}

fn area(areas: &[FoundArea]) -> Check {
    const WHAT: &str = "dump area";
    let Some(first) = areas.first() else {
        return Check::missing(
            WHAT,
            "on no disk that can be read",
            "make one with `holdover format DEVICE` (as root)",
        );
    };
    let room = Bytes(first.label.capacity());
    let found = format!("{} on {}, {room}", first.label.uuid, first.device.display());
    if let Some(copy) = first.copies(areas).next() {
        return Check::missing(WHAT, found, copy.to_string());
    }
    match sysfs::locate(&first.device).map(|location| location.controller) {
        Ok(Some(controller)) => match controller.objection() {
            None => Check::ok(WHAT, format!("{found}, behind {}", controller.function)),
            Some(objection) => Check::missing(WHAT, found, format!("{objection}; choose another disk")),
        },
        _ => Check::missing(WHAT, found, "its disk is behind no PCI function; choose another disk"),
    }
}

fn capture_kernel(is_loaded: bool) -> Check {
    const WHAT: &str = "capture kernel";
    if is_loaded {
        Check::ok(WHAT, "loaded")
    } else {
        Check::missing(WHAT, "not loaded", "load it with `holdover load --image IMAGE --area UUID`")
    }
}

/// A file's text, empty if there is no such file.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_below_16_mib_is_too_small() {
        assert_eq!(reservation((16 << 20) - 1).state, CheckState::Missing);
        assert_eq!(reservation(16 << 20).state, CheckState::Ok);
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
    fn a_copy_of_the_dump_area_is_a_danger() {
        let label = area::Label { uuid: uuid::Uuid::from_u128(1), length: 1 << 20, created: 0 };
        let on = |device: &str| FoundArea { device: device.into(), label };
        let check = area(&[on("/dev/vda"), on("/dev/vdb")]);
        assert_eq!(check.state, CheckState::Missing);
        assert!(check.remedy.contains("holdover format --force /dev/vdb"), "{}", check.remedy);
    }

    #[test]
    fn a_kernel_that_loads_nothing_or_signed_images_only_is_noticed() {
        assert_eq!(permission("0\n", "[none] integrity confidentiality\n").state, CheckState::Ok);
        assert_eq!(permission("", "").state, CheckState::Ok);
        assert_eq!(permission("1\n", "").state, CheckState::Missing);
        assert!(permission("0\n", "none [integrity] confidentiality\n").remedy.contains("sign"));
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
