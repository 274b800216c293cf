//! Whether the capture kernel will find ACPI's tables.

use std::path::Path;

use super::finding::{AS_ROOT, Code, Finding, Subject};
use crate::root_pointer::{self, RootPointerError};

/// Without ACPI's root pointer the capture kernel finds neither remapping units nor devices. `running` is the command line
/// of the running kernel.
pub(super) fn check(sys: &Path, running: &str) -> Finding {
    if !root_pointer::is_uefi(sys) {
        return Finding::ok(Subject::RootPointer, "in the memory of a BIOS");
    }
    let named = root_pointer::of_efi(sys);
    let told = || root_pointer::of_running_kernel(sys, running);
    match named.map(|named| named.or_else(told)) {
        Ok(Some(address)) => Finding::ok(Subject::RootPointer, format!("{address:#x}")),
        Ok(None) => {
            let remedy = "`dmesg | grep RSDP` shows it; load with --append acpi_rsdp=0x…";
            Finding::missing(Code::RootPointerUnknown, "named neither by UEFI nor to this kernel", remedy)
        }
        Err(error @ RootPointerError::Unreadable { .. }) => {
            Finding::missing(Code::RootPointerUnreadable, error.to_string(), AS_ROOT)
        }
        Err(error) => {
            let remedy = "load with --append acpi_rsdp=0x…";
            Finding::missing(Code::RootPointerUnknown, error.to_string(), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_host_of_uefi_without_a_root_pointer_is_noticed() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(check(sys.path(), "").state, State::Ok);
        let efi = sys.path().join("firmware/efi");
        fs::create_dir_all(&efi).unwrap();
        assert!(check(sys.path(), "quiet").remedy.contains("acpi_rsdp"));
        assert_eq!(check(sys.path(), "acpi_rsdp=0x5000").found, "0x5000");
        fs::write(efi.join("systab"), "ACPI20=nowhere\n").unwrap();
        assert!(check(sys.path(), "acpi_rsdp=0x5000").found.contains("nowhere"));
        fs::write(efi.join("systab"), "ACPI20=0x7f77e014\n").unwrap();
        assert_eq!(check(sys.path(), "").state, State::Ok);
    }
}
