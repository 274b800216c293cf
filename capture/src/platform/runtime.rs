//! Supplies what compiled Rust needs without an operating system. `copy.rs` has the C functions that compiled code
//! calls.

use core::panic::PanicInfo;

use crate::platform::console::say;
use crate::platform::{clock, exceptions, reset};

/// The first line of Rust: `entry.rs` comes here.
#[unsafe(no_mangle)]
extern "C" fn start(boot_params: u64) -> ! {
    clock::start();
    crate::capture(boot_params);
    say!("reset");
    reset::now()
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let report = || match info.location() {
        Some(place) => say!("panic at {place}: {}", info.message()),
        None => say!("panic: {}", info.message()),
    };
    exceptions::give_up(report, format_args!("a panic"))
}

/// Precompiled code refers to this symbol. Nothing unwinds, so it is never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
