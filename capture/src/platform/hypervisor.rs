//! Whether the machine is a virtual one.

use core::arch::x86_64::__cpuid;

/// Whether a hypervisor says that it is there (CPUID leaf 1, ECX bit 31, which no processor sets).
pub(crate) fn is_present() -> bool {
    __cpuid(1).ecx & 1 << 31 != 0
}
