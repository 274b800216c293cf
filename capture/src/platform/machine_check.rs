//! Handles machine checks: counts and acknowledges those after which this kernel can go on, and resets the machine after
//! the others.
//!
//! A machine check can interrupt any instruction, so the handler has a stack of its own and preserves every register. After
//! a check that the guarded copy (`copy.rs`) caused, the copy fails, and the page counts as missing. A fatal one resets
//! the machine. What the dump's last save made durable is then a partial dump: to seal it takes a disk driver whose state
//! was interrupted, by a processor whose state is corrupt. The banks keep their errors for the firmware.
//!
//! (Intel SDM volume 3, chapter 16.)

use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU64, Ordering};

use capture::platform::severity::{BankStatus, Capability, Severity};
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
    pop     rbp
    pop     r11
    pop     r10
    pop     r9
    pop     r8
    pop     rdi
    pop     rsi
    pop     rdx
    pop     rcx
    pop     rax
    add     rsp, 16
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
    banks.acknowledge();
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
    banks.acknowledge();
}

fn end(frame: &Frame, banks: &Banks) -> ! {
    exceptions::end(|| {
        say!("fatal machine check at {:#x}, status {:#x}", frame.rip, banks.global);
        banks.tell();
    })
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

    /// Clears the banks that report errors, then the state in which another machine check is deadly.
    fn acknowledge(&self) {
        for (register, _) in self.statuses().filter(|(_, status)| status.is_valid()) {
            clear(register);
        }
        clear(IA32_MCG_STATUS);
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
