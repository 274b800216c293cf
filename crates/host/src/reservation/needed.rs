//! How large the reservation must be on this machine, from what its kernel says in `/sys`.
//!
//! A takeover needs a table for most of what devices use. The numbers lean to the safe side: virtual functions that could be
//! turned on count, units that know scalable mode are taken to be in it, and a few processes are reckoned with for each
//! function that can work for processes. Functions of one IOMMU group have one domain; bridges access no memory of their own accord and have none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use handoff::{Mode, Remapping, tables_above};

/// The least reservation that Holdover is tested with.
const LEAST: u64 = 16 << 20;
/// `crashkernel=` is given in mebibytes.
const MEBIBYTE: u64 = 1 << 20;
/// Bits of a unit's capability register: second-stage pages of 2 MiB and of 1 GiB (VT-d specification, section 11.4.2).
const PAGES_OF_2_MIB: u64 = 1 << 34;
const PAGES_OF_1_GIB: u64 = 1 << 35;
/// Bit of the extended capability register: scalable mode (section 11.4.3).
const SCALABLE: u64 = 1 << 43;
/// Bits that say which tables a unit can have, and so which identity map: widths and large pages of the second stage; and
/// pages of 1 GiB and five levels of the first stage, if there is one.
const TABLES: u64 = 0x1F << 8 | 0x3F << 16 | 0xF << 34 | 1 << 56 | 1 << 60;
/// Bits of the extended capability register: PASIDs (section 11.4.3), and which stages there are.
const PASIDS: u64 = 1 << 40;
const STAGES: u64 = SCALABLE | 1 << 46 | 1 << 47;
/// How many processes may use a function, in all likelihood: which will, nobody knows before. Where more do, domains are
/// folded or kept in place.
const PROCESSES: u64 = 4;
/// Classes of functions that forward others' accesses, and make none.
const HOST_BRIDGE: &str = "0x0600";
const PCI_BRIDGE: &str = "0x0604";
/// A resource in memory (`IORESOURCE_MEM`), in the flags of a function's list of resources.
const MEMORY_RESOURCE: u64 = 0x200;

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
    // Linux makes a device table for each segment, which all units there share.
    let segment = |function: &PathBuf| Some(function.file_name()?.to_str()?.split_once(':')?.0.to_owned());
    let segments = functions.iter().filter_map(segment).collect::<BTreeSet<_>>().len().max(1);
    let is_amds = matches!(units.first(), Some(Unit::AmdVi));
    let is_scalable = !units.is_empty() && units.iter().all(|unit| unit.extended() & SCALABLE != 0);
    let domains = functions.iter().filter(|function| is_in_use(function)).map(|function| group(function));
    let domains = domains.collect::<BTreeSet<_>>().len() as u64;
    let has_pasids = is_scalable && units.iter().any(|unit| unit.extended() & PASIDS != 0);
    let memory_end = memory_end(&sys.join("devices/system/memory"));
    let largest_page = units.iter().map(Unit::largest_page).min().unwrap_or(4096);
    Remapping {
        functions: functions.len() as u64 + functions.iter().map(|function| dormant(function)).sum::<u64>(),
        domains,
        processes: if has_pasids { domains.saturating_mul(PROCESSES) } else { 0 },
        buses: functions.iter().filter_map(bus).collect::<BTreeSet<_>>().len() as u64,
        units: units.len() as u64,
        device_tables: if is_amds { segments.min(units.len()) as u64 } else { 0 },
        kinds: units.iter().map(Unit::kind).collect::<BTreeSet<_>>().len() as u64,
        memory_end,
        window_tables: tables_above(&claimed_above(&functions, memory_end), largest_page),
        largest_page,
        mode: match is_scalable {
            _ if is_amds => Mode::DeviceTable,
            true => Mode::Scalable,
            false => Mode::Legacy,
        },
    }
}

/// Virtual functions of this one that are not there yet.
fn dormant(function: &Path) -> u64 {
    let count = |file| number(&function.join(file), 10).unwrap_or(0);
    count("sriov_totalvfs").saturating_sub(count("sriov_numvfs"))
}

/// Whether a function has mappings: a driver makes them, or Linux does for memory that firmware reserves (RMRR).
fn is_in_use(function: &Path) -> bool {
    let class = read(&function.join("class")).unwrap_or_default();
    let is_bridge = [HOST_BRIDGE, PCI_BRIDGE].iter().any(|bridge| class.starts_with(bridge));
    let regions = read(&function.join("iommu_group/reserved_regions")).unwrap_or_default();
    let has_reserved_memory = regions.lines().any(|region| region.contains(" direct"));
    has_reserved_memory || !is_bridge && function.join("driver").exists()
}

/// The IOMMU group of a function; a function that Linux put into none is alone.
fn group(function: &Path) -> PathBuf {
    fs::read_link(function.join("iommu_group")).unwrap_or_else(|_| function.to_owned())
}

