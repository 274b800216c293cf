//! Which IOMMUs the running kernel uses, and what the firmware lists.

use std::fs;
use std::path::Path;

use crate::inspect;

/// What is to be done where an IOMMU of AMD's translates.
pub(crate) const AMD_UNSUPPORTED: &str = "AMD-Vi is not supported yet: the capture kernel would refuse every disk; add amd_iommu=off to the \
     kernel's command line and restart (dumps work without, unprotected)";

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
    /// Looks at the firmware's tables.
    pub(crate) fn of_firmware() -> Self {
        let tables = Path::new("/sys/firmware/acpi/tables");
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

/// The kernel's names of the IOMMUs that it uses, sorted; none if `/sys` is not there.
pub(crate) fn units() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/iommu").into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Whether any of the IOMMUs with these names is AMD's.
pub(crate) fn are_amds(units: &[String]) -> bool {
    units.iter().any(|unit| unit.starts_with("ivhd"))
}
