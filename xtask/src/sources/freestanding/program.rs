//! A program without an operating system, without a C library and without a heap. It is linked and never run.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    loop {}
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    loop {}
}

struct NoHeap;

#[global_allocator]
static NO_HEAP: NoHeap = NoHeap;

// SAFETY: no memory is handed out.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// Declares functions that compiled Rust calls, and that a program that uses the crates must supply.
macro_rules! brought_by_the_taker {
    ($($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            loop {}
        }
    )* };
}

brought_by_the_taker! { memcpy memmove memset memcmp bcmp strlen }
// Named by the precompiled `core` and `alloc`, which were built to unwind.
brought_by_the_taker! { rust_eh_personality _Unwind_Resume }
