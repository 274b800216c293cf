//! The capture kernel's image that `build.rs` put into this program.

/// What `--version` tells besides the version.
pub(crate) const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), ", ", env!("HOLDOVER_INSIDE"));

/// The image, empty if the program was built without one.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/image"));

/// The image, if the program was built with one.
pub(crate) fn image() -> Option<&'static [u8]> {
    (!IMAGE.is_empty()).then_some(IMAGE)
}