/// What functions and bridges claim above memory: first and last addresses, in ascending order.
fn claimed_above(functions: &[PathBuf], memory_end: u64) -> Vec<(u64, u64)> {
    let lists = functions.iter().filter_map(|function| read(&function.join("resource")));
    let claims = lists.flat_map(|list| list.lines().filter_map(claim).collect::<Vec<_>>());
    claims.filter(|claim| claim.0 >= memory_end).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A claim of memory in a function's list of resources, each `FIRST LAST FLAGS`.
fn claim(line: &str) -> Option<(u64, u64)> {
    let mut words =
        line.split_whitespace().map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    let (first, last, flags) = (words.next()??, words.next()??, words.next()??);
    (flags & MEMORY_RESOURCE != 0 && last > first).then_some((first, last))
}

/// The capabilities of a remapping unit.
enum Unit {
    /// Intel's.
    Vtd { capabilities: u64, extended: u64 },
    /// AMD's: all of them have pages of all sizes.
    AmdVi,
}

impl Unit {
    /// Reads a unit by the files that Linux has for units of its architecture.
    fn read(unit: &Path) -> Option<Self> {
        if unit.join("amd-iommu").exists() {
            return Some(Self::AmdVi);
        }
        let register = |name| number(&unit.join("intel-iommu").join(name), 16);
        Some(Self::Vtd { capabilities: register("cap")?, extended: register("ecap")? })
    }

    /// What decides which tables map everything to itself.
    fn kind(&self) -> (u64, u64) {
        match self {
            Self::Vtd { capabilities, extended } => (capabilities & TABLES, extended & STAGES),
            Self::AmdVi => (0, 0),
        }
    }

    /// The extended capability register of VT-d.
    fn extended(&self) -> u64 {
        match self {
            Self::Vtd { extended, .. } => *extended,
            Self::AmdVi => 0,
        }
    }

    fn largest_page(&self) -> u64 {
        match self {
            Self::AmdVi => 1 << 30,
            Self::Vtd { capabilities, .. } if capabilities & PAGES_OF_1_GIB != 0 => 1 << 30,
            Self::Vtd { capabilities, .. } if capabilities & PAGES_OF_2_MIB != 0 => 2 << 20,
            Self::Vtd { .. } => 4096,
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
    u64::from_str_radix(read(file)?.trim(), radix).ok()
}

fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok()
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
            domains: 10,
            processes: 0,
            buses: 1,
            units: 1,
            device_tables: 0,
            kinds: 1,
            memory_end: 16 << 30,
            window_tables: 0,
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
    fn bridges_need_no_tables_and_groups_one_set() {
        let sys = Sys::new(1, "d2008c40660462", "f00f5a");
        sys.functions(0, 4);
        sys.write("bus/pci/devices/0000:00:00.0/class", "0x060400");
        for number in 1..3 {
            let link = sys.0.path().join(format!("bus/pci/devices/0000:00:00.{number}/iommu_group"));
            std::os::unix::fs::symlink("../../../../kernel/iommu_groups/7", link).unwrap();
        }
        assert_eq!(remapping(sys.0.path()).domains, 2);
    }

    #[test]
    fn memory_that_firmware_reserves_for_a_function_without_driver_needs_tables() {
        let sys = Sys::new(1, "d2008c40660462", "f00f5a");
        let function = "bus/pci/devices/0000:00:02.0";
        let interrupts = "0x00000000fee00000 0x00000000feefffff msi";
        sys.write(&format!("{function}/iommu_group/reserved_regions"), interrupts);
        assert_eq!(remapping(sys.0.path()).domains, 0);
        let reserved = format!("0x000000007b800000 0x000000007fffffff direct-relaxable\n{interrupts}");
        sys.write(&format!("{function}/iommu_group/reserved_regions"), &reserved);
        assert_eq!(remapping(sys.0.path()).domains, 1);
    }

    #[test]
    fn large_windows_of_bridges_need_tables_of_their_own() {
        const TWO_MIB_ONLY: &str = "d2008440660462";
        let sys = Sys::new(1, TWO_MIB_ONLY, "f00f5a");
        let list = "0x0000000000001000 0x0000000000001fff 0x0000000000000101\n\
                    0x00000000c0000000 0x00000000c00fffff 0x0000000000000200\n\
                    0x0000380000000000 0x0000381fffffffff 0x0000000000102201\n\
                    0x0000000000000000 0x0000000000000000 0x0000000000000000";
        sys.write("bus/pci/devices/0000:00:01.0/resource", list);
        sys.write("bus/pci/devices/0000:01:00.0/resource", "0x0000381000000000 0x0000381fffffffff 0x14220c");
        let numbers = remapping(sys.0.path());
        assert_eq!((numbers.largest_page, numbers.window_tables), (2 << 20, 128 + 1 + 1));
    }

    #[test]
    fn a_few_processes_are_reckoned_with_where_there_are_pasids() {
        let sys = Sys::new(1, "d2008c40660462", "90000f00f5a");
        sys.functions(0, 3);
        assert_eq!(remapping(sys.0.path()).processes, 3 * PROCESSES);
    }

    /// A device table of 2 MiB for each segment, and at most half of the frames for one of several tables.
    #[test]
    fn units_of_amds_share_a_device_table_in_each_segment() {
        let needed = |units, segments| {
            let sys = Sys::new(0, "", "");
            for unit in 0..units {
                sys.write(&format!("class/iommu/ivhd{unit}/amd-iommu/features"), "29d3\n");
            }
            for segment in 0..segments {
                sys.write(&format!("bus/pci/devices/{segment:04x}:00:01.0/driver/name"), "");
            }
            super::needed(sys.0.path()) >> 20
        };
        assert_eq!((needed(0, 1), needed(1, 1), needed(8, 1)), (16, 16, 16));
        assert!((40..64).contains(&needed(4, 4)), "{}", needed(4, 4));
        assert_eq!(needed(1, 4), 16, "the others have none");
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
