//! Pins a file: as long as a part of it is swap space, Linux refuses to write, cut, share, move or remove it. There is no other pin.
//!
//! The swap space is only one page in the head of the file, which Linux fills last of all; the dump area follows the head.
//!
//! An immutable file (`chattr +i`) would be a second pin, against `rm` after `swapoff`. But Linux refuses swapoff of a file that is
//! immutable, so that its file system could not be unmounted when the machine is shut down.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use uuid::Uuid;

use super::FileError;

/// Bytes of the file in front of the dump area.
pub(crate) const HEAD: u64 = 64 << 10;
/// Bytes of a page.
const PAGE: usize = 4096;
/// The swap space's name, and where it is in the first page.
const NAME: &[u8; 8] = b"holdover";
const NAME_AT: usize = 1052;

/// The first page of a swap space of one page: the header as Linux defines it (`union swap_header`, version 1).
pub(super) fn header(uuid: Uuid) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    page[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
    // The number of the last page.
    page[1028..1032].copy_from_slice(&1_u32.to_le_bytes());
    page[1036..1052].copy_from_slice(uuid.as_bytes());
    page[NAME_AT..][..NAME.len()].copy_from_slice(NAME);
    page[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}

/// Whether the file begins with such a page, whatever follows.
pub(super) fn has_header(path: &Path) -> bool {
    let mut name = [0; NAME.len()];
    let read = fs::File::open(path).and_then(|file| file.read_exact_at(&mut name, NAME_AT as u64));
    read.is_ok() && name == *NAME
}

/// Whether the file is swap space that is in use.
pub(super) fn is_pinned(path: &Path) -> bool {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let same = |other: &Path| match (path.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    };
    swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).any(|name| {
        // Blanks in names are written in octal.
        same(Path::new(&name.replace("\\040", " ")))
    })
}

/// Pins the file, if it is not pinned yet.
pub(super) fn pin(path: &Path) -> Result<(), FileError> {
    if is_pinned(path) {
        return Ok(());
    }
    run("swapon", path)
}

/// Takes the pin off.
pub(super) fn unpin(path: &Path) -> Result<(), FileError> {
    if !is_pinned(path) {
        return Ok(());
    }
    run("swapoff", path)
}

fn run(tool: &'static str, path: &Path) -> Result<(), FileError> {
    let output = Command::new(tool).arg(path).output().map_err(FileError::NoSwapon)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(FileError::Pin { path: path.to_owned(), said })
}
