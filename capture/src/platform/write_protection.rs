//! The one write to the dead kernel's memory, which is mapped read-only: 16 bytes of a table or a ring that hardware goes on using where
//! it is.

use core::arch::asm;
use core::arch::x86_64::{_mm_clflush, _mm_mfence};
use core::sync::atomic::{AtomicU64, Ordering};

/// How often the store is tried, while devices change the same bytes.
const TRIES: usize = 64;

/// Stores `value` at `address` in one access of 128 bits, past the write protection of the page tables, and writes it back to memory.
/// Returns whether it was stored: devices may change the same bytes each time that this tries.
///
/// # Safety
///
/// `address` is a multiple of 16, mapped, and nothing of this program's is there.
#[must_use]
pub(crate) unsafe fn store_past(address: u64, value: u128) -> bool {
    let protection = Lifted::now();
    // SAFETY: the caller's promise; every processor that has a remapping unit beside it has the instruction.
    let is_stored = exchange(unsafe { load(address) }, |expected| unsafe {
        compare_and_exchange(address, expected, value)
    });
    drop(protection);
    // SAFETY: the same line, by instructions that every x86-64 processor has; they change no memory.
    unsafe {
        _mm_clflush(address as *const u8);
        _mm_mfence();
    }
    is_stored
}

/// What is there, perhaps half of it older than the other half.
///
/// # Safety
///
/// As for [`store_past`].
unsafe fn load(address: u64) -> u128 {
    let word = |offset: u64| {
        // SAFETY: the caller's promise; atomic because devices may be writing it.
        unsafe { AtomicU64::from_ptr((address + offset) as *mut u64) }.load(Ordering::Relaxed)
    };
    u128::from(word(8)) << 64 | u128::from(word(0))
}

/// Exchanges what is expected to be there, at first `expected`, for something else, by `exchange_for`, which returns what was there.
/// Returns whether one of [`TRIES`] found what it expected.
fn exchange(mut expected: u128, mut exchange_for: impl FnMut(u128) -> u128) -> bool {
    for _ in 0..TRIES {
        let found = exchange_for(expected);
        if found == expected {
            return true;
        }
        expected = found;
    }
    false
}

/// Stores `new` if `expected` is there; returns what was there. By the instruction itself: what the compiler makes of an atomic of 16
/// bytes is a call of a library.
///
/// # Safety
///
/// As for [`store_past`]; and it can be written.
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
        assert!(unsafe { store_past(address + 16, 5 << 64 | 4) });
        assert_eq!(line.0, [7, 7, 4, 5, 7, 7, 7, 7]);
    }

    /// A device that writes the same bytes all the time is not waited for.
    #[test]
    fn a_store_ends_whatever_devices_write_meanwhile() {
        let there_with = |changes: usize| {
            let (mut there, mut left) = (0, changes);
            move |_| {
                (there, left) = (there + u128::from(left > 0), left.saturating_sub(1));
                there
            }
        };
        assert!(exchange(0, there_with(TRIES - 1)));
        assert!(!exchange(0, there_with(TRIES)));
    }
}
