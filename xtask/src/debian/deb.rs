//! Makes the Debian package: builds all that is in it, and has cargo-deb pack it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::{TARGET, cargo};
use crate::guests::image::{self, Variant};
use crate::guests::tool::Tool;
use crate::{paths, process};

/// The version of cargo-deb that packs; another may lay out the package in another way.
const CARGO_DEB: &str = "3.8.0";

/// A package that was made.
#[derive(Clone, Debug)]
pub(crate) struct Deb {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
}

/// Builds the capture kernel, the program with it inside, man pages and completions, and makes a package of them.
///
/// The same commit gives the same package: its files have the time of the commit.
pub(crate) fn build() -> Result<Deb> {
    let packer = packer()?;
    // The list of files in holdover/Cargo.toml names these folders.
    let folder = paths::bench().join("package");
    let program = paths::made(folder.join(TARGET).join("release"))?;
    let tool = Tool::build_with(&image::build(Variant::Release)?.path, &program)?;
    let documents = folder.join("documents");
    if documents.exists() {
        fs::remove_dir_all(&documents)?;
    }
    tool.generate(&documents)?;
    pack(&packer, &folder)
}

impl Deb {
    /// Makes a copy of it, in this folder, that dpkg takes for an older version.
    pub(crate) fn aged(&self, folder: &Path) -> Result<PathBuf> {
        let (files, aged) = (folder.join("files"), folder.join("holdover_0.0.1-1_amd64.deb"));
        process::stdout(Command::new("dpkg-deb").arg("--raw-extract").arg(&self.path).arg(&files))?;
        let control = files.join("DEBIAN/control");
        let mut sed = Command::new("sed");
        process::stdout(sed.args(["-i", "s/^Version: .*/Version: 0.0.1-1/"]).arg(control))?;
        let mut pack = Command::new("dpkg-deb");
        process::stdout(
            pack.args(["--root-owner-group", "-Zgzip", "-z1", "--build"]).arg(&files).arg(&aged),
        )?;
        Ok(aged)
    }
}

/// Has cargo-deb make the package of what is built, and returns it.
fn pack(packer: &Path, target: &Path) -> Result<Deb> {
    let folder = target.join("debian");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let mut pack = Command::new(packer);
    pack.args(["--quiet", "--no-build", "--locked", "--package", "holdover", "--target", TARGET, "--output"]);
    pack.arg(paths::made(folder.clone())?).current_dir(paths::repository()).env("CARGO_TARGET_DIR", target);
    if let Some(time) = time_of_commit() {
        pack.env("SOURCE_DATE_EPOCH", time);
    }
    process::run(&mut pack)?;
    let made = fs::read_dir(&folder)?.next().context("cargo-deb made no package")??;
    Ok(Deb { path: made.path(), bytes: made.metadata()?.len() })
}

/// Seconds since 1970 at the last commit; sources without a repository have none.
fn time_of_commit() -> Option<String> {
    let mut log = Command::new("git");
    log.args(["log", "-1", "--format=%ct"]).current_dir(paths::repository());
    process::stdout(&mut log).ok().map(|time| time.trim().to_owned())
}

/// The program of cargo-deb, built first if it is not here.
fn packer() -> Result<PathBuf> {
    let root = paths::bench().join(format!("cargo-deb-{CARGO_DEB}"));
    let program = root.join("bin/cargo-deb");
    if !program.is_file() {
        println!("building cargo-deb {CARGO_DEB}");
        let mut install =
            cargo(&["install", "--quiet", "--locked", "--debug", "--no-default-features", "cargo-deb"]);
        process::run(install.args(["--version", CARGO_DEB, "--root"]).arg(&root))?;
        ensure!(program.is_file(), "cargo installed no {}", program.display());
    }
    Ok(program)
}
