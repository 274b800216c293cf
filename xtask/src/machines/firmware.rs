//! The machine's firmware: the one that QEMU brings along, or UEFI, which the bench has only unpacked.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::guests::archive::Suite;
use crate::machines::files::Files;
use crate::paths;

const PACKAGE: &str = "ovmf";
/// Its files: the program, and what its variables are when the machine is new.
const CODE: &str = "./usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "./usr/share/OVMF/OVMF_VARS_4M.fd";

/// Firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Firmware {
    /// SeaBIOS. The boot loader in QEMU starts Linux.
    Bios,
    /// OVMF. Linux' own EFI stub starts Linux.
    Uefi,
}

/// Where the unpacked one is.
#[derive(Serialize, Deserialize)]
struct Record {
    tree: PathBuf,
}

impl Firmware {
    /// Has QEMU start with it. Each machine gets variables of its own, which it may write.
    pub(crate) fn add_to(self, command: &mut Command, files: &Files) -> Result<()> {
        if self == Self::Bios {
            return Ok(());
        }
        let tree = unpacked()?;
        let variables = files.scratch("uefi-variables");
        fs::copy(tree.join(VARIABLES), &variables).context("cannot copy the firmware's variables")?;
        for (unit, file, more) in [(0, tree.join(CODE), ",readonly=on"), (1, variables, "")] {
            let file = file.display();
            command.args(["-drive", &format!("if=pflash,unit={unit},format=raw,file={file}{more}")]);
        }
        Ok(())
    }
}

/// Whether UEFI is here.
pub(crate) fn is_here() -> bool {
    unpacked().is_ok()
}

/// Downloads and unpacks UEFI.
pub(crate) fn fetch() -> Result<()> {
    let tree = Suite::Installed.unpacked(PACKAGE, &[CODE, VARIABLES])?;
    fs::write(record(), serde_json::to_string_pretty(&Record { tree })?)?;
    Ok(())
}

fn unpacked() -> Result<PathBuf> {
    let missing = "UEFI is not here: `cargo xtask setup` downloads it";
    let Record { tree } = serde_json::from_str(&fs::read_to_string(record()).context(missing)?)?;
    ensure!([CODE, VARIABLES].iter().all(|file| tree.join(file).is_file()), missing);
    Ok(tree)
}

fn record() -> PathBuf {
    paths::bench().join("firmware.json")
}
