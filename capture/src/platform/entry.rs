//! The first instructions: from the boot loader's jump to the first line of Rust.
//!
//! The boot loader (kexec's purgatory) enters at `image + 0x200` in 64-bit mode with an identity map of RAM,
//! interrupts off, and the address of `boot_params` in RSI (Linux x86 boot protocol, "64-bit boot protocol"). The
//! image is linked to address 0; this code relocates it to the address at which it was loaded. It turns SSE on
//! because `core` was compiled to use it.
//!
//! It also ends what the dead kernel may have left on in the control registers (Intel SDM volume 3, sections 2.5 and
//! 18.2.4): breakpoints at addresses that mean something else now, event delivery by FRED instead of the interrupt table,
//! shadow stacks and branch tracking, protection keys, SMEP and SMAP, a disabled cache. Three bits of CR4 cannot change
//! here: PAE and LA57 while paging is on, VMXE in VMX operation. MCE has its time later (`machine_check.rs`).
//!
//! The image is an EFI application besides, because Secure Boot signs such files only. Nothing here runs under firmware.
//!
//! Devices of the dead kernel continue to raise interrupts, which this kernel never serves. It sets the task priority
//! so that the processor does not receive them (CR8; Intel SDM volume 3, "Task Priority in IA-32e Mode"). Otherwise
//! they would stay pending, since interrupts are off, and QEMU's emulator would look for one again and again, which
//! takes a third of the time of a dump.

use machine::{PAGE_SIZE, PhysicalAddress, Range};

#[cfg(freestanding)]
core::arch::global_asm!(
    r#"
    .section .head, "ax", @progbits
    .code32
    // 32-bit entry: kexec never uses it for an image that has a 64-bit one.
2:  cli
    hlt
    jmp     2b

    // Firmware's entry: returns EFI_UNSUPPORTED, so that firmware goes on to the next entry of its boot menu.
    .code64
    .globl  efi_entry
efi_entry:
    mov     rax, 0x8000000000000003
    ret

    .balign 0x200
    .code64
    .globl  entry64
entry64:
    cli
    cld
    lea     rsp, [rip + stack_top]
    push    2                       // TF, NT, AC off
    popfq
    mov     eax, 0x400
    mov     dr7, rax                // no breakpoints

    mov     rax, cr0
    and     rax, ~0x6000000c        // CD, NW, EM, TS off
    or      rax, 0x2                // MP on
    mov     cr0, rax
    mov     rax, cr4
    and     eax, 0x3060             // PAE, MCE, LA57, VMXE as they are; all else off
    or      eax, 0x600              // OSFXSR, OSXMMEXCPT on
    mov     cr4, rax
    mov     eax, 0xf                // highest task priority
    mov     cr8, rax
    fninit
    push    0x1f80                  // MXCSR after reset: all exceptions masked
    ldmxcsr [rsp]

    lea     rdi, [rip + bss_start]
    lea     rcx, [rip + bss_end]
    sub     rcx, rdi
    shr     rcx, 3
    xor     eax, eax
    rep     stosq

    // Every relocation is R_X86_64_RELATIVE (the build checks that): add the load address to the addend.
    lea     rbx, [rip + image_start]
    lea     rdi, [rip + rela_start]
    lea     rcx, [rip + rela_end]
3:  cmp     rdi, rcx
    jae     4f
    mov     rdx, [rdi]              // r_offset
    mov     rax, [rdi + 16]         // r_addend
    add     rax, rbx
    mov     [rdx + rbx], rax
    add     rdi, 24
    jmp     3b

4:  lea     rsp, [rip + stack_top]
    xor     ebp, ebp
    mov     rdi, rsi
    call    start
    ud2
    .text
    "#
);

unsafe extern "C" {
    static image_start: u8;
    static text_end: u8;
    static constants_end: u8;
    static stack_guard: u8;
    static image_end: u8;
}

/// Where the parts of the image lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    /// Instructions.
    pub(crate) code: Range<PhysicalAddress>,
    /// Constants.
    pub(crate) constants: Range<PhysicalAddress>,
    /// Variables.
    pub(crate) variables: Range<PhysicalAddress>,
    /// The stack, above a page that stays unmapped.
    pub(crate) stack: Range<PhysicalAddress>,
}

impl Image {
    /// The running image.
    pub(crate) fn running() -> Self {
        let [start, text, constants, guard, end] = [
            &raw const image_start,
            &raw const text_end,
            &raw const constants_end,
            &raw const stack_guard,
            &raw const image_end,
        ]
        .map(|symbol| PhysicalAddress::new(symbol as u64));
        Self {
            code: Range::new(start, text),
            constants: Range::new(text, constants),
            variables: Range::new(constants, guard),
            stack: Range::new(guard.saturating_add(PAGE_SIZE), end),
        }
    }

    /// All of it, the unmapped page included.
    pub(crate) fn whole(&self) -> Range<PhysicalAddress> {
        Range::new(self.code.start, self.stack.end)
    }
}
