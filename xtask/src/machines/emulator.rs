//! Chooses the QEMU that runs the machine: the installed one, or a newer one that the bench has only unpacked.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::guests::archive::Suite;
use crate::{paths, process};

const PROGRAM: &str = "qemu-system-x86_64";

/// The newer QEMU's packages. Their other libraries are those of the installed one, which is built for the same release.
const PACKAGES: [&str; 4] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];

/// A QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Emulator {
    /// The one of this machine: Debian 12 has 7.2.
    Installed,
    /// The one of backports: 10.0, whose remapping unit has first-stage tables, and x2APIC without KVM.
    Backports,
}

/// Where the unpacked one is.
#[derive(Serialize, Deserialize)]
struct Record {
    tree: PathBuf,
}

impl Emulator {
    /// Its program, told where its own firmware is.
    pub(crate) fn command(self) -> Result<Command> {
        if self == Self::Installed {
            return Ok(Command::new(PROGRAM));
        }
        let tree = unpacked()?;
        let mut command = Command::new(tree.join("usr/bin").join(PROGRAM));
        command.env("QEMU_MODULE_DIR", tree.join("usr/lib/x86_64-linux-gnu/qemu"));
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(tree.join(firmware));
        }
        Ok(command)
    }

    /// Its version, in its own words.
    pub(crate) fn version(self) -> Result<String> {
        let said = process::stdout(self.command()?.arg("--version"))?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }
}

/// Whether the newer QEMU is here.
pub(crate) fn is_here() -> bool {
    unpacked().is_ok()
}

/// Downloads and unpacks the newer QEMU.
pub(crate) fn fetch() -> Result<()> {
    let tree = Suite::Backports.unpacked_together(&PACKAGES, &[])?;
    fs::write(record(), serde_json::to_string_pretty(&Record { tree })?)?;
    Ok(())
}

fn unpacked() -> Result<PathBuf> {
    let missing = "the newer QEMU is not here: `cargo xtask setup` downloads it";
    let Record { tree } = serde_json::from_str(&fs::read_to_string(record()).context(missing)?)?;
    ensure!(tree.join("usr/bin").join(PROGRAM).is_file(), missing);
    Ok(tree)
}

fn record() -> PathBuf {
    paths::bench().join("emulator.json")
}
