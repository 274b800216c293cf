//! Whether IOMMUs translate, and how.

use super::finding::{Code, Finding, Subject};
use super::machine::{Machine, text};
use crate::iommu::{self, Listing};

/// Bit of a unit's extended capability register: scalable mode (VT-d specification, section 11.4.3).
const SCALABLE: u64 = 1 << 43;

/// Looks at the machine's IOMMUs.
pub(super) fn check(machine: &Machine) -> Finding {
    let sys = machine.path("sys");
    let units = iommu::units(&sys);
    if iommu::are_locked(&sys, &units) {
        let found = format!("{}, locked: their tables are changed where they are", units.join(", "));
        return Finding::warning(Code::IommuLocked, found, iommu::LOCKED);
    }
    let how = [mode(machine, &units).map(str::to_owned), kinds(&translations(machine))];
    judge(&units, &Listing::of_firmware(&sys), &how.into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// `units` are the IOMMUs that the running kernel uses, `how` is how they translate, `listing` is what the firmware lists.
fn judge(units: &[String], listing: &Listing, how: &str) -> Finding {
    if !units.is_empty() {
        let how = if how.is_empty() { String::new() } else { format!("; {how}") };
        return Finding::ok(Subject::Iommu, format!("{}{how}{}", units.join(", "), listing.remarks()));
    }
    match listing {
        Listing::Intel { damage } if !damage.is_empty() => {
            let remedy = "ask for newer firmware; dumps work without, unprotected";
            let found = format!("present, off{}", listing.remarks());
            Finding::warning(Code::IommuTableDamaged, found, remedy)
        }
        Listing::Intel { .. } => {
            let remedy = "add intel_iommu=on to the kernel's command line and restart; dumps work without, unprotected";
            Finding::warning(Code::IommuOff, "present, off", remedy)
        }
        Listing::Amd => Finding::ok(Subject::Iommu, "AMD's, off: dumps work, unprotected"),
        Listing::Nothing => {
            let remedy = "turn VT-d or AMD-Vi on in the firmware; dumps work without, unprotected";
            Finding::warning(Code::IommuAbsent, "no DMAR or IVRS table", remedy)
        }
    }
}

/// How a group of devices is translated (Documentation/ABI/testing/sysfs-kernel-iommu_groups).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Translation {
    /// By tables of its own.
    Translated,
    /// Not at all: its devices reach all memory.
    PassThrough,
    /// Nothing gets through.
    Blocked,
}

impl Translation {
    /// Reads a group's type; `None` if the kernel does not tell.
    pub(super) fn of(kind: &str) -> Option<Self> {
        match kind {
            "identity" => Some(Self::PassThrough),
            "blocked" => Some(Self::Blocked),
            // A driver such as vfio has made the tables, or the kernel.
            "DMA" | "DMA-FQ" | "unmanaged" => Some(Self::Translated),
            _ => None,
        }
    }
}

/// How each group is translated, as far as the kernel tells.
fn translations(machine: &Machine) -> Vec<Translation> {
    let groups = machine.entries("sys/kernel/iommu_groups");
    groups.iter().filter_map(|group| Translation::of(&text(&group.join("type")))).collect()
}

/// How many groups there are of each kind, in words.
fn kinds(translations: &[Translation]) -> Option<String> {
    let count = |kind| translations.iter().filter(|one| **one == kind).count();
    let (translated, passed, blocked) =
        (count(Translation::Translated), count(Translation::PassThrough), count(Translation::Blocked));
    let words = [(translated, "translated"), (passed, "in pass-through"), (blocked, "blocked")];
    let words = words.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    (!translations.is_empty()).then(|| format!("groups of devices: {}", words.collect::<Vec<_>>().join(", ")))
}

/// Which mode Intel's units are in, if that can be told: scalable mode takes units that know it and a kernel that is told or built to
/// use it (`intel_iommu=` in Documentation/admin-guide/kernel-parameters.txt).
fn mode(machine: &Machine, units: &[String]) -> Option<&'static str> {
    if !units.iter().any(|unit| unit.starts_with("dmar")) {
        return None;
    }
    let is_scalable = |unit: &String| {
        let ecap = machine.read(&format!("sys/class/iommu/{unit}/intel-iommu/ecap"));
        Some(u64::from_str_radix(&ecap, 16).ok()? & SCALABLE != 0)
    };
    let units: Option<Vec<bool>> = units.iter().map(is_scalable).collect();
    if units?.contains(&false) {
        return Some("legacy mode");
    }
    let running = machine.read("proc/cmdline");
    let told = running.split_whitespace().filter_map(|word| word.strip_prefix("intel_iommu="));
    let told = told.flat_map(|list| list.split(',')).rfind(|word| word.starts_with("sm_"));
    let built = "CONFIG_INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON=y";
    let config = || machine.read(&format!("boot/config-{}", machine.read("proc/sys/kernel/osrelease")));
    match told {
        Some("sm_on") => Some("scalable mode"),
        None if config().contains(built) => Some("scalable mode"),
        None if config().is_empty() => None,
        Some(_) | None => Some("legacy mode"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::super::machine::tests::machine;
    use super::*;

    #[test]
    fn translation_that_is_off_is_told_from_hardware_without() {
        let intel = Listing::Intel { damage: Vec::new() };
        assert_eq!(judge(&["dmar0".into()], &intel, "").state, State::Ok);
        assert!(judge(&[], &intel, "").remedy.contains("intel_iommu=on"));
        assert!(judge(&[], &Listing::Nothing, "").remedy.contains("firmware"));
        assert_eq!(judge(&["ivhd0".into()], &Listing::Amd, "").state, State::Ok);
        assert_eq!(judge(&[], &Listing::Amd, "").state, State::Ok);
    }

    #[test]
    fn locked_units_are_a_limit_and_not_in_the_way() {
        const FEATURES: &str = "sys/class/iommu/ivhd0/amd-iommu/features";
        const SNP: &str = "sys/module/kvm_amd/parameters/sev_snp";
        let found = |snp: &[u8]| check(&machine(&[(FEATURES, b"29d3"), (SNP, snp)]).1);
        let locked = found(b"Y");
        assert_eq!((locked.state, locked.code), (State::Warning, Some(Code::IommuLocked)));
        assert!(locked.remedy.contains("sev_snp=0"), "{}", locked.remedy);
        assert_eq!(found(b"N").state, State::Ok);
    }

    #[test]
    fn a_broken_table_is_named() {
        let broken = Listing::Intel { damage: vec!["structure 1: a unit at address 0".into()] };
        let off = judge(&[], &broken, "");
        assert!(off.found.contains("a unit at address 0") && off.remedy.contains("firmware"), "{off:?}");
        let on = judge(&["dmar0".into()], &broken, "");
        assert!(on.state == State::Ok && on.found.contains("a unit at address 0"), "{on:?}");
    }

    #[test]
    fn the_mode_is_what_units_know_and_the_kernel_is_told_or_built_to_use() {
        const ECAP: &str = "sys/class/iommu/dmar0/intel-iommu/ecap";
        let found = |files: &[(&str, &[u8])]| check(&machine(files).1).found;
        let mode = |ecap: &[u8], running: &[u8]| {
            let kept = machine(&[(ECAP, ecap), ("proc/cmdline", running)]);
            check(&kept.1).found
        };
        assert_eq!(mode(b"f00f5a\n", b"quiet"), "dmar0; legacy mode");
        assert_eq!(mode(b"8f00f5a0000\n", b"intel_iommu=on,sm_on"), "dmar0; scalable mode");
        assert_eq!(mode(b"8f00f5a0000\n", b"intel_iommu=on,sm_off"), "dmar0; legacy mode");
        assert_eq!(mode(b"8f00f5a0000\n", b"quiet"), "dmar0", "nothing tells");
        assert_eq!(found(&[]), "no DMAR or IVRS table");
        let release: (&str, &[u8]) = ("proc/sys/kernel/osrelease", b"6.1.0\n");
        for (config, mode) in [
            (&b"CONFIG_INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON=y\n"[..], "scalable mode"),
            (b"# CONFIG_INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON is not set\n", "legacy mode"),
        ] {
            let kept = machine(&[(ECAP, b"8f00f5a0000\n"), release, ("boot/config-6.1.0", config)]);
            assert_eq!(check(&kept.1).found, format!("dmar0; {mode}"));
        }
    }

    #[test]
    fn groups_are_counted_by_how_they_are_translated() {
        let kept = machine(&[
            ("sys/class/iommu/dmar0/intel-iommu/ecap", b"f00f5a\n"),
            ("sys/kernel/iommu_groups/0/type", b"DMA-FQ\n"),
            ("sys/kernel/iommu_groups/1/type", b"identity\n"),
            ("sys/kernel/iommu_groups/2/type", b"DMA\n"),
        ]);
        let found = check(&kept.1).found;
        assert_eq!(found, "dmar0; legacy mode; groups of devices: 2 translated, 1 in pass-through");
    }
}
