//! Watchdogs that the crashing kernel arms, and that nobody pings when it is dead.

use clap::ValueEnum;
use serde::Serialize;

use crate::guests::kernels::Flavour;

// Devices of QEMU.
const I6300ESB: &str = "i6300esb,addr=0x17";
const BMC: &str = "ipmi-bmc-sim,id=bmc";
const KCS: &str = "isa-ipmi-kcs,bmc=bmc";

/// A watchdog, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Watchdog {
    /// The chipset's TCO timer.
    Itco,
    /// A PCI function.
    I6300esb,
    /// The timer of a baseboard management controller.
    Ipmi,
    /// Both.
    I6300esbAndIpmi,
    /// The chipset's, as ACPI's table WDAT describes it, which allows a few seconds only.
    Wdat,
}

impl Watchdog {
    /// Options of QEMU, except for the table.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Itco | Self::Wdat => &["-global", "ICH9-LPC.noreboot=false"],
            Self::I6300esb => &["-device", I6300ESB],
            Self::Ipmi => &["-device", BMC, "-device", KCS],
            Self::I6300esbAndIpmi => &["-device", I6300ESB, "-device", BMC, "-device", KCS],
        }
    }

    /// Modules of its driver, in the order in which they are loaded. IPMI takes `/dev/watchdog` for itself, so the next is number 1.
    pub(crate) fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Itco => &["lpc_ich", "iTCO_wdt"],
            Self::I6300esb => &["i6300esb"],
            Self::Ipmi => &["ipmi_si", "ipmi_watchdog"],
            Self::I6300esbAndIpmi => &["ipmi_si", "ipmi_watchdog", "i6300esb"],
            Self::Wdat => &["wdat_wdt"],
        }
    }

    /// The command that arms it, to bite after some seconds.
    pub(crate) fn arm(self) -> &'static str {
        match self {
            Self::Itco | Self::Wdat => "watchdog -t 1 -T 4 /dev/watchdog0\nsleep 1\n",
            Self::I6300esb | Self::Ipmi => "watchdog -t 1 -T 8 /dev/watchdog\nsleep 1\n",
            Self::I6300esbAndIpmi => {
                "watchdog -t 1 -T 8 /dev/watchdog\nwatchdog -t 1 -T 8 /dev/watchdog1\nsleep 1\n"
            }
        }
    }

    /// The kernel that has its driver.
    pub(crate) fn kernel(self) -> Flavour {
        match self {
            Self::Wdat => Flavour::Cloud,
            Self::Itco | Self::I6300esb | Self::Ipmi | Self::I6300esbAndIpmi => Flavour::Amd64,
        }
    }
}

/// A timer that is no PCI function: segment, bus and device are FFh. Linux takes no other.
const NO_FUNCTION: u32 = 0xFFFF_00FF;
/// Counts that [`table`] allows: 4.2 s, which pass twice before the machine is reset.
const MOST: u32 = 7;

/// ACPI's table WDAT (Microsoft's "Hardware Watchdog Timers Design Specification", section 5), for the TCO timer of QEMU's machine
/// q35 (Intel I/O Controller Hub 9 data sheet, section 13.9), whose firmware has the timer's ports at 660h.
pub(crate) fn table() -> Vec<u8> {
    const WORD: (u8, u8) = (16, 2);
    const PRESERVE: u8 = 0x80;
    let port = |action, instruction, port, bit, value, mask| {
        entry(action, instruction, (1, WORD, bit, port), (value, mask))
    };
    let chipset = (0, (32, 3), 5, 0xFED1_F410);
    let entries = [
        port(1, 2, 0x660, 0, 1, 0x3FF),            // reset the countdown
        port(4, 1, 0x660, 0, 0, 0x3FF),            // get the present count
        port(6, 3 | PRESERVE, 0x672, 0, 0, 0x3FF), // set the countdown
        port(8, 0, 0x668, 11, 0, 1),               // does it run
        port(9, 2 | PRESERVE, 0x668, 11, 0, 1),    // start
        port(10, 0, 0x668, 11, 1, 1),              // is it stopped
        port(11, 2 | PRESERVE, 0x668, 11, 1, 1),   // stop
        entry(17, 2 | PRESERVE, chipset, (0, 1)),  // reset the machine at the end
    ];
    let numbers = [32, NO_FUNCTION, 0xFF, 600, MOST, 2, 1, entries.len() as u32];
    let mut table = b"WDAT\0\0\0\0\x01\0HOLDOVBENCH   \x01\0\0\0HOLD\x01\0\0\0".to_vec();
    table.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    table.extend(entries.as_flattened());
    let length = table.len() as u32;
    table[4..8].copy_from_slice(&length.to_le_bytes());
    table[9] = table.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
    table
}

/// An entry: action, instruction, register (space, widths, lowest bit, address), value and mask.
fn entry(
    action: u8,
    instruction: u8,
    (space, (width, access), bit, address): (u8, (u8, u8), u8, u64),
    (value, mask): (u32, u32),
) -> [u8; 24] {
    let mut entry = [
        action,
        instruction,
        0,
        0,
        space,
        width,
        bit,
        access,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    entry[8..16].copy_from_slice(&address.to_le_bytes());
    entry[16..20].copy_from_slice(&value.to_le_bytes());
    entry[20..].copy_from_slice(&mask.to_le_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_its_length_and_checksum() {
        let table = table();
        assert_eq!((table.len(), &table[4..8]), (68 + 8 * 24, &[4, 1, 0, 0][..]));
        assert_eq!(table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    }
}
