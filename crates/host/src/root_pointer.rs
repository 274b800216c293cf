//! Finds ACPI's root pointer for the capture kernel, on a host that UEFI has started: there the firmware does not have it in a
//! place that is known, and not every Linux hands it over.

use std::path::{Path, PathBuf};
use std::{fs, io};

use handoff::Options;

/// The most that is read of a file. The kernel's is a page at most.
const LONGEST: usize = 4096;
/// No processor has more address bits (Intel SDM volume 3, section 4.1.4).
const ADDRESS_BITS: u32 = 52;

/// Why the root pointer is not known.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum RootPointerError {
    /// The kernel's list of EFI's tables cannot be read.
    #[error("cannot read {path}, which names ACPI's root pointer")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// The list names something that is no address.
    #[error("{path} names no address of ACPI's root pointer: {line:?}; name it with --append acpi_rsdp=0x…")]
    NoAddress {
        /// The file.
        path: PathBuf,
        /// The line.
        line: String,
    },
}

/// Whether UEFI has started this host. `sys` is where `/sys` is.
pub(crate) fn is_uefi(sys: &Path) -> bool {
    sys.join("firmware/efi").is_dir()
}

/// The root pointer of ACPI 2.0 or newer that EFI names, or else that of ACPI 1.0; `None` if this host was not started by UEFI,
/// or EFI names none.
pub(crate) fn of_efi(sys: &Path) -> Result<Option<u64>, RootPointerError> {
    let path = sys.join("firmware/efi/systab");
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RootPointerError::Unreadable { path, source }),
    };
    let named = |key| text.lines().find_map(|line| Some((line, line.strip_prefix(key)?)));
    let Some((line, value)) = named("ACPI20=").or_else(|| named("ACPI=")) else { return Ok(None) };
    let no_address = || RootPointerError::NoAddress { path, line: line.to_owned() };
    address(value).map(Some).ok_or_else(no_address)
}

/// The root pointer that the running kernel was told on its command line, or in its boot parameters.
pub(crate) fn of_running_kernel(sys: &Path, command_line: &str) -> Option<u64> {
    /// Offset in the boot parameters (Documentation/arch/x86/zero-page.rst).
    const ACPI_RSDP_ADDR: usize = 0x070;
    let in_params = || {
        let params = fs::read(sys.join("kernel/boot_params/data")).ok()?;
        params.get(ACPI_RSDP_ADDR..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    };
    Options::parse(command_line).acpi_rsdp.or_else(in_params).filter(|&address| address != 0)
}

/// Reads `0x…`: an address that a processor can have, and not zero.
fn address(text: &str) -> Option<u64> {
    let digits = text.trim_end().strip_prefix("0x")?;
    let address = u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
    (1..1 << ADDRESS_BITS).contains(&address).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/sys` whose list of EFI's tables has this text.
    fn sys(systab: &str) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir_all(sys.path().join("firmware/efi")).unwrap();
        fs::write(sys.path().join("firmware/efi/systab"), systab).unwrap();
        sys
    }

    #[test]
    fn the_newer_pointer_is_preferred_wherever_it_stands() {
        let found = |systab| of_efi(sys(systab).path()).unwrap();
        assert_eq!(found("ACPI20=0x7f77e014\nACPI=0x7f77e000\nSMBIOS=0x7f5b2000\n"), Some(0x7f77_e014));
        assert_eq!(found("ACPI=0x7f77e000\nACPI20=0x7f77e014\n"), Some(0x7f77_e014));
        assert_eq!(found("SMBIOS3=0x1\nACPI=0x7f77e000\n"), Some(0x7f77_e000));
        assert_eq!(found("SMBIOS=0x7f5b2000\n"), None);
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_passed_on() {
        for value in [
            "",
            "0x",
            "0x0",
            "7f77e014",
            "0x+1",
            "0x1 holdover.area=x",
            "0x10000000000000",
            "-0x1",
            "0x7f77e014K",
        ] {
            let refused = of_efi(sys(&format!("ACPI20={value}\nACPI=0x1000\n")).path());
            assert!(matches!(refused, Err(RootPointerError::NoAddress { .. })), "{value}: {refused:?}");
        }
    }

    #[test]
    fn a_host_that_a_bios_started_has_no_list() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(of_efi(sys.path()).unwrap(), None);
        assert!(!is_uefi(sys.path()));
    }

    #[test]
    fn the_running_kernel_may_have_been_told() {
        let sys = sys("");
        assert!(is_uefi(sys.path()));
        assert_eq!(of_running_kernel(sys.path(), "quiet acpi_rsdp=7f77e014"), Some(0x7f77_e014));
        fs::create_dir_all(sys.path().join("kernel/boot_params")).unwrap();
        let mut params = vec![0; 4096];
        fs::write(sys.path().join("kernel/boot_params/data"), &params).unwrap();
        assert_eq!(of_running_kernel(sys.path(), "quiet"), None, "zero is none");
        params[0x71] = 0xF0;
        fs::write(sys.path().join("kernel/boot_params/data"), &params).unwrap();
        assert_eq!(of_running_kernel(sys.path(), "quiet"), Some(0xF000));
    }
}
