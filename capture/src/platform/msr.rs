//! Model-specific registers: a write that a processor refuses costs nothing but the write.

core::arch::global_asm!(
    r#"
    .text
    // EDI: the register; RSI: the value. Returns 0, or 1 after a fault: see exceptions.rs.
    .globl  guarded_wrmsr
    .globl  guarded_wrmsr_end
    .globl  guarded_wrmsr_failed
guarded_wrmsr:
    mov     ecx, edi
    mov     rax, rsi
    mov     rdx, rsi
    shr     rdx, 32
    wrmsr
guarded_wrmsr_end:
    xor     eax, eax
    ret
guarded_wrmsr_failed:
    mov     eax, 1
    ret
    "#
);

unsafe extern "C" {
    fn guarded_wrmsr(register: u32, value: u64) -> u32;
    static guarded_wrmsr_end: u8;
    static guarded_wrmsr_failed: u8;
}

/// Writes a register; returns whether the processor has it and takes the value. Exceptions are handled by now.
///
/// # Safety
///
/// What the register controls does not matter to any memory of this kernel.
pub(crate) unsafe fn try_write(register: u32, value: u64) -> bool {
    // SAFETY: by the caller's promise; if the processor refuses, the exception handler ends the function with 1.
    unsafe { guarded_wrmsr(register, value) == 0 }
}

/// The address at which to continue after a fault at `instruction`, if it was writing a register.
pub(crate) fn recovery(instruction: u64) -> Option<u64> {
    let start = guarded_wrmsr as *const () as u64;
    let end = &raw const guarded_wrmsr_end as u64;
    let failed = &raw const guarded_wrmsr_failed as u64;
    (start..end).contains(&instruction).then_some(failed)
}
