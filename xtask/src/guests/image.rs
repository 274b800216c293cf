//! Builds the capture kernel without an operating system, and wraps it into a bzImage.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::bzimage;
use crate::cargo::{TARGET, cargo, target_folder};
use crate::process;

/// The image that people load may be no larger than this many bytes.
const LARGEST: u64 = 640 << 10;

/// Only functions half as large as usual are copied into their callers: the image is an eighth smaller, and the dump as fast.
const INLINE_LESS: &str = "-Cllvm-args=-inline-threshold=100";

/// Which of the capture kernel's builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variant {
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
pub(crate) fn build(variant: Variant) -> Result<Image> {
    let name = match variant {
        Variant::Release => "capture",
        Variant::Mutations => "capture-mutations",
    };
    let folder = target_folder().join(name);
    let elf = compile(variant, &folder)?;
    let image = bzimage::wrap(&fs::read(&elf).with_context(|| format!("reading {}", elf.display()))?)?;
    let bytes = image.len() as u64;
    let is_bounded = variant == Variant::Release;
    ensure!(!is_bounded || bytes <= LARGEST, "the image has {bytes} bytes, more than {LARGEST}");
    let path = folder.join("holdover.bzImage");
    // What has it inside is built again only if it changed.
    if !fs::read(&path).is_ok_and(|former| former == image) {
        fs::write(&path, image).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(Image { path, bytes })
}

/// Runs cargo in a target folder of its own, because other flags would rebuild everything in the shared one.
///
/// The same source builds for `x86_64-unknown-none`.
fn compile(variant: Variant, folder: &Path) -> Result<PathBuf> {
    let mut flags = vec!["--cfg", "freestanding", INLINE_LESS];
    if variant == Variant::Mutations {
        flags.extend(["--cfg", "mutations"]);
    }
    let mut build = cargo(&["build", "--quiet", "--release", "--package", "capture", "--target", TARGET]);
    build.arg("--target-dir").arg(folder).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    process::run(&mut build).context("the capture kernel does not build")?;
    Ok(folder.join(TARGET).join("release/capture"))
}
