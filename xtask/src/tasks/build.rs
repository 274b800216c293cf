//! Building the capture kernel: one `cargo build` without an operating system, wrapped into a bzImage.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::guests::bzimage;
use crate::guests::tool::Tool;
use crate::paths;

/// Builds what a host needs: the capture kernel's image and the holdover tool
#[derive(Args)]
pub(crate) struct Build {}

impl Build {
    /// Builds both and says where they are.
    #[expect(clippy::unused_self, reason = "every task is run in the same way")]
    pub(crate) fn run(&self) -> Result<()> {
        let image = image(Flavor::Release)?;
        println!("image  {} ({} bytes)", image.path.display(), image.bytes);
        println!("tool   {}", Tool::build()?.program().display());
        Ok(())
    }
}

/// The image may be no larger than this many bytes.
pub(crate) const LARGEST_IMAGE: u64 = 512 << 10;

/// What it is built for: this toolchain has its precompiled libraries, and everybody has this toolchain. The same source
/// builds for `x86_64-unknown-none`.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Which of the capture kernel's builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flavor {
    /// The one that people load.
    #[default]
    Release,
    /// The one that can be told to make mistakes, for tests of those who are to notice.
    Mutations,
}

/// A bzImage that was built.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
}

/// Builds the capture kernel and wraps it into a bzImage under `target/`.
pub(crate) fn image(flavor: Flavor) -> Result<Image> {
    let name = match flavor {
        Flavor::Release => "capture",
        Flavor::Mutations => "capture-mutations",
    };
    let folder = target_folder().join(name);
    let elf = compile(flavor, &folder)?;
    let image = bzimage::wrap(&std::fs::read(&elf).with_context(|| format!("reading {}", elf.display()))?)?;
    let bytes = image.len() as u64;
    ensure!(bytes <= LARGEST_IMAGE, "the image has {bytes} bytes, more than {LARGEST_IMAGE}");
    let path = folder.join("holdover.bzImage");
    std::fs::write(&path, image).with_context(|| format!("writing {}", path.display()))?;
    Ok(Image { path, bytes })
}

/// Runs cargo in a target folder of its own, because other flags would rebuild everything in the shared one.
fn compile(flavor: Flavor, folder: &Path) -> Result<PathBuf> {
    let mut flags = vec!["--cfg", "freestanding"];
    if flavor == Flavor::Mutations {
        flags.extend(["--cfg", "mutations"]);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "capture", "--target", TARGET, "--target-dir"])
        .arg(folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .current_dir(paths::repository())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the capture kernel does not build");
    Ok(folder.join(TARGET).join("release/capture"))
}

pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| paths::repository().join("target"), PathBuf::from)
}
