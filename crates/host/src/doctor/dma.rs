//! Which devices go on reading and writing memory after a panic, and what they can reach then: the IOMMU stays as it is.

use std::fs;
use std::path::Path;

use super::finding::{Code, Finding, Subject};
use super::iommu::Translation;
use super::machine::{Machine, name, text};

/// Bit of the command register, at byte 4 of configuration space: the function may access memory (PCI Express 6.0, section 7.5.1.1.3).
const BUS_MASTER: u8 = 1 << 2;
const COMMAND: usize = 4;
/// First digits of the class of bridges, which forward others' accesses only.
const BRIDGE: &str = "0x06";
/// How many functions are named.
const NAMED: usize = 4;

/// A function that accesses memory and does not notice a panic.
struct Master {
    function: String,
    driver: String,
    /// `None` where no IOMMU translates.
    translation: Option<Translation>,
}

/// Looks at the functions that have a driver and may access memory.
pub(super) fn check(machine: &Machine) -> Finding {
    let functions = machine.entries("sys/bus/pci/devices");
    let masters: Vec<_> = functions.iter().filter_map(|function| Master::at(function)).collect();
    judge(&masters, &machine.read("proc/cmdline"))
}

impl Master {
    /// Reads a function's folder in `/sys`; `None` if it does not access memory.
    fn at(folder: &Path) -> Option<Self> {
        let driver = name(&fs::canonicalize(folder.join("driver")).ok()?);
        // Everybody may read the first 64 bytes.
        let command = *fs::read(folder.join("config")).ok()?.get(COMMAND)?;
        let is_master = command & BUS_MASTER != 0 && !text(&folder.join("class")).starts_with(BRIDGE);
        let translation = Translation::of(&text(&folder.join("iommu_group/type")));
        is_master.then(|| Self { function: name(folder), driver, translation })
    }

    fn is_guarded(&self) -> bool {
        matches!(self.translation, Some(Translation::Translated | Translation::Blocked))
    }
}

/// `running` is the running kernel's command line.
fn judge(masters: &[Master], running: &str) -> Finding {
    let unguarded: Vec<_> = masters.iter().filter(|master| !master.is_guarded()).collect();
    let all = masters.len();
    if unguarded.is_empty() {
        return Finding::ok(Subject::Dma, format!("{all}, each behind the IOMMU's tables"));
    }
    let named = unguarded.iter().take(NAMED).map(|one| format!("{} ({})", one.function, one.driver));
    let named = named.collect::<Vec<_>>().join(", ");
    let more = if unguarded.len() > NAMED { ", …" } else { "" };
    let reach = if unguarded.iter().all(|one| one.translation == Some(Translation::PassThrough)) {
        "in pass-through"
    } else {
        "behind no IOMMU that translates"
    };
    let found = format!("{all}, of which {} {reach}: {named}{more}", unguarded.len());
    let words = ["iommu=pt", "iommu.passthrough=1", "iommu.passthrough=on"];
    let remedy = match running.split_whitespace().find(|word| words.contains(word)) {
        Some(word) => format!("take {word} off the kernel's command line and restart"),
        None => "intel_iommu=on iommu.passthrough=0 on the kernel's command line, and restart".to_owned(),
    };
    Finding::warning(Code::DmaUnguarded, found, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::super::machine::tests::machine;
    use super::*;

    const MASTER: &[u8] = b"\x86\x80\xd3\x10\x07\x04\x10\x00";
    const QUIET: &[u8] = b"\x86\x80\xd3\x10\x03\x04\x10\x00";

    /// A machine with a card, a disk that may not access memory, and a bridge.
    fn found(kind: &[u8], running: &[u8]) -> Finding {
        let kept = machine(&[
            ("sys/bus/pci/devices/0000:00:02.0/config", MASTER),
            ("sys/bus/pci/devices/0000:00:02.0/class", b"0x020000\n"),
            ("sys/bus/pci/devices/0000:00:02.0/driver/uevent", b""),
            ("sys/bus/pci/devices/0000:00:02.0/iommu_group/type", kind),
            ("sys/bus/pci/devices/0000:00:03.0/config", QUIET),
            ("sys/bus/pci/devices/0000:00:03.0/driver/uevent", b""),
            ("sys/bus/pci/devices/0000:00:04.0/config", MASTER),
            ("sys/bus/pci/devices/0000:00:05.0/config", MASTER),
            ("sys/bus/pci/devices/0000:00:05.0/class", b"0x060400\n"),
            ("sys/bus/pci/devices/0000:00:05.0/driver/uevent", b""),
            ("proc/cmdline", running),
        ]);
        check(&kept.1)
    }

    #[test]
    fn functions_with_a_driver_that_may_access_memory_are_counted() {
        let finding = found(b"DMA-FQ\n", b"");
        let told = (finding.state, finding.found.as_str());
        assert_eq!(told, (State::Ok, "1, each behind the IOMMU's tables"));
    }

    #[test]
    fn those_in_pass_through_are_named_with_what_puts_them_there() {
        let finding = found(b"identity\n", b"quiet iommu=pt");
        assert_eq!(finding.state, State::Warning);
        assert!(finding.found.contains("1 in pass-through: 0000:00:02.0 (driver)"), "{}", finding.found);
        assert!(finding.remedy.contains("take iommu=pt off"), "{}", finding.remedy);
        let finding = found(b"", b"");
        assert!(finding.found.contains("behind no IOMMU"), "{}", finding.found);
    }
}
