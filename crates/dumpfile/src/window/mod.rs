//! Reads a file through windows: maps one part of it after the other.
//!
//! When a program reads `/proc/vmcore` by read(2), Linux maps each page of the old kernel's memory, copies it, and unmaps it again.
//! A window is mapped once for all of its pages. Files on disks are read by read(2), which is as fast (BENCHMARKS.md) and returns
//! an error where a mapping would end the program.

#[expect(unsafe_code, reason = "the one adapter on the host: what is mapped is no memory of the language's")]
mod mapping;

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use machine::Range;
use rustix::fs::{PROC_SUPER_MAGIC, fstatfs};

use self::mapping::Mapping;

/// Bytes of a window, which begins at a multiple of this.
const WINDOW: u64 = 4 << 20;

/// The windows of a file. Threads share them; each thread uses at most one at a time.
#[derive(Debug)]
pub(crate) struct Windows {
    /// Bytes of the file.
    len: u64,
    /// Windows that no thread uses now.
    idle: Mutex<Vec<Mapping>>,
    /// Whether the file can be mapped, as far as is known.
    works: AtomicBool,
}

impl Windows {
    /// Windows for a file of `len` bytes; `None` if read(2) is as good, as for all files but those of the kernel in `/proc`.
    pub(crate) fn of(file: &File, len: u64) -> Option<Self> {
        let is_the_kernels = fstatfs(file).is_ok_and(|system| system.f_type == PROC_SUPER_MAGIC);
        is_the_kernels.then(|| Self::new(len))
    }

    fn new(len: u64) -> Self {
        Self { len, idle: Mutex::default(), works: true.into() }
    }

    /// Reads from `file`, at `offset`. It may fail where read(2) does not: not all kernels can map all of their files.
    pub(crate) fn read_at(&self, file: &File, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            if offset >= self.len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let window = self.open(file, offset)?;
            let read = window.read(offset, into);
            self.idle().push(window);
            if read == 0 {
                return Err(io::Error::other("a window does not show what it was opened for"));
            }
            (offset, into) = (offset + read as u64, &mut into[read..]);
        }
        Ok(())
    }

    /// Returns a window that shows `offset`: an idle one, or a new one, for which an idle one that shows something else is given up.
    fn open(&self, file: &File, offset: u64) -> io::Result<Mapping> {
        let shows = |window: &Mapping| window.part().contains(offset);
        let idle = {
            let mut idle = self.idle();
            let last = idle.len().checked_sub(1);
            idle.iter().position(shows).or(last).map(|at| idle.swap_remove(at))
        };
        idle.filter(shows).map_or_else(|| self.map(file, offset), Ok)
    }

    fn map(&self, file: &File, offset: u64) -> io::Result<Mapping> {
        if !self.works.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let start = offset - offset % WINDOW;
        let part = Range::new(start, self.len.min(start + WINDOW));
        // After a failure, mapping is not tried again for each page.
        Mapping::new(file, part).inspect_err(|_| self.works.store(false, Ordering::Relaxed))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Mapping>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    /// A file of a little more than two windows, and what is in it.
    fn file() -> (tempfile::NamedTempFile, Vec<u8>) {
        let mut random = fastrand::Rng::with_seed(1);
        let bytes: Vec<u8> =
            std::iter::repeat_with(|| random.u8(..)).take(2 * WINDOW as usize + 5000).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        (file, bytes)
    }

    #[test]
    fn threads_read_what_is_in_the_file() {
        let (file, bytes) = file();
        let windows = Windows::new(bytes.len() as u64);
        thread::scope(|scope| {
            for seed in 0..4 {
                let (windows, file, bytes) = (&windows, file.as_file(), &bytes);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..300 {
                        let start = random.usize(..bytes.len());
                        let mut read = vec![0; random.usize(..=(bytes.len() - start).min(9000))];
                        windows.read_at(file, start as u64, &mut read).unwrap();
                        assert!(read == bytes[start..][..read.len()]);
                    }
                });
            }
        });
        assert!(windows.idle().len() <= 4);
        let mut across = vec![0; bytes.len()];
        windows.read_at(file.as_file(), 0, &mut across).unwrap();
        assert!(across == bytes);
    }

    #[test]
    fn what_is_behind_the_end_is_an_error() {
        let (file, bytes) = file();
        let windows = Windows::new(bytes.len() as u64);
        for (offset, len) in
            [(bytes.len() as u64 - 3, 4), (bytes.len() as u64, 1), (1 << 40, 1), (u64::MAX, 2)]
        {
            let said = windows.read_at(file.as_file(), offset, &mut vec![0; len]).unwrap_err();
            assert_eq!(said.kind(), io::ErrorKind::UnexpectedEof, "{offset:#x}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_mapped_is_found_to_be_one_only_once() {
        let file = File::open("/proc/version").unwrap();
        let windows = Windows::of(&file, 100).unwrap();
        assert!(windows.read_at(&file, 0, &mut [0; 10]).is_err());
        let said = windows.read_at(&file, 0, &mut [0; 10]).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::Unsupported);
        assert!(Windows::of(&tempfile::tempfile().unwrap(), 100).is_none(), "read(2) is as good there");
    }
}
