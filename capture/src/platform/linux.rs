//! Enters a Linux kernel as its boot protocol wants it (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"): in 64-bit mode, all
//! memory mapped to itself, flat segments of the selectors 0x10 and 0x18, interrupts off, and the address of `boot_params` in RSI.
//!
//! Nothing of this kernel runs afterwards. Its interrupt table goes, and with it the handlers of non-maskable interrupts and machine
//! checks: until Linux has its own, one of them resets the machine, as after any kexec. The processor's page tables stay in use until
//! Linux has its own, so they are in memory that this kernel keeps. Timers, interrupt controllers and devices stay as they are.

use core::convert::Infallible;

use machine::{PhysicalAddress, Range};

use crate::platform::entry::Image;
use crate::platform::frames::FramePool;
use crate::platform::paging::{Access, AddressSpace, Features, MapError};

/// Frames for the tables: of a memory map that is fuller, what comes last is not mapped.
pub(crate) const TABLES: usize = 128;

#[cfg(freestanding)]
core::arch::global_asm!(
    r#"
    .text
    // RDI: the entry; RSI: boot_params; RDX: the root of page tables that map this code too.
    .globl  enter_linux
enter_linux:
    cli
    cld
    mov     cr3, rdx
    lgdt    [rip + linux_segments_place]
    lidt    [rip + no_interrupt_table]
    mov     eax, 0x18
    mov     ds, eax
    mov     es, eax
    mov     ss, eax
    xor     eax, eax
    mov     fs, eax
    mov     gs, eax
    lldt    ax
    push    0x10
    lea     rax, [rip + 2f]
    push    rax
    retfq
2:  mov     rax, cr0
    and     rax, ~0x10000           // WP off: these tables are read-only nowhere
    mov     cr0, rax
    mov     rax, cr4
    and     eax, 0x3060             // as entry.rs found them: PAE, MCE, LA57, VMXE
    mov     cr4, rax
    xor     eax, eax
    mov     cr8, rax                // every interrupt is received once they are on
    xor     ebx, ebx
    xor     ecx, ecx
    xor     edx, edx
    xor     ebp, ebp
    xor     r8d, r8d
    xor     r9d, r9d
    xor     r10d, r10d
    xor     r11d, r11d
    xor     r12d, r12d
    xor     r13d, r13d
    xor     r14d, r14d
    xor     r15d, r15d
    jmp     rdi

    .data
    .balign 8
linux_segments:
    .quad   0
    .quad   0
    .quad   0x00af9a000000ffff      // 0x10: code, 64 bits
    .quad   0x00cf92000000ffff      // 0x18: data
linux_segments_place:
    .word   . - linux_segments - 1
    .quad   linux_segments
no_interrupt_table:
    .word   0
    .quad   0
    .text
    "#
);

#[cfg(freestanding)]
unsafe extern "C" {
    fn enter_linux(entry: u64, boot_params: u64, tables: u64) -> !;
}

/// Enters the kernel whose entry is at `entry`, with `boot_params` at that address. `memory` is what it may read before it has tables
/// of its own, the most important first; `frames` become the tables until then. Returns only if that cannot be mapped.
pub(crate) fn enter(
    frames: FramePool,
    entry: PhysicalAddress,
    boot_params: PhysicalAddress,
    memory: impl Iterator<Item = Range<PhysicalAddress>>,
) -> Result<Infallible, MapError> {
    let tables = tables(frames, memory)?;
    jump(entry, boot_params, &tables)
}

/// Tables that map all of this, without any protection.
fn tables(
    frames: FramePool,
    memory: impl Iterator<Item = Range<PhysicalAddress>>,
) -> Result<AddressSpace, MapError> {
    let mut space = AddressSpace::new(frames, Features::of_this_processor())?;
    space.map(Image::running().whole(), Access::Anything)?;
    for (at, range) in memory.enumerate() {
        match space.map(range, Access::Anything) {
            // The first is the kernel itself.
            Err(error) if at == 0 => return Err(error),
            _ => {}
        }
    }
    Ok(space)
}

#[cfg(freestanding)]
fn jump(
    entry: PhysicalAddress,
    boot_params: PhysicalAddress,
    tables: &AddressSpace,
) -> Result<Infallible, MapError> {
    // SAFETY: the tables map this image, its stack included, and the kernel that is entered. Nothing of this kernel runs any more, so
    // there is no object that could be broken.
    unsafe { enter_linux(entry.get(), boot_params.get(), tables.root().get()) }
}

/// On a host nothing is entered.
#[cfg(not(freestanding))]
fn jump(_: PhysicalAddress, _: PhysicalAddress, _: &AddressSpace) -> Result<Infallible, MapError> {
    Err(MapError::NoFrame)
}
