//! Asks the running Linux to load a crash kernel, or to remove it: the system calls of `kexec(8)`, as safe functions.
//!
//! [`load_crash_kernel`] is `kexec_file_load`: Linux takes the image apart itself, and checks its signature if it wants one. It is
//! the only call that a locked-down Linux permits. [`unload_crash_kernel`] removes what either call has loaded.
//!
//! An error is the one that Linux returned. Often Linux says more in its log ([`kexec_file_load(2)`]).
//!
//! [`kexec_file_load(2)`]: https://man7.org/linux/man-pages/man2/kexec_file_load.2.html
//!
//! ```no_run
//! use std::os::fd::AsFd;
//!
//! let image = std::fs::File::open("capture.bzImage")?;
//! kexec::load_crash_kernel(image.as_fd(), None, c"console=ttyS0")?;
//! kexec::unload_crash_kernel()?;
//! # Ok::<(), std::io::Error>(())
//! ```

#![deny(unsafe_code)]

mod system_call;

use std::ffi::CStr;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::system_call::{kexec_file_load, kexec_load_nothing};

/// `KEXEC_FILE_UNLOAD`: remove what is loaded (Linux, include/uapi/linux/kexec.h, as the next two).
const UNLOAD: libc::c_ulong = 1 << 0;
/// `KEXEC_FILE_ON_CRASH`: the kernel that a panic starts.
const ON_CRASH: libc::c_ulong = 1 << 1;
/// `KEXEC_FILE_NO_INITRAMFS`: the second file is none.
const NO_INITRAMFS: libc::c_ulong = 1 << 2;

/// Has the running kernel load an image, a bzImage, to be started by a panic, and an initramfs if there is one.
///
/// Linux reads the files from their starts. The image must not be open for writing anywhere.
pub fn load_crash_kernel(
    image: BorrowedFd<'_>,
    initramfs: Option<BorrowedFd<'_>>,
    command_line: &CStr,
) -> io::Result<()> {
    let image = image.as_raw_fd();
    match initramfs {
        Some(initramfs) => kexec_file_load(image, initramfs.as_raw_fd(), command_line, ON_CRASH),
        None => kexec_file_load(image, -1, command_line, ON_CRASH | NO_INITRAMFS),
    }
}

/// Has the running kernel remove the image that a panic would start; nothing happens if there is none.
pub fn unload_crash_kernel() -> io::Result<()> {
    match kexec_file_load(-1, -1, c"", UNLOAD | ON_CRASH) {
        // Linux was built without `kexec_file_load`.
        Err(error) if error.kind() == ErrorKind::Unsupported => kexec_load_nothing(),
        result => result,
    }
}
