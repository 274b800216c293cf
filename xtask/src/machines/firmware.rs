//! The machine's firmware: the one that QEMU brings along, or UEFI, which the bench has only unpacked.

use std::fs;
use std::path::{Path, PathBuf};
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
/// The same for Secure Boot: the variables trust one key, which is for tests and so known to everybody.
const SECURE_CODE: &str = "./usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const SECURE_VARIABLES: &str = "./usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
/// And those that trust Microsoft's keys, as those of a machine that one buys.
const MICROSOFTS_VARIABLES: &str = "./usr/share/OVMF/OVMF_VARS_4M.ms.fd";
const SECURE_KEY: &str = "./usr/share/ovmf/PkKek-1-snakeoil.key";
const SECURE_CERTIFICATE: &str = "./usr/share/ovmf/PkKek-1-snakeoil.pem";
/// All of them.
const FILES: [&str; 7] =
    [CODE, VARIABLES, SECURE_CODE, SECURE_VARIABLES, MICROSOFTS_VARIABLES, SECURE_KEY, SECURE_CERTIFICATE];

/// The password of the key.
pub(crate) const KEY_PASSWORD: &str = "snakeoil";

/// Firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Firmware {
    /// SeaBIOS. The boot loader in QEMU starts Linux.
    Bios,
    /// OVMF. Linux' own EFI stub starts Linux.
    Uefi,
    /// OVMF with Secure Boot, for which Linux locks itself down. QEMU hands the kernel over in a way that is not checked.
    SecureBoot,
}

/// Where the unpacked one is.
#[derive(Serialize, Deserialize)]
struct Record {
    tree: PathBuf,
}

/// A private key and its certificate.
pub(crate) struct TrustedKey {
    /// The key's file; its password is [`KEY_PASSWORD`].
    pub(crate) key: PathBuf,
    /// The certificate's file.
    pub(crate) certificate: PathBuf,
}

impl Firmware {
    /// Has QEMU start with it. Each machine gets variables of its own, which it may write.
    pub(crate) fn add_to(self, command: &mut Command, files: &Files) -> Result<()> {
        let initial = match self {
            Self::Bios => return Ok(()),
            Self::Uefi => VARIABLES,
            Self::SecureBoot => SECURE_VARIABLES,
        };
        let variables = files.scratch("uefi-variables");
        fs::copy(unpacked()?.join(initial), &variables).context("cannot copy the firmware's variables")?;
        if self == Self::SecureBoot {
            return add_secure_boot(command, &variables);
        }
        add_flash(command, CODE, &variables)
    }

    /// What it needs of the board.
    pub(crate) fn machine_options(self) -> &'static str {
        if self == Self::SecureBoot { ",smm=on" } else { "" }
    }
}

/// Has QEMU start with the firmware with Secure Boot, and a file of variables that it may write. The board must have what
/// [`Firmware::machine_options`] says.
pub(crate) fn add_secure_boot(command: &mut Command, variables: &Path) -> Result<()> {
    // Only system management mode may write the variables.
    command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
    command.args(["-global", "ICH9-LPC.disable_s3=1"]);
    add_flash(command, SECURE_CODE, variables)
}

fn add_flash(command: &mut Command, code: &str, variables: &Path) -> Result<()> {
    let code = unpacked()?.join(code);
    for (unit, file, more) in [(0, code.as_path(), ",readonly=on"), (1, variables, "")] {
        let file = file.display();
        command.args(["-drive", &format!("if=pflash,unit={unit},format=raw,file={file}{more}")]);
    }
    Ok(())
}

/// The variables of a new machine that trusts Microsoft's keys.
pub(crate) fn microsofts_variables() -> Result<PathBuf> {
    Ok(unpacked()?.join(MICROSOFTS_VARIABLES))
}

/// The key that the firmware with Secure Boot trusts.
pub(crate) fn trusted_key() -> Result<TrustedKey> {
    let tree = unpacked()?;
    Ok(TrustedKey { key: tree.join(SECURE_KEY), certificate: tree.join(SECURE_CERTIFICATE) })
}

/// Whether UEFI is here.
pub(crate) fn is_here() -> bool {
    unpacked().is_ok()
}

/// Downloads and unpacks UEFI.
pub(crate) fn fetch() -> Result<()> {
    let tree = Suite::Installed.unpacked_anew(PACKAGE, &FILES)?;
    fs::write(record(), serde_json::to_string_pretty(&Record { tree })?)?;
    Ok(())
}

fn unpacked() -> Result<PathBuf> {
    let missing = "UEFI is not here: `cargo xtask setup` downloads it";
    let Record { tree } = serde_json::from_str(&fs::read_to_string(record()).context(missing)?)?;
    ensure!(FILES.iter().all(|file| tree.join(file).is_file()), missing);
    Ok(tree)
}

fn record() -> PathBuf {
    paths::bench().join("firmware.json")
}
