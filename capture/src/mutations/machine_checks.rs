//! Not a mistake of this kernel but bad luck: a machine check that follows another at the worst instant, when the processor may
//! be interrupted by it and the first one's handler has not returned. QEMU's monitor cannot hit that instant.

use core::ptr::addr_of_mut;

use super::{SECOND_MACHINE_CHECK, chosen};

/// Instructions that raise one, after the first. RAX, RCX and RDX are free. The status says that the program can go on.
macro_rules! another {
    () => {
        r#"
        .data
        .globl  another_machine_check
    another_machine_check:
        .byte   0
        .text
        cmp     byte ptr [rip + another_machine_check], 0
        je      9f
        mov     byte ptr [rip + another_machine_check], 0
        mov     ecx, 0x17A              // IA32_MCG_STATUS: MCIP and RIPV
        mov     eax, 5
        xor     edx, edx
        wrmsr
        int     18
    9:
        "#
    };
}
pub(crate) use another;

unsafe extern "C" {
    static mut another_machine_check: u8;
}

/// Has the next machine check be followed by another, if that was asked for.
pub(crate) fn prepare() {
    if chosen(SECOND_MACHINE_CHECK) {
        // SAFETY: one byte, which only the handler of machine checks reads and clears, and none is expected now.
        unsafe { addr_of_mut!(another_machine_check).write_volatile(1) };
    }
}
