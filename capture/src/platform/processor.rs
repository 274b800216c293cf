//! Turns off what the dead kernel left on in the processor. `entry.rs` has put the control registers in order by then.

use core::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};

use capture::platform::leftovers::leftovers;

use crate::platform::msr;

/// Clears the registers that would slow or disturb this kernel, or let the processor write to the dead kernel's memory.
pub(crate) fn turn_off_leftovers() {
    for register in leftovers(cpuid) {
        // SAFETY: zero turns a facility of the processor off, and none of them is this kernel's. A processor that refuses it
        // does not have the register, whatever CPUID says.
        let _ = unsafe { msr::try_write(register as u32, 0) };
    }
}

/// Subleaf 0 of a leaf; zero if the processor does not have the leaf.
pub(crate) fn cpuid(leaf: u32) -> CpuidResult {
    // The highest basic leaf and the highest extended one are in EAX of the first of each (Intel SDM volume 2, CPUID).
    let highest = __cpuid(leaf & 0x8000_0000).eax;
    if leaf <= highest { __cpuid_count(leaf, 0) } else { CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 } }
}
