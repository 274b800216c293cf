//! The capture kernel's image that `build.rs` put into this program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What `--version` tells besides the version.
pub(crate) const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), ", ", env!("HOLDOVER_INSIDE"));

/// The image, empty if the program was built without one.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/image"));

/// Where the image goes to be loaded: a file that ends with the boot, as what was loaded does.
const UNPACKED: &str = "/run/holdover/capture.bzImage";

/// The image, if the program was built with one.
pub(crate) fn image() -> Option<&'static [u8]> {
    (!IMAGE.is_empty()).then_some(IMAGE)
}

/// Writes the image to a file, and returns its path.
pub(crate) fn unpack() -> Result<PathBuf> {
    let image = image().context("this holdover was built with no image inside; name one with --image")?;
    let path = Path::new(UNPACKED);
    let unfinished = path.with_extension("unfinished");
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&unfinished, image))
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write {UNPACKED}"))?;
    Ok(path.to_owned())
}
