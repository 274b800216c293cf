//! Holes of files: bytes that were never written, which read as zeros.

use std::fs::File;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Where the first byte at or after `offset` is that is in no hole: `u64::MAX` if there is none, `offset` if the file system does
/// not know.
pub fn next_data(file: &File, offset: u64) -> u64 {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data,
        Err(Errno::NXIO) => u64::MAX,
        Err(_) => offset,
    }
}
