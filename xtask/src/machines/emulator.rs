//! Chooses the QEMU that runs the machine: the installed one, or a newer one that the bench has only unpacked.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::guests::archive::{LIBRARIES, Suite, unpacked_program};
use crate::{paths, process};

const PROGRAM: &str = "qemu-system-x86_64";

/// The packages of a QEMU. The libraries of the one of backports are those of the installed one, which is built for the same
/// release.
const PACKAGES: [&str; 4] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];

/// Where packages have what QEMU reads: firmware, and parts of its own that it loads when it needs them.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];
const PARTS: &str = "qemu";

/// A QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Emulator {
    /// The one of this machine: Debian 12 has 7.2.
    Installed,
    /// The one of backports: 10.0, whose remapping unit has first-stage tables, and x2APIC without KVM.
    Backports,
    /// The one of the release that is in the making: 11.1, whose IOMMU of AMD's is the first by which Linux has DMA translated.
    Testing,
}

/// Where an unpacked one is.
#[derive(Serialize, Deserialize)]
struct Record {
    tree: PathBuf,
}

impl Emulator {
    /// All.
    pub(crate) const ALL: [Self; 3] = [Self::Installed, Self::Backports, Self::Testing];

    /// Its program, told where its own firmware is.
    pub(crate) fn command(self) -> Result<Command> {
        if self == Self::Installed {
            return Ok(Command::new(PROGRAM));
        }
        let tree = self.unpacked()?;
        let mut command = match self {
            Self::Testing => unpacked_program(&tree, PROGRAM),
            _ => Command::new(tree.join("usr/bin").join(PROGRAM)),
        };
        command.env("QEMU_MODULE_DIR", tree.join(LIBRARIES).join(PARTS));
        for firmware in FIRMWARE {
            command.arg("-L").arg(tree.join(firmware));
        }
        Ok(command)
    }

    /// Its version, in its own words.
    pub(crate) fn version(self) -> Result<String> {
        let said = process::stdout(self.command()?.arg("--version"))?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// Whose packages it is made of.
    pub(crate) fn suite(self) -> Suite {
        match self {
            Self::Installed => Suite::Installed,
            Self::Backports => Suite::Backports,
            Self::Testing => Suite::Testing,
        }
    }

    /// Whether it is here.
    pub(crate) fn is_here(self) -> bool {
        self == Self::Installed || self.unpacked().is_ok()
    }

    /// Downloads and unpacks it. The one of another release comes with everything that it needs.
    pub(crate) fn fetch(self) -> Result<()> {
        let tree = match self {
            Self::Installed => return Ok(()),
            Self::Backports => self.suite().unpacked_together(&PACKAGES, &[])?,
            Self::Testing => self.suite().unpacked_whole(&PACKAGES)?,
        };
        fs::write(self.record(), serde_json::to_string_pretty(&Record { tree })?)?;
        Ok(())
    }

    fn unpacked(self) -> Result<PathBuf> {
        let missing = "a newer QEMU is not here: `cargo xtask setup` downloads it";
        let Record { tree } = serde_json::from_str(&fs::read_to_string(self.record()).context(missing)?)?;
        ensure!(tree.join("usr/bin").join(PROGRAM).is_file(), missing);
        Ok(tree)
    }

    fn record(self) -> PathBuf {
        let name = if self == Self::Testing { "emulator-testing.json" } else { "emulator.json" };
        paths::bench().join(name)
    }
}
