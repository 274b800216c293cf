//! Handles machine checks: counts and acknowledges those after which this kernel can go on, and resets the machine after
//! the others.
//!
//! A machine check can interrupt any instruction, so the handler has a stack of its own and preserves every register. After
//! a check that the guarded copy (`copy.rs`) caused, the copy fails, and the page counts as missing. A fatal one resets
//! the machine. What the dump's last save made durable is then a partial dump: to seal it takes a disk driver whose state
//! was interrupted, by a processor whose state is corrupt. The banks keep their errors for the firmware.
//!
//! Most machine checks interrupt all processors. The others wait in the dead kernel's loop with the dead kernel's handler, and
//! Linux's lets them go on waiting there if their program can go on (RIPV). Only after a machine check that killed the kernel
//! do they never leave the handler, so that one more resets the machine, which is told at the start. This kernel cannot help them: it would
//! have to reset them by INIT, which clears CR4.MCE, and without that bit a machine check has the same end.
//!
//! (Intel SDM volume 3, chapter 16.)

use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU64, Ordering};

use capture::platform::severity::{self, BankStatus, Capability, Severity};
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;

use crate::platform::console::say;
use crate::platform::copy;
use crate::platform::exceptions::{self, Frame};

/// Most machine checks after which this kernel goes on. More come from an instruction that runs into the same error again
/// and again.
const MOST: u64 = 1000;

const IA32_MCG_CAP: u32 = 0x179;
const IA32_MCG_STATUS: u32 = 0x17A;
/// The first bank's status; its address follows, and each bank has four registers (section 16.3.2).
const IA32_MC0_STATUS: u32 = 0x401;
const REGISTERS_OF_BANK: u32 = 4;

/// Machine checks so far after which this kernel went on.
static COUNT: AtomicU64 = AtomicU64::new(0);

#[cfg(mutations)]
use crate::mutations::machine_checks::another;
#[cfg(not(mutations))]
macro_rules! another {
    () => {
        ""
    };
}

// Compiled code uses integer and SSE registers. The called function preserves RBX and R12 to R15.
core::arch::global_asm!(
    r#"
    .text
    .globl  machine_check_entry
machine_check_entry:
    push    0                       // no error code
    push    18
    push    rax
    push    rcx
    push    rdx
    push    rsi
    push    rdi
    push    r8
    push    r9
    push    r10
    push    r11
    push    rbp
    mov     rbp, rsp
    lea     rdi, [rsp + 80]         // the frame, above ten registers
    sub     rsp, 512
    and     rsp, -16
    fxsave64 [rsp]
    cld
    call    {handle}
    fxrstor64 [rsp]
    mov     rsp, rbp
    // What is left to do is done below the interrupted program's red zone: the processor begins at the top of this stack
    // again with the next machine check, which may come as soon as the status is cleared.
    mov     rax, [rsp + 120]
    sub     rax, 128 + 64
    mov     rcx, [rsp + 128]        // SS
    mov     [rax + 56], rcx
    mov     rcx, [rsp + 120]        // RSP
    mov     [rax + 48], rcx
    mov     rcx, [rsp + 112]        // RFLAGS
    mov     [rax + 40], rcx
    mov     rcx, [rsp + 104]        // CS
    mov     [rax + 32], rcx
    mov     rcx, [rsp + 96]         // RIP
    mov     [rax + 24], rcx
    mov     rcx, [rsp + 72]         // RAX
    mov     [rax + 16], rcx
    mov     rcx, [rsp + 64]         // RCX
    mov     [rax + 8], rcx
    mov     rcx, [rsp + 56]         // RDX
    mov     [rax], rcx
    pop     rbp
    pop     r11
    pop     r10
    pop     r9
    pop     r8
    pop     rdi
    pop     rsi
    mov     rsp, rax
    mov     ecx, 0x17A              // IA32_MCG_STATUS
    xor     eax, eax
    xor     edx, edx
    wrmsr
    "#,
    another!(),
    r#"
    pop     rdx
    pop     rcx
    pop     rax
    iretq
    "#,
    handle = sym handle,
);

unsafe extern "C" {
    static machine_check_entry: u8;
}

