//! Builds Holdover's own command line so that it also runs in the guest, which has no libraries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo::{TARGET, cargo};
use crate::guests::initramfs::Archive;
use crate::{paths, process};

/// The built program.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    program: PathBuf,
}

/// What `holdover collect` says of the dump that it copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// Nothing is missing.
    Whole,
    /// It says itself that something is missing.
    Lacking,
}

impl Tool {
    /// Builds it, linked statically.
    pub(crate) fn build() -> Result<Self> {
        let program = compile(&Self::folder(), None)?;
        Ok(Self { program })
    }

    /// Builds it with the capture kernel inside, and puts a copy into this folder. The libraries of both builds are the same.
    pub(crate) fn build_with(image: &Path, into: &Path) -> Result<Self> {
        let program = into.join("holdover");
        fs::copy(compile(&Self::folder(), Some(image))?, &program)?;
        Ok(Self { program })
    }

    /// A target folder of its own: other flags would rebuild everything in the shared one.
    fn folder() -> PathBuf {
        paths::bench().join("tool")
    }

    /// Has it write man pages and completions into a folder.
    pub(crate) fn generate(&self, folder: &Path) -> Result<()> {
        process::stdout(Command::new(&self.program).arg("generate").arg(folder)).map(|_| ())
    }

    /// The program's file.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Puts it into a guest's initial RAM file system.
    pub(crate) fn add_to(&self, archive: &mut Archive) -> Result<()> {
        let program = fs::read(&self.program).with_context(|| format!("no {}", self.program.display()))?;
        archive.add("bin/holdover", &program);
        Ok(())
    }

    /// Makes a disk image a dump area and returns its UUID.
    pub(crate) fn format(&self, disk: &Path) -> Result<String> {
        let mut format = Command::new(&self.program);
        let said = process::stdout(format.args(["--json", "format"]).arg(disk))?;
        let formatted: Value = serde_json::from_str(&said).context("`holdover format` printed no JSON")?;
        Ok(formatted["uuid"].as_str().context("`holdover format` named no UUID")?.to_owned())
    }

    /// Signs a capture kernel.
    pub(crate) fn sign(&self, [key, certificate]: [&Path; 2], image: &Path, out: &Path) -> Result<()> {
        let mut sign = Command::new(&self.program);
        sign.arg("sign").arg("--key").arg(key).arg("--cert").arg(certificate);
        process::stdout(sign.arg("--image").arg(image).arg("--out").arg(out)).map(|_| ())
    }

    /// Makes a dump of an ELF core; returns what it says of it.
    pub(crate) fn makedump(&self, codec: &str, level: &str, core: &Path, dump: &Path) -> Result<Value> {
        let mut makedump = Command::new(&self.program);
        makedump.args(["makedump", "--json", "--force", "--codec", codec, "-d", level]).arg(core).arg(dump);
        Ok(serde_json::from_str(&process::stdout(&mut makedump)?)?)
    }

    /// Makes an ELF core of an ELF core.
    pub(crate) fn make_elf(&self, level: &str, core: &Path, smaller: &Path) -> Result<()> {
        let mut makedump = Command::new(&self.program);
        makedump.args(["makedump", "--force", "--elf", "-d", level]).arg(core).arg(smaller);
        process::stdout(&mut makedump).map(|_| ())
    }

    /// What `holdover inspect --json` prints of a dump: all, or who reaches the page at an address. Whether something is
    /// missing is in it.
    pub(crate) fn inspect(&self, dump: &Path, page: Option<u64>) -> Result<String> {
        let mut inspect = Command::new(&self.program);
        inspect.args(["inspect", "--json"]).arg(dump);
        if let Some(page) = page {
            inspect.args(["--address", &format!("{page:#x}")]);
        }
        let output = inspect.output()?;
        match output.status.code() {
            Some(0 | 3) => Ok(String::from_utf8(output.stdout)?),
            _ => bail!("`holdover inspect`: {}", String::from_utf8_lossy(&output.stderr).trim()),
        }
    }

    /// Makes the page that says what happened.
    pub(crate) fn summary(&self, dump: &Path, page: &Path) -> Result<()> {
        let mut summary = Command::new(&self.program);
        process::stdout(summary.args(["summary", "--force"]).arg(dump).arg(page)).map(|_| ())
    }

    /// The dead kernel's log out of a dump area.
    pub(crate) fn log(&self, disk: &Path) -> Result<String> {
        let mut collect = Command::new(&self.program);
        process::stdout(collect.args(["collect", "--dmesg"]).arg(disk))
    }

    /// Copies the dump out of a dump area.
    pub(crate) fn collect(&self, disk: &Path, dump: &Path) -> Result<Collected> {
        let mut collect = Command::new(&self.program);
        let output = collect.arg("collect").arg(disk).arg(dump).output()?;
        match output.status.code() {
            Some(0) => Ok(Collected::Whole),
            Some(3) => Ok(Collected::Lacking),
            _ => bail!("{}", String::from_utf8_lossy(&output.stderr).trim()),
        }
    }
}

/// Has cargo build the program, with this image inside, and returns its file.
fn compile(folder: &Path, image: Option<&Path>) -> Result<PathBuf> {
    let mut build = cargo(&["build", "--quiet", "--release", "--package", "holdover", "--target", TARGET]);
    build.arg("--target-dir").arg(folder).env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    match image {
        Some(image) => build.env("HOLDOVER_IMAGE", image),
        None => build.env_remove("HOLDOVER_IMAGE"),
    };
    process::run(&mut build)?;
    let program = folder.join(TARGET).join("release/holdover");
    ensure!(program.is_file(), "cargo built no {}", program.display());
    Ok(program)
}
