//! The system calls. Of the crates that load, only this module has `unsafe`.

#![expect(unsafe_code, reason = "libc has no function for these system calls")]

use std::ffi::{CStr, c_int, c_long, c_ulong};
use std::{io, ptr};

/// `KEXEC_ON_CRASH` of `kexec_load`: the kernel that a panic starts.
const ON_CRASH: c_ulong = 1 << 0;

/// Calls `kexec_file_load`; a file that is none is -1.
pub(crate) fn kexec_file_load(
    image: c_int,
    initramfs: c_int,
    command_line: &CStr,
    flags: c_ulong,
) -> io::Result<()> {
    let length = command_line.count_bytes() + 1;
    // SAFETY: Linux reads `length` bytes of the command line, its zero included, during the call, and writes no memory of this
    // process. What is no open file is an error.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            image,
            initramfs,
            length as c_ulong,
            command_line.as_ptr(),
            flags,
        )
    };
    checked(result)
}

/// Calls `kexec_load` with no segments, which removes the crash kernel.
pub(crate) fn kexec_load_nothing() -> io::Result<()> {
    let (entry, segments): (c_ulong, c_ulong) = (0, 0);
    // SAFETY: of no segments Linux reads none, so that the null pointer is not followed.
    let result = unsafe { libc::syscall(libc::SYS_kexec_load, entry, segments, ptr::null::<u8>(), ON_CRASH) };
    checked(result)
}

fn checked(result: c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