/// Address of the handler's first instruction.
pub(crate) fn entry() -> u64 {
    &raw const machine_check_entry as u64
}

/// Number of machine checks since the start, after which this kernel went on.
pub(crate) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Forgets the machine checks that the dead kernel left, and lets new ones interrupt this kernel. The handler is installed
/// by now.
///
/// A fatal one that killed the kernel still counts as in progress, and the next one would shut the processor down
/// (section 16.3.1.2). Its bank would make the next one look fatal too.
///
/// While CR4.MCE is off, a machine check shuts the processor down (section 2.5). Without a handler it does so as well, so
/// until now the bit could stay as kexec left it.
pub(crate) fn expect() {
    if !is_supported() {
        return;
    }
    let banks = Banks::of_this_processor();
    banks.tell();
    if severity::is_on_others(banks.global) {
        say!("the dead kernel was handling a machine check: another one may reset the machine");
    }
    banks.clear();
    clear(IA32_MCG_STATUS);
    // SAFETY: the handler is installed, and expects what it interrupts to be in any state.
    unsafe { Cr4::update(|flags| flags.insert(Cr4Flags::MACHINE_CHECK_EXCEPTION)) };
}

/// Whether the processor has the exception and the banks: CPUID.01H:EDX.MCE and MCA (section 16.2).
fn is_supported() -> bool {
    const MCE: u32 = 1 << 7;
    const MCA: u32 = 1 << 14;
    __cpuid(1).edx & (MCE | MCA) == MCE | MCA
}

/// Goes on, ends the read that caused it, or reports and resets.
extern "C" fn handle(frame: &mut Frame) {
    let banks = Banks::of_this_processor();
    match banks.severity() {
        Severity::Harmless if count() < MOST => {}
        Severity::Fatal => end(frame, &banks),
        Severity::Harmless | Severity::AtInstruction => match copy::recovery(frame.rip) {
            Some(instruction) => frame.rip = instruction,
            None => end(frame, &banks),
        },
    }
    COUNT.fetch_add(1, Ordering::Relaxed);
    // The entry clears the status itself when it has left its stack.
    banks.clear();
}

fn end(frame: &Frame, banks: &Banks) -> ! {
    let report = || {
        say!("fatal machine check at {:#x}, status {:#x}", frame.rip, banks.global);
        banks.tell();
    };
    exceptions::end(report, format_args!("the hardware reported a fatal error (a machine check)"))
}

/// The banks that report errors.
struct Banks {
    capability: Capability,
    global: u64,
}

impl Banks {
    fn of_this_processor() -> Self {
        Self { capability: Capability(read(IA32_MCG_CAP)), global: read(IA32_MCG_STATUS) }
    }

    /// The status of each bank, and the register that has it.
    fn statuses(&self) -> impl Iterator<Item = (u32, BankStatus)> {
        let registers = (0..self.capability.banks()).map(|bank| IA32_MC0_STATUS + bank * REGISTERS_OF_BANK);
        registers.map(|register| (register, BankStatus(read(register))))
    }

    fn severity(&self) -> Severity {
        Severity::of(self.capability, self.global, self.statuses().map(|(_, status)| status))
    }

    /// Prints the first error, and how many there are.
    fn tell(&self) {
        let mut valid = self.statuses().filter(|(_, status)| status.is_valid());
        let Some((register, status)) = valid.next() else { return };
        let bank = (register - IA32_MC0_STATUS) / REGISTERS_OF_BANK;
        let address = if status.has_address() { read(register + 1) } else { 0 };
        let others = valid.count();
        let status = status.0;
        say!("machine check: bank {bank} status {status:#x} address {address:#x}, {others} other banks");
    }

    /// Clears the banks that report errors.
    fn clear(&self) {
        for (register, _) in self.statuses().filter(|(_, status)| status.is_valid()) {
            clear(register);
        }
    }
}

fn read(register: u32) -> u64 {
    // SAFETY: the architecture defines the register for the banks that the processor says it has; reading has no effect.
    unsafe { Msr::new(register).read() }
}

fn clear(register: u32) {
    // SAFETY: as for reads; zero is the one value that every status register takes, and means that there is no error.
    unsafe { Msr::new(register).write(0) }
}
