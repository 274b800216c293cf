//! The programs that people open dumps with: those installed on this machine, and newer ones for kernels that these
//! do not know.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::guests::archive::{LIBRARIES, LOADER, Suite, unpacked_program};
use crate::guests::initramfs::{Archive, library_paths};
use crate::guests::kernels::Flavour;
use crate::machines::scenario::Codec;
use crate::{paths, process};

/// Where the newer ones come from; each is unpacked with everything that it needs.
///
/// Linux 6.12 keeps a page's type in the top byte of `_mapcount`. makedumpfile 1.7.6, that of Debian 13, takes that for
/// flags, and every page for one of the slab allocator: it leaves out no free page. 1.7.7 and later know it.
const SUITE: Suite = Suite::Testing;
const CRASH: &str = "crash";
const DRGN: &str = "python3-drgn";
const MAKEDUMPFILE: &str = "makedumpfile";

/// Which programs read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Those of this machine: makedumpfile 1.7.2, crash 8.0.2, drgn 0.0.22.
    Installed,
    /// Newer ones: makedumpfile 1.7.8, crash 9.0.2 and drgn 0.3.0.
    Newer(Trees),
}

/// Where the newer ones are unpacked, each in a folder of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trees {
    crash: Option<PathBuf>,
    drgn: PathBuf,
    makedumpfile: PathBuf,
}

impl Readers {
    /// Those that know a kernel and a codec.
    pub(crate) fn of(kernel: Flavour, codec: Codec) -> Result<Self> {
        match (kernel.suite(), codec) {
            // With Linux 7.2 crash 9.0.2 ends while it starts: "invalid structure member offset: module_num_gpl_syms".
            (Suite::Testing, _) => Ok(Self::Newer(Trees { crash: None, ..unpacked()? })),
            // Debian 12 builds makedumpfile without zstd.
            (Suite::Backports, _) | (_, Codec::Zstd) => Ok(Self::Newer(unpacked()?)),
            (Suite::Installed, _) => Ok(Self::Installed),
        }
    }

    /// makedumpfile.
    pub(crate) fn makedumpfile(&self) -> Command {
        match self {
            Self::Installed => Command::new(MAKEDUMPFILE),
            Self::Newer(trees) => unpacked_program(&trees.makedumpfile, MAKEDUMPFILE),
        }
    }

    /// Puts makedumpfile into a guest, with its libraries.
    pub(crate) fn add_makedumpfile(&self, archive: &mut Archive) -> Result<()> {
        let Self::Newer(trees) = self else { return archive.copy_program(MAKEDUMPFILE) };
        let program = trees.makedumpfile.join("usr/bin").join(MAKEDUMPFILE);
        let tree = trees.makedumpfile.join(LIBRARIES);
        let mut list = Command::new(tree.join(LOADER));
        let listed = process::stdout(list.arg("--library-path").arg(&tree).arg("--list").arg(&program))?;
        let libraries = library_paths(&listed);
        for file in libraries.iter().chain([&program, &tree.join(LOADER)]) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            archive.add(&format!("newer/{name}"), &fs::read(file)?);
        }
        let start =
            format!("#!/bin/sh\nexec /newer/{LOADER} --library-path /newer /newer/{MAKEDUMPFILE} \"$@\"\n");
        archive.add(&format!("bin/{MAKEDUMPFILE}"), start.as_bytes());
        Ok(())
    }

    /// `crash`, if there is one that knows the kernel.
    pub(crate) fn crash(&self) -> Option<Command> {
        match self {
            Self::Installed => Some(Command::new("crash")),
            Self::Newer(trees) => trees.crash.as_ref().map(|tree| unpacked_program(tree, "crash")),
        }
    }

    /// Whether makedumpfile loses the last page of a range of RAM that ends within it, as it did up to 1.7.5.
    pub(crate) fn lose_cut_pages(&self) -> bool {
        *self == Self::Installed
    }

    /// drgn, a program in Python.
    pub(crate) fn drgn(&self) -> Command {
        match self {
            Self::Installed => Command::new("drgn"),
            Self::Newer(Trees { drgn, .. }) => {
                let mut python = unpacked_program(drgn, "python3");
                python.env("PYTHONHOME", drgn.join("usr")).arg(drgn.join("usr/bin/drgn"));
                python
            }
        }
    }
}

/// Whether the newer ones are here.
pub(crate) fn are_here() -> bool {
    unpacked().is_ok()
}

/// Downloads and unpacks the newer ones, by lists that are up to date.
pub(crate) fn fetch() -> Result<()> {
    let unpacked = |package| SUITE.unpacked_whole(&[package]);
    let [drgn, makedumpfile] = [unpacked(DRGN)?, unpacked(MAKEDUMPFILE)?];
    let trees = Trees { crash: Some(unpacked(CRASH)?), drgn, makedumpfile };
    fs::write(record(), serde_json::to_string_pretty(&trees)?)?;
    Ok(())
}

fn unpacked() -> Result<Trees> {
    let missing = "the newer readers are not here: `cargo xtask setup` downloads them";
    let trees: Trees = fs::read_to_string(record())
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .context(missing)?;
    let crash = trees.crash.as_ref().context(missing)?;
    let programs = [
        crash.join("usr/bin/crash"),
        trees.drgn.join("usr/bin/drgn"),
        trees.makedumpfile.join("usr/bin/makedumpfile"),
    ];
    ensure!(programs.iter().all(|program| program.is_file()), missing);
    Ok(trees)
}

fn record() -> PathBuf {
    paths::bench().join("readers.json")
}
