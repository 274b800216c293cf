//! How large the reservation must be on this machine, from what its kernel says in `/sys`.
//!
//! A takeover needs a table for most of what devices use. The numbers lean to the safe side: virtual functions that could be
//! turned on count, and units that know scalable mode are taken to be in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use handoff::{Mode, Remapping};

/// The least reservation that Holdover is tested with.
const LEAST: u64 = 16 << 20;
/// `crashkernel=` is given in mebibytes.
const MEBIBYTE: u64 = 1 << 20;
/// Bits of a unit's capability register: second-stage pages of 2 MiB and of 1 GiB (VT-d specification, section 11.4.2).
const PAGES_OF_2_MIB: u64 = 1 << 34;
const PAGES_OF_1_GIB: u64 = 1 << 35;
/// Bit of the extended capability register: scalable mode (section 11.4.3).
const SCALABLE: u64 = 1 << 43;

/// Bytes that must be reserved on the machine whose `/sys` is mounted at `sys`, in whole mebibytes.
pub(crate) fn needed(sys: &Path) -> u64 {
    let remapping = remapping(sys);
    let tables = if remapping.units == 0 { 0 } else { remapping.reservation() };
    tables.max(LEAST).div_ceil(MEBIBYTE).saturating_mul(MEBIBYTE)
}

/// The machine as its remapping units see it.
fn remapping(sys: &Path) -> Remapping {
    let functions = entries(&sys.join("bus/pci/devices"));
    let units = entries(&sys.join("class/iommu"));
    let units: Vec<Unit> = units.iter().filter_map(|unit| Unit::read(unit)).collect();
    let bus = |function: &PathBuf| Some(function.file_name()?.to_str()?.rsplit_once(':')?.0.to_owned());
    let is_scalable = !units.is_empty() && units.iter().all(|unit| unit.extended & SCALABLE != 0);
    Remapping {
        functions: functions.len() as u64 + functions.iter().map(|function| dormant(function)).sum::<u64>(),
        working: functions.iter().filter(|function| function.join("driver").exists()).count() as u64,
        buses: functions.iter().filter_map(bus).collect::<BTreeSet<_>>().len() as u64,
        units: units.len() as u64,
        memory_end: memory_end(&sys.join("devices/system/memory")),
        largest_page: units.iter().map(Unit::largest_page).min().unwrap_or(4096),
        mode: if is_scalable { Mode::Scalable } else { Mode::Legacy },
    }
}

/// Virtual functions of this one that are not there yet.
fn dormant(function: &Path) -> u64 {
    let count = |file| number(&function.join(file), 10).unwrap_or(0);
    count("sriov_totalvfs").saturating_sub(count("sriov_numvfs"))
}

/// The capabilities of a remapping unit.
struct Unit {
    capabilities: u64,
    extended: u64,
}

impl Unit {
    /// Reads a VT-d unit; other IOMMUs have no such files.
    fn read(unit: &Path) -> Option<Self> {
        let register = |name| number(&unit.join("intel-iommu").join(name), 16);
        Some(Self { capabilities: register("cap")?, extended: register("ecap")? })
    }

    fn largest_page(&self) -> u64 {
        match self.capabilities {
            bits if bits & PAGES_OF_1_GIB != 0 => 1 << 30,
            bits if bits & PAGES_OF_2_MIB != 0 => 2 << 20,
            _ => 4096,
        }
    }
}

/// The end of the last block of memory.
fn memory_end(memory: &Path) -> u64 {
    let blocks = entries(memory);
    let index = |block: &PathBuf| block.file_name()?.to_str()?.strip_prefix("memory")?.parse::<u64>().ok();
    let size = number(&memory.join("block_size_bytes"), 16).unwrap_or(0);
    blocks.iter().filter_map(index).max().map_or(0, |last| last.saturating_add(1).saturating_mul(size))
}

fn number(file: &Path, radix: u32) -> Option<u64> {
    u64::from_str_radix(fs::read_to_string(file).ok()?.trim(), radix).ok()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine's `/sys`.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new(units: usize, capabilities: &str, extended: &str) -> Self {
            let sys = Self(tempfile::tempdir().unwrap());
            for unit in 0..units {
                sys.write(&format!("class/iommu/dmar{unit}/intel-iommu/cap"), capabilities);
                sys.write(&format!("class/iommu/dmar{unit}/intel-iommu/ecap"), extended);
            }
            sys.write("devices/system/memory/block_size_bytes", "8000000");
            sys.write("devices/system/memory/memory127/state", "online");
            sys
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }

        fn functions(&self, bus: u8, count: u8) {
            for devfn in 0..count {
                let name = format!("0000:{bus:02x}:{:02x}.{}", devfn >> 3, devfn & 7);
                self.write(&format!("bus/pci/devices/{name}/driver/name"), "");
            }
        }
    }

    #[test]
    fn a_small_machine_needs_no_more_than_is_tested() {
        let sys = Sys::new(1, "d2008c40660462", "f00f5a");
        sys.functions(0, 10);
        let expected = Remapping {
            functions: 10,
            working: 10,
            buses: 1,
            units: 1,
            memory_end: 16 << 30,
            largest_page: 4096,
            mode: Mode::Legacy,
        };
        assert_eq!(
            remapping(sys.0.path()),
            Remapping { largest_page: 1 << 30, ..expected },
            "bits 34 and 35"
        );
        assert_eq!(needed(sys.0.path()), 16 << 20);
        assert_eq!(needed(Path::new("/nowhere")), 16 << 20, "no unit, no tables");
    }

    #[test]
    fn units_functions_and_virtual_functions_that_may_come_need_more() {
        let sys = Sys::new(40, "d2008c40660462", "80000f00f5a");
        for bus in 0..40 {
            sys.functions(bus, 16);
        }
        let without = needed(sys.0.path());
        assert!(without > 64 << 20 && without.is_multiple_of(1 << 20), "{without:#x}");
        assert_eq!(remapping(sys.0.path()).mode, Mode::Scalable);
        sys.write("bus/pci/devices/0000:05:00.0/sriov_totalvfs", "256");
        sys.write("bus/pci/devices/0000:05:00.0/sriov_numvfs", "6");
        assert_eq!(remapping(sys.0.path()).functions, 640 + 250);
        assert!(needed(sys.0.path()) > without);
    }
}
