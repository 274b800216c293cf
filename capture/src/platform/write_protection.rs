//! The one write to the dead kernel's memory, which is mapped read-only: 16 bytes of a table or a ring that hardware goes on using where
//! it is.

use core::arch::asm;
use core::arch::x86_64::{_mm_clflush, _mm_mfence};
use core::sync::atomic::{AtomicU64, Ordering};

/// How often the store is tried, while devices change the same bytes.
const TRIES: usize = 64;

/// Stores `value` at `address` in one access of 128 bits, past the write protection of the page tables, and writes it back to memory.
///
/// # Safety
///
/// `address` is a multiple of 16, mapped, and nothing of this program's is there.
pub(crate) unsafe fn store_past(address: u64, value: u128) {
    let protection = Lifted::now();
    // SAFETY: the caller's promise; every processor that has a remapping unit beside it has the instruction.
    unsafe { exchange(address, value) };
    drop(protection);
    // SAFETY: the same line, by instructions that every x86-64 processor has; they change no memory.
    unsafe {
        _mm_clflush(address as *const u8);
        _mm_mfence();
    }
}

/// # Safety
///
/// As for [`store_past`]; and it can be written.
unsafe fn exchange(address: u64, value: u128) {
    let word = |offset: u64| {
        // SAFETY: the caller's promise; atomic because devices may be writing it.
        unsafe { AtomicU64::from_ptr((address + offset) as *mut u64) }.load(Ordering::Relaxed)
    };
    let mut expected = u128::from(word(8)) << 64 | u128::from(word(0));
    for _ in 0..TRIES {
        // SAFETY: the caller's promise.
        let found = unsafe { compare_and_exchange(address, expected, value) };
        if found == expected {
            return;
        }
        expected = found;
    }
}

/// Stores `new` if `expected` is there; returns what was there. By the instruction itself: what the compiler makes of an atomic of 16
/// bytes is a call of a library.
///
/// # Safety
///
/// As for [`exchange`].
unsafe fn compare_and_exchange(address: u64, expected: u128, new: u128) -> u128 {
    let (mut low, mut high) = (expected as u64, (expected >> 64) as u64);
    // SAFETY: the caller's promise. RBX is the compiler's, and is as it was afterwards.
    unsafe {
        asm!(
            "xchg rbx, rsi",
            "lock cmpxchg16b [rdi]",
            "mov rbx, rsi",
            in("rdi") address,
            inout("rsi") new as u64 => _,
            in("rcx") (new >> 64) as u64,
            inout("rax") low,
            inout("rdx") high,
            options(nostack),
        );
    }
    u128::from(high) << 64 | u128::from(low)
}

/// The processor ignores the write protection of pages while this lives. Nothing interrupts this kernel but what ends it.
struct Lifted;

impl Lifted {
    #[cfg(freestanding)]
    fn now() -> Self {
        use x86_64::registers::control::{Cr0, Cr0Flags};
        // SAFETY: only the store that follows is freed by it. Shadow stacks, which need the bit, are off (`entry.rs`).
        unsafe { Cr0::update(|flags| flags.remove(Cr0Flags::WRITE_PROTECT)) };
        Self
    }

    #[cfg(not(freestanding))]
    fn now() -> Self {
        Self
    }
}

impl Drop for Lifted {
    fn drop(&mut self) {
        #[cfg(freestanding)]
        {
            use x86_64::registers::control::{Cr0, Cr0Flags};
            // SAFETY: as it was.
            unsafe { Cr0::update(|flags| flags.insert(Cr0Flags::WRITE_PROTECT)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bytes_are_stored_and_no_others() {
        #[repr(C, align(64))]
        struct Line([u64; 8]);
        let mut line = Line([7; 8]);
        let address = line.0.as_mut_ptr() as u64;
        // SAFETY: four words in the middle of the line, aligned.
        unsafe { store_past(address + 16, 5 << 64 | 4) };
        assert_eq!(line.0, [7, 7, 4, 5, 7, 7, 7, 7]);
    }
}
