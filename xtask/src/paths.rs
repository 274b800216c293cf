//! Where things are: the repository, and the bench's folder in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the checkout that this program was built from.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// `target/bench`: kernel packages and what was unpacked from them; everything in it can be made again.
pub(crate) fn bench() -> PathBuf {
    repository().join("target/bench")
}

/// Makes `dir` and the folders above it, and returns it.
pub(crate) fn made(dir: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    Ok(dir)
}
