//! Takes something out of what the loader hands over, between the panic and the capture kernel's first instruction.
//!
//! Offsets in `boot_params`: Linux, Documentation/arch/x86/zero-page.rst and boot.rst.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::Serialize;

use crate::machines::ram::Ram;

const ACPI_RSDP_ADDR: u64 = 0x070;
/// The upper half of the command line's address; the lower one is at `CMD_LINE_PTR`.
const EXT_CMD_LINE_PTR: u64 = 0x0c8;
const EFI_INFO: u64 = 0x1c0;
const EFI_INFO_WORDS: u64 = 4;
const CMD_LINE_PTR: u64 = 0x228;
const SETUP_DATA: u64 = 0x250;
/// The halves of the initramfs' address.
const RAMDISK_IMAGE: u64 = 0x218;
const EXT_RAMDISK_IMAGE: u64 = 0x0c0;
/// A place in the page that describes a fallback kernel.
const IN_FALLBACK: u64 = 0x100;
/// More than any command line of the bench.
const COMMAND_LINE: usize = 2048;

/// What the loader's hand-over loses: ways to ACPI's root pointer, or the fallback kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Loss {
    /// The pointer itself: `acpi_rsdp_addr` is zero, as the EFI stub leaves it, and the command line does not name it.
    RootPointer,
    /// Everything but the command line: `acpi_rsdp_addr` is zero, and nothing is said of EFI.
    AllButCommandLine,
    /// The fallback kernel: the page that describes it is damaged, which the loader's own check came too early to notice.
    Fallback,
}

impl Loss {
    /// Changes the hand-over in `ram`, whose `boot_params` are at this address.
    pub(crate) fn inflict(self, ram: &Ram, params: u64) -> Result<()> {
        if self == Self::Fallback {
            let fallback = wide(ram, params, RAMDISK_IMAGE, EXT_RAMDISK_IMAGE)?;
            ensure!(fallback != 0, "no fallback kernel is loaded: nothing is damaged");
            return ram.write_u64(fallback + IN_FALLBACK, !ram.read_u64(fallback + IN_FALLBACK)?);
        }
        ram.write_u64(params + ACPI_RSDP_ADDR, 0)?;
        if self == Self::AllButCommandLine {
            forget_efi(ram, params)
        } else {
            blank_root_pointer(ram, params)
        }
    }
}

/// A number of 64 bits of which `boot_params` have the halves in two places.
fn wide(ram: &Ram, params: u64, low: u64, high: u64) -> Result<u64> {
    let half = |at| Ok::<_, anyhow::Error>(ram.read_u64(params + at)? & 0xffff_ffff);
    Ok(half(low)? | half(high)? << 32)
}

/// Writes spaces over each `acpi_rsdp=…` of the command line.
fn blank_root_pointer(ram: &Ram, params: u64) -> Result<()> {
    let start = wide(ram, params, CMD_LINE_PTR, EXT_CMD_LINE_PTR)?;
    let mut line = vec![0; COMMAND_LINE];
    ram.read(start, &mut line)?;
    line.truncate(line.iter().position(|&byte| byte == 0).unwrap_or(COMMAND_LINE));
    let blanked = without_root_pointer(&String::from_utf8(line)?);
    ram.write(start, blanked.as_bytes())
}

/// The same line, with spaces in the place of words.
fn without_root_pointer(line: &str) -> String {
    let blank = |word: &str| {
        if word.starts_with("acpi_rsdp=") { " ".repeat(word.len()) } else { word.to_owned() }
    };
    line.split(' ').map(blank).collect::<Vec<_>>().join(" ")
}

/// Removes EFI's system table, its memory map, and what the loader copied of its tables (SETUP_EFI).
fn forget_efi(ram: &Ram, params: u64) -> Result<()> {
    let efi = ram.read_u64(params + EFI_INFO)?;
    ensure!(efi != 0, "the loader hands over nothing of EFI: nothing is lost");
    (0..EFI_INFO_WORDS).try_for_each(|index| ram.write_u64(params + EFI_INFO + index * 8, 0))?;
    ram.write_u64(params + SETUP_DATA, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_root_pointer_leaves_the_command_line_which_stays_as_long_as_it_was() {
        let line = "elfcorehdr=0x1 acpi_rsdp=0xf0 level=3 acpi_rsdp=1";
        assert_eq!(without_root_pointer(line), "elfcorehdr=0x1                level=3            ");
        assert_eq!(without_root_pointer("a=acpi_rsdp=1 b"), "a=acpi_rsdp=1 b");
    }
}
