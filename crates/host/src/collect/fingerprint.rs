//! The checksum of a file: XXH64 of its bytes from first to last, holes as zeros, so that `xxhsum -H1` gives the same.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use twox_hash::XxHash64;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// A checksum in the making.
pub(super) struct Fingerprint {
    hash: XxHash64,
    bytes: u64,
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self { hash: XxHash64::with_seed(0), bytes: 0 }
    }
}

impl Fingerprint {
    /// Adds bytes at an offset that is not before the end of what was added; what lies between is zeros.
    pub(super) fn add_at(&mut self, offset: u64, bytes: &[u8]) {
        self.fill_to(offset);
        self.hash.write(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The checksum of a file of this length, which ends with zeros if less was added.
    pub(super) fn of_length(mut self, length: u64) -> u64 {
        self.fill_to(length);
        self.hash.finish()
    }

    fn fill_to(&mut self, offset: u64) {
        let zeros = [0; 1 << 14];
        while self.bytes < offset {
            let some = (offset - self.bytes).min(zeros.len() as u64);
            self.hash.write(&zeros[..some as usize]);
            self.bytes += some;
        }
    }

    /// Reads a file, and tells how far the reading is.
    pub(super) fn of_file(file: &Path, told: impl Fn(u64)) -> io::Result<u64> {
        let mut file = File::open(file)?;
        let (mut sum, mut buffer) = (Self::default(), vec![0; PIECE]);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(sum.hash.finish());
            }
            sum.add_at(sum.bytes, &buffer[..read]);
            told(sum.bytes);
        }
    }
}

/// Has the next reading of a file that is durable come from its disk, as far as the file system heeds that.
pub(super) fn forget_cached(file: &Path) -> io::Result<()> {
    Ok(fadvise(File::open(file)?, 0, None, Advice::DontNeed)?)
}

/// The checksum of bytes.
pub(super) fn of_bytes(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_in_pieces_has_the_checksum_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dump");
        let mut bytes = vec![0; 200_000];
        bytes[100_000..100_005].copy_from_slice(b"words");
        std::fs::write(&file, &bytes).unwrap();
        let mut copied = Fingerprint::default();
        copied.add_at(100_000, b"words");
        let copied = copied.of_length(200_000);
        assert_eq!(copied, Fingerprint::of_file(&file, |_| ()).unwrap());
        assert_eq!(copied, of_bytes(&bytes));
        bytes[150_000] = 1;
        assert_ne!(copied, of_bytes(&bytes));
    }
}
