//! The programs that people open dumps with: those of this machine, and newer ones for kernels that these do not know.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::archive::Suite;
use crate::kernels::Flavour;
use crate::paths;

/// The newer ones, unpacked with everything that they need.
const PACKAGES: [&str; 2] = ["python3-drgn", "makedumpfile"];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Which programs read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Those of this machine: makedumpfile 1.7.2, crash 8.0.2, drgn 0.0.22.
    Installed,
    /// Those of the next release in this folder: makedumpfile 1.7.6 and drgn 0.0.31. (crash 8.0.2 does not open a dump of
    /// Linux 6.12.)
    Next(PathBuf),
}

/// Where the unpacked ones are.
#[derive(Serialize, Deserialize)]
struct Record {
    tree: PathBuf,
}

impl Readers {
    /// Those that know a kernel.
    pub(crate) fn of(kernel: Flavour) -> Result<Self> {
        match kernel {
            Flavour::Amd64 | Flavour::Cloud => Ok(Self::Installed),
            Flavour::Backports => Ok(Self::Next(unpacked()?)),
        }
    }

    /// makedumpfile.
    pub(crate) fn makedumpfile(&self) -> Command {
        self.program("makedumpfile")
    }

    /// Whether makedumpfile finds out which pages are free: 1.7.6 keeps all of Linux 6.12's, and says that it does not know it.
    pub(crate) fn find_free_pages(&self) -> bool {
        *self == Self::Installed
    }

    /// drgn, a program in Python.
    pub(crate) fn drgn(&self) -> Command {
        match self {
            Self::Installed => Command::new("drgn"),
            Self::Next(tree) => {
                let mut python = self.program("python3");
                python.env("PYTHONHOME", tree.join("usr")).arg(tree.join("usr/bin/drgn"));
                python
            }
        }
    }

    /// An unpacked program runs by its own loader, with its own libraries.
    fn program(&self, name: &str) -> Command {
        match self {
            Self::Installed => Command::new(name),
            Self::Next(tree) => {
                let libraries = tree.join(LIBRARIES);
                let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
                command.arg("--library-path").arg(libraries).arg(tree.join("usr/bin").join(name));
                command
            }
        }
    }
}

/// Whether the newer ones are here.
pub(crate) fn are_here() -> bool {
    unpacked().is_ok()
}

/// Downloads and unpacks the newer ones.
pub(crate) fn fetch() -> Result<()> {
    Suite::Next.update()?;
    let tree = Suite::Next.unpacked_whole(&PACKAGES)?;
    fs::write(record(), serde_json::to_string_pretty(&Record { tree })?)?;
    Ok(())
}

fn unpacked() -> Result<PathBuf> {
    let missing = "the newer readers are not here: `cargo xtask setup` downloads them";
    let Record { tree } = serde_json::from_str(&fs::read_to_string(record()).context(missing)?)?;
    ensure!(tree.join(Path::new("usr/bin/drgn")).is_file(), missing);
    Ok(tree)
}

fn record() -> PathBuf {
    paths::bench().join("readers.json")
}
