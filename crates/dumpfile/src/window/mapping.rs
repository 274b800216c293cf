//! Maps parts of files for reading. Of the modules for the host, only this one has `unsafe`.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};

use machine::Range;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A part of a file in this program's memory.
///
/// Its content may change at any time, because devices may still write to a dead kernel's memory. So there is no reference to it: it
/// is only copied.
#[derive(Debug)]
pub(crate) struct Mapping {
    part: Range<u64>,
    start: NonNull<u8>,
}

/// Eight bytes that begin anywhere.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Eight(u64);

// SAFETY: the mapping belongs to the value and to no thread, and nobody writes through it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `part` of a file, which begins with one of the host's pages.
    ///
    /// A file that others cut short afterwards ends the program when it is read where nothing is left (SIGBUS).
    pub(crate) fn new(file: &File, part: Range<u64>) -> io::Result<Self> {
        let len = usize::try_from(part.len()).unwrap_or(0);
        // SAFETY: at an address that Linux chooses, the new mapping replaces none that is in use.
        let start =
            unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, file, part.start)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(Self { part, start })
    }

    /// Which bytes of the file it has.
    pub(crate) fn part(&self) -> Range<u64> {
        self.part
    }

    /// Copies from `offset` of the file on, as far as the part and `into` go; returns how many bytes that are.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        if !self.part.contains(offset) {
            return 0;
        }
        let len = into.len().min((self.part.end - offset) as usize);
        let (eights, rest) = into[..len].as_chunks_mut::<8>();
        let tail = eights.len() * 8;
        // SAFETY: `offset` and the `len` bytes behind it are within the part, all of which is mapped as long as `self` lives.
        // Volatile, because it may change meanwhile.
        unsafe {
            let from = self.start.add((offset - self.part.start) as usize);
            for (at, eight) in eights.iter_mut().enumerate() {
                let Eight(read) = from.cast::<Eight>().add(at).read_volatile();
                *eight = read.to_ne_bytes();
            }
            for (at, byte) in rest.iter_mut().enumerate() {
                *byte = from.add(tail + at).read_volatile();
            }
        }
        len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference to what is mapped, and nobody can copy from it any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast::<c_void>(), self.part.len() as usize) };
        debug_assert!(unmapped.is_ok());
    }
}
