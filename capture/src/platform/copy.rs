//! Copies memory: the C functions that compiled code calls, and a copy that survives a fault.
//!
//! These functions move 64 bytes per turn through SSE registers instead of using `rep movsb`. On hardware with
//! enhanced string moves this is as fast; under software emulation, which executes `rep` byte by byte, it is several
//! times faster.

use machine::{PhysicalAddress, Table, Unreadable};

/// Instructions that copy RDX bytes from [RSI] to [RDI], lowest first.
///
/// A macro of Rust's rather than of the assembler's: the order in which blocks of assembly reach the assembler is not fixed.
macro_rules! copy_upwards {
    () => {
        r#"
    cmp     rdx, 64
    jb      3f
2:  movups  xmm0, [rsi]
    movups  xmm1, [rsi + 16]
    movups  xmm2, [rsi + 32]
    movups  xmm3, [rsi + 48]
    movups  [rdi], xmm0
    movups  [rdi + 16], xmm1
    movups  [rdi + 32], xmm2
    movups  [rdi + 48], xmm3
    add     rsi, 64
    add     rdi, 64
    sub     rdx, 64
    cmp     rdx, 64
    jae     2b
3:  cmp     rdx, 8
    jb      4f
    mov     rcx, [rsi]
    mov     [rdi], rcx
    add     rsi, 8
    add     rdi, 8
    sub     rdx, 8
    jmp     3b
4:  test    rdx, rdx
    jz      5f
    mov     cl, [rsi]
    mov     [rdi], cl
    inc     rsi
    inc     rdi
    dec     rdx
    jmp     4b
5:
    "#
    };
}

core::arch::global_asm!(
    r#"
    .text
    // Returns 0, or 1 after a fault: see exceptions.rs.
    .globl  guarded_copy
    .globl  guarded_copy_end
    .globl  guarded_copy_failed
guarded_copy:
    "#,
    copy_upwards!(),
    r#"
guarded_copy_end:
    xor     eax, eax
    ret
guarded_copy_failed:
    mov     eax, 1
    ret
    "#
);

#[cfg(freestanding)]
core::arch::global_asm!(
    r#"
    .globl  memcpy
    .globl  memmove
    .globl  memset
    .globl  memcmp
    .globl  bcmp
    .globl  strlen

memcpy:
memmove:
    mov     rax, rdi
    mov     rcx, rdi
    sub     rcx, rsi
    cmp     rcx, rdx
    jb      6f                      // the destination starts inside the source: highest first
    "#,
    copy_upwards!(),
    r#"
    ret
6:  cmp     rdx, 8
    jb      7f
    mov     rcx, [rsi + rdx - 8]
    mov     [rdi + rdx - 8], rcx
    sub     rdx, 8
    jmp     6b
7:  test    rdx, rdx
    jz      8f
    mov     cl, [rsi + rdx - 1]
    mov     [rdi + rdx - 1], cl
    dec     rdx
    jmp     7b
8:  ret

memset:
    mov     rax, rdi
    movzx   ecx, sil
    mov     r8, 0x0101010101010101
    imul    r8, rcx
    movq    xmm0, r8
    punpcklqdq xmm0, xmm0
    cmp     rdx, 64
    jb      3f
2:  movups  [rdi], xmm0
    movups  [rdi + 16], xmm0
    movups  [rdi + 32], xmm0
    movups  [rdi + 48], xmm0
    add     rdi, 64
    sub     rdx, 64
    cmp     rdx, 64
    jae     2b
3:  cmp     rdx, 8
    jb      4f
    mov     [rdi], r8
    add     rdi, 8
    sub     rdx, 8
    jmp     3b
4:  test    rdx, rdx
    jz      5f
    mov     [rdi], r8b
    inc     rdi
    dec     rdx
    jmp     4b
5:  ret

memcmp:
bcmp:
2:  cmp     rdx, 8
    jb      3f
    mov     rax, [rdi]
    cmp     rax, [rsi]
    jne     3f
    add     rdi, 8
    add     rsi, 8
    sub     rdx, 8
    jmp     2b
3:  test    rdx, rdx
    jz      4f
    movzx   eax, byte ptr [rdi]
    movzx   ecx, byte ptr [rsi]
    inc     rdi
    inc     rsi
    dec     rdx
    sub     eax, ecx
    jz      3b
    ret
4:  xor     eax, eax
    ret

strlen:
    xor     eax, eax
2:  cmp     byte ptr [rdi + rax], 0
    je      3f
    inc     rax
    jmp     2b
3:  ret
    "#
);

unsafe extern "C" {
    fn guarded_copy(to: *mut u8, from: *const u8, len: usize) -> u32;
    static guarded_copy_end: u8;
    static guarded_copy_failed: u8;
}

/// Copies physical memory that may be bad or not mapped: a fault while reading it becomes an error.
pub(crate) fn read_physical(address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
    // SAFETY: the destination is a live exclusive slice.
    unsafe { read_to(address, into.as_mut_ptr(), into.len()) }
}

/// Copies a page frame of 64-bit entries; as [`read_physical`].
pub(crate) fn read_physical_table(address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
    // SAFETY: the destination is a live exclusive array, and any bytes are valid entries.
    unsafe { read_to(address, into.as_mut_ptr().cast(), size_of_val(into)) }
}

/// # Safety
///
/// `to` is valid for writing `len` bytes.
unsafe fn read_to(address: PhysicalAddress, to: *mut u8, len: usize) -> Result<(), Unreadable> {
    // SAFETY: the caller answers for the destination. The source is only read, by instructions that the exception
    // handler knows: if it is not mapped or its memory is bad, the copy ends with 1.
    let failed = unsafe { guarded_copy(to, address.get() as *const u8, len) };
    if failed == 0 { Ok(()) } else { Err(Unreadable { address, len: len as u64 }) }
}

/// The address at which to continue after a fault at `instruction`, if it was reading memory that may be bad.
pub(crate) fn recovery(instruction: u64) -> Option<u64> {
    let start = guarded_copy as *const () as u64;
    let end = &raw const guarded_copy_end as u64;
    let failed = &raw const guarded_copy_failed as u64;
    (start..end).contains(&instruction).then_some(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_to_the_byte() {
        let source: Vec<u8> = (0..200u8).collect();
        for len in 0..source.len() {
            let mut copy = vec![0xEE; source.len()];
            read_physical((source.as_ptr() as u64).into(), &mut copy[..len]).unwrap();
            assert_eq!(copy[..len], source[..len]);
            assert!(copy[len..].iter().all(|&byte| byte == 0xEE), "{len}");
        }
    }

    #[test]
    fn only_instructions_of_the_guarded_copy_recover() {
        let start = guarded_copy as *const () as u64;
        assert!(recovery(start).is_some());
        assert_eq!(recovery(start - 1), None);
        assert_eq!(recovery(&raw const guarded_copy_end as u64), None);
    }
}
