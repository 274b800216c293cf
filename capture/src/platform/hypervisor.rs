//! Whether the machine is a virtual one.

use core::arch::x86_64::__cpuid;

/// What devices are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Devices {
    /// A hypervisor makes them, or passes them on.
    Virtual,
    /// They are hardware.
    Real,
}

impl Devices {
    /// Those of this machine: a hypervisor says that it is there (CPUID leaf 1, ECX bit 31, which no processor sets).
    pub(crate) fn of_this_machine() -> Self {
        if __cpuid(1).ecx & 1 << 31 != 0 { Self::Virtual } else { Self::Real }
    }
}
