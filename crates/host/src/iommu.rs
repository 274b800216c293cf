//! Which IOMMUs the running kernel uses, and what the firmware lists.

use std::fs;
use std::path::Path;

use crate::inspect;

/// What is to be done where the hardware keeps registers of an IOMMU from the capture kernel.
pub(crate) const LOCKED: &str = "none is needed for a dump; where no virtual machine of this host is a confidential one, \
     kvm_amd.sev_snp=0 on the kernel's command line lifts the lock";

/// The IOMMUs that the firmware lists.
#[derive(Debug)]
pub(crate) enum Listing {
    /// Intel's.
    Intel {
        /// What is wrong with the table; nothing if it cannot be read, which takes the rights of root.
        damage: Vec<String>,
    },
    /// AMD's.
    Amd,
    /// None.
    Nothing,
}

impl Listing {
    /// Looks at the firmware's tables, on the machine whose `/sys` is mounted at `sys`.
    pub(crate) fn of_firmware(sys: &Path) -> Self {
        let tables = sys.join("firmware/acpi/tables");
        let dmar = tables.join("DMAR");
        if dmar.exists() {
            let damage = inspect::decode_dmar(&dmar).map(|decoded| decoded.damage).unwrap_or_default();
            return Self::Intel { damage };
        }
        if tables.join("IVRS").exists() { Self::Amd } else { Self::Nothing }
    }

    /// What is wrong with the table, after a semicolon; empty if nothing is.
    pub(crate) fn remarks(&self) -> String {
        match self {
            Self::Intel { damage } if !damage.is_empty() => {
                format!("; the DMAR table: {}", damage.join(", "))
            }
            _ => String::new(),
        }
    }
}

/// The kernel's names of the IOMMUs that it uses, sorted; none if `/sys` is not mounted at `sys`.
pub(crate) fn units(sys: &Path) -> Vec<String> {
    let entries = fs::read_dir(sys.join("class/iommu")).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Whether secure nested paging is on, and one of the IOMMUs with these names is AMD's: then hardware ignores writes to the registers that
/// name its tables and buffers (AMD-Vi 3.4). The kernel's module for virtual machines tells, if it is loaded.
pub(crate) fn are_locked(sys: &Path, units: &[String]) -> bool {
    let told = fs::read_to_string(sys.join("module/kvm_amd/parameters/sev_snp")).unwrap_or_default();
    matches!(told.trim(), "Y" | "1") && units.iter().any(|unit| unit.starts_with("ivhd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(tables: &[(&str, &[u8])]) -> Listing {
        let sys = tempfile::tempdir().unwrap();
        let folder = sys.path().join("firmware/acpi/tables");
        fs::create_dir_all(&folder).unwrap();
        for (name, table) in tables {
            fs::write(folder.join(name), table).unwrap();
        }
        Listing::of_firmware(sys.path())
    }

    #[test]
    fn the_firmwares_tables_say_whose_iommus_there_are() {
        assert!(matches!(listing(&[]), Listing::Nothing));
        assert!(matches!(listing(&[("IVRS", b"IVRS")]), Listing::Amd));
        // 39 bits, and one unit at address 0; the checksum is right.
        let mut table = [b"DMAR\x40\0\0\0".as_slice(), &[0; 40], &[0, 0, 16, 0, 1], &[0; 11]].concat();
        table[36] = 38;
        table[9] = table.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
        let intel = listing(&[("DMAR", &table), ("IVRS", b"IVRS")]);
        assert_eq!(intel.remarks(), "; the DMAR table: structure 1: a unit at address 0");
        let unreadable = listing(&[("DMAR", b"no table")]);
        assert!(matches!(&unreadable, Listing::Intel { damage } if damage.is_empty()), "{unreadable:?}");
        assert_eq!(unreadable.remarks(), "");
    }

    #[test]
    fn the_kernel_says_whose_iommus_it_uses() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(units(sys.path()), [""; 0]);
        for name in ["dmar1", "dmar0"] {
            fs::create_dir_all(sys.path().join("class/iommu").join(name)).unwrap();
        }
        assert_eq!(units(sys.path()), ["dmar0", "dmar1"]);
    }

    #[test]
    fn secure_nested_paging_locks_amds_units() {
        let sys = tempfile::tempdir().unwrap();
        let (amd, intel) = (["ivhd0".to_owned()], ["dmar0".to_owned()]);
        assert!(!are_locked(sys.path(), &amd), "the module is not loaded");
        fs::create_dir_all(sys.path().join("module/kvm_amd/parameters")).unwrap();
        for (told, is_locked) in [("Y\n", true), ("N\n", false), ("", false)] {
            fs::write(sys.path().join("module/kvm_amd/parameters/sev_snp"), told).unwrap();
            assert_eq!((are_locked(sys.path(), &amd), are_locked(sys.path(), &intel)), (is_locked, false));
        }
    }
}
