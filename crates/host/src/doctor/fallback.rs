//! The fallback kernel that the configuration names: whether it can be loaded, whether it fits, and whether it can work behind IOMMUs
//! that translate.

use std::io::ErrorKind;

use super::finding::{Code, Finding, Subject};
use super::machine::Machine;
use super::rights::Rights;
use crate::config::Configuration;
use crate::fallback::{FallbackError, FallbackRequest, Weighed};
use crate::lockdown::Lockdown;
use crate::{Bytes, chain, iommu};

/// The memory that is set aside, and what of it the capture kernel keeps, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    pub(super) reserved: u64,
    pub(super) kept: u64,
}

/// Looks at the fallback kernel, if the configuration names one.
pub(super) fn check(
    machine: &Machine,
    rights: Rights,
    configuration: &Configuration,
    memory: Memory,
) -> Option<Finding> {
    let request = FallbackRequest::configured(&machine.path(""), configuration)?;
    let lockdown = Lockdown::below(&machine.path(""));
    Some(match request.weigh(lockdown, &machine.read("proc/cpuinfo")) {
        Ok(weighed) => judge(machine, &request, &weighed, memory),
        Err(FallbackError::Unreadable { file, source })
            if rights == Rights::User && source.kind() == ErrorKind::PermissionDenied =>
        {
            Finding::unknown(Code::FallbackUnseen, format!("only root may read {}", file.display()))
        }
        Err(error) => Finding::missing(Code::FallbackRefused, chain(&error), REFUSED),
    })
}

const REFUSED: &str =
    "mend that, or leave `fallback =` out of /etc/holdover.toml; until then `holdover load` loads nothing";

fn judge(machine: &Machine, request: &FallbackRequest, weighed: &Weighed, memory: Memory) -> Finding {
    let Weighed { needed, version } = weighed;
    let needed = needed.saturating_add(memory.kept);
    let release = version.as_deref().and_then(|version| version.split(' ').next());
    let name =
        release.map_or_else(|| request.kernel.display().to_string(), |release| format!("Linux {release}"));
    let found = format!(
        "{name}; {} are reserved, of which it needs {} beside the capture kernel's",
        Bytes(memory.reserved),
        Bytes(needed)
    );
    if needed > memory.reserved {
        let remedy = format!(
            "start the kernel with crashkernel={}M (`holdover setup` writes it), or leave `fallback =` out of /etc/holdover.toml",
            needed.div_ceil(1 << 20)
        );
        return Finding::missing(Code::FallbackReservationSmall, found, remedy);
    }
    if release.is_some_and(|release| lacks_iommu(machine, release)) {
        let found = format!("{name}, which was built without CONFIG_INTEL_IOMMU");
        return Finding::missing(
            Code::FallbackWithoutIommu,
            found,
            "name another kernel as KDUMP_KERNEL in /etc/default/kdump-tools",
        );
    }
    Finding::ok(
        Subject::Fallback,
        format!(
            "{name}, {}; {} of {} reserved are needed",
            request.when,
            Bytes(needed),
            Bytes(memory.reserved)
        ),
    )
}

/// Whether a kernel's configuration says that it has no driver for the remapping units of this machine. Where there is none, nothing
/// is known.
fn lacks_iommu(machine: &Machine, release: &str) -> bool {
    let configuration = machine.read(&format!("boot/config-{release}"));
    let has_units = iommu::units(&machine.path("sys")).iter().any(|unit| unit.starts_with("dmar"));
    let is_known = configuration.lines().any(|line| line.starts_with("CONFIG_"));
    has_units && is_known && !configuration.lines().any(|line| line == "CONFIG_INTEL_IOMMU=y")
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::super::machine::tests::machine;
    use super::*;
    use crate::config::FallbackSource;

    const SETTINGS: (&str, &[u8]) =
        ("etc/default/kdump-tools", b"KDUMP_KERNEL=/kernel\nKDUMP_INITRD=/initrd\nKDUMP_CMDLINE=quiet\n");
    const INITRAMFS: (&str, &[u8]) = ("initrd", b"070701");
    const UNIT: (&str, &[u8]) = ("sys/class/iommu/dmar0/address", b"");

    /// A kernel that calls itself `6.1.0-9`.
    fn kernel() -> Vec<u8> {
        let mut image = fixtures::bz_image().to_vec();
        image.resize(24 << 10, 0);
        image[0x20E..0x210].copy_from_slice(&[0x40, 2]);
        image[0x440..0x44B].copy_from_slice(b"6.1.0-9 (x)");
        image
    }

    fn found(files: &[(&str, &[u8])], reserved: u64) -> Option<Finding> {
        let configuration =
            Configuration { fallback: Some(FallbackSource::KdumpTools), ..Configuration::default() };
        let memory = Memory { reserved, kept: 16 << 20 };
        check(&machine(files).1, Rights::Root, &configuration, memory)
    }

    #[test]
    fn without_a_fallback_there_is_nothing_to_say() {
        let memory = Memory { reserved: 0, kept: 0 };
        assert_eq!(check(&machine(&[]).1, Rights::Root, &Configuration::default(), memory), None);
    }

    #[test]
    fn what_kernel_it_is_and_what_it_needs_is_told() {
        let kernel = kernel();
        let files = [SETTINGS, INITRAMFS, ("kernel", &kernel[..])];
        let fits = found(&files, 256 << 20).unwrap();
        assert_eq!(fits.state, State::Ok);
        assert!(fits.found.starts_with("Linux 6.1.0-9, when-needed; "), "{}", fits.found);
        let little = found(&files, 64 << 20).unwrap();
        assert_eq!(little.code, Some(Code::FallbackReservationSmall));
        assert!(little.remedy.contains("crashkernel=137M"), "{}", little.remedy);
        assert_eq!(found(&files, 137 << 20).unwrap().state, State::Ok);
    }

    #[test]
    fn what_load_refuses_is_told_before() {
        let refused = found(&[SETTINGS, INITRAMFS, ("kernel", b"MZ")], 1 << 30).unwrap();
        assert_eq!((refused.state, refused.code), (State::Missing, Some(Code::FallbackRefused)));
        let absent = found(&[SETTINGS], 1 << 30).unwrap();
        assert!(absent.found.contains("kernel"), "{}", absent.found);
        let kernel = kernel();
        let locked: (&str, &[u8]) = ("sys/kernel/security/lockdown", b"none [integrity] confidentiality\n");
        let locked = found(&[SETTINGS, INITRAMFS, ("kernel", &kernel[..]), locked], 1 << 30).unwrap();
        assert!(locked.found.contains("locked down"), "{}", locked.found);
    }

    #[test]
    fn a_kernel_that_does_not_know_the_units_of_this_machine_is_no_fallback() {
        let kernel = kernel();
        let with = |built: &[u8], unit| {
            found(
                &[SETTINGS, INITRAMFS, ("kernel", &kernel[..]), ("boot/config-6.1.0-9", built), unit],
                1 << 30,
            )
            .unwrap()
        };
        let without = with(b"CONFIG_SMP=y\n# CONFIG_INTEL_IOMMU is not set\n", UNIT);
        assert_eq!(without.code, Some(Code::FallbackWithoutIommu));
        assert_eq!(with(b"CONFIG_SMP=y\nCONFIG_INTEL_IOMMU=y\n", UNIT).state, State::Ok);
        assert_eq!(with(b"", UNIT).state, State::Ok, "nothing is known");
        assert_eq!(with(b"CONFIG_SMP=y\n", ("sys/x", b"")).state, State::Ok, "there are no units");
    }
}
