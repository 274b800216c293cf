//! Handles exceptions: none is expected, so the handler reports it and resets the machine.
//!
//! There are three exceptions after which the kernel goes on. A fault while it reads memory that may be bad, or writes a
//! register that may not exist, ends that access (see `copy.rs` and `msr.rs`). A non-maskable interrupt, such as one from
//! a watchdog that the dead kernel armed, is counted and ignored. Machine checks have a handler of their own (see
//! `machine_check.rs`).
//!
//! Every handler has a stack of its own (interrupt stack table): compiled code uses the red zone below its stack
//! pointer, and a stack overflow leaves no other stack to report it from. Interrupts are off and stay off.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use machine::growth::{OutOfMemory, filled, leaked};
use x86_64::VirtAddr;
use x86_64::instructions::{segmentation::CS, segmentation::DS, segmentation::ES, segmentation::SS, tables};
use x86_64::registers::control::Cr2;
use x86_64::registers::segmentation::{Segment, SegmentSelector};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use crate::platform::console::{Show, say};
use crate::platform::entry::Image;
use crate::platform::shared::Shared;
use crate::platform::{copy, machine_check, msr, reset};

/// Vectors that the architecture defines (Intel SDM volume 3, table 6-1).
const VECTORS: usize = 32;
const NMI: usize = 2;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: usize = 18;

/// Bytes in a handler's stack: reporting formats text, and a hand-over to another kernel composes what it is told.
const STACK_SIZE: usize = 32 << 10;

/// Number of non-maskable interrupts so far.
static NMI_COUNT: AtomicU64 = AtomicU64::new(0);
/// Whether the end is being reported. An exception or a panic during the report is not reported.
static REPORTING: AtomicBool = AtomicBool::new(false);
/// Tells a person before the reset, where there is a way to.
static LAST_WORDS: Shared<Show> = Shared::none();
/// What may still save something when this kernel has failed; returns if it cannot.
static LAST_CHANCE: Shared<fn()> = Shared::none();

// Each vector's entry is 16 bytes long and makes all stack frames alike: the exceptions that push no error code push a zero
// (SDM volume 3, table 6-1), then all push their vector.
core::arch::global_asm!(
    r#"
    .text
    .balign 16
exception_entries:
    .set    vector, 0
    .rept   32
    .balign 16
    .if     vector == 2
    lock inc qword ptr [rip + {nmi_count}]
    iretq
    .else
    .ifeq   (0x60227d00 >> vector) & 1
    push    0
    .endif
    .byte   0x6a, vector            // push the vector
    jmp     exception_common
    .endif
    .set    vector, vector + 1
    .endr

exception_common:
    cld
    mov     rdi, rsp
    push    rbp
    mov     rbp, rsp
    and     rsp, -16
    call    {handle}
    // The handler returned: the interrupted code continues at the address that the handler put into the frame. It needs
    // only the registers that every function preserves.
    mov     rsp, rbp
    pop     rbp
    add     rsp, 16
    iretq
    "#,
    nmi_count = sym NMI_COUNT,
    handle = sym handle,
);

unsafe extern "C" {
    static exception_entries: u8;
}

/// What an exception leaves on its stack.
#[repr(C)]
pub(crate) struct Frame {
    vector: u64,
    error_code: u64,
    /// The interrupted instruction, and where the program goes on.
    pub(crate) rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Number of non-maskable interrupts since the start.
pub(crate) fn nmi_count() -> u64 {
    NMI_COUNT.load(Ordering::Relaxed)
}

/// Installs the handlers, and the segments and stacks they need.
pub(crate) fn install() -> Result<(), OutOfMemory> {
    let tss = leaked(TaskStateSegment::new())?;
    // One stack for exceptions, one for each that can interrupt their handlers.
    tss.interrupt_stack_table[0] = new_stack()?;
    tss.interrupt_stack_table[1] = new_stack()?;
    tss.interrupt_stack_table[2] = new_stack()?;
    let gdt = leaked(GlobalDescriptorTable::new())?;
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    gdt.load();
    // SAFETY: the selectors name flat kernel segments of the table just loaded, and a task segment that is leaked.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        tables::load_tss(task);
    }
    load_handlers(code)
}

fn load_handlers(code: SegmentSelector) -> Result<(), OutOfMemory> {
    let first = &raw const exception_entries as u64;
    let gates = core::array::from_fn::<u128, VECTORS, _>(|vector| match vector {
        NMI => gate(first + 16 * NMI as u64, code, 2),
        MACHINE_CHECK => gate(machine_check::entry(), code, 3),
        _ => gate(first + 16 * vector as u64, code, 1),
    });
    let gates = leaked(gates)?;
    let limit = (size_of_val(gates) - 1) as u16;
    // SAFETY: the table is leaked, and its gates lead to the entries above.
    unsafe { tables::lidt(&DescriptorTablePointer { limit, base: VirtAddr::from_ptr(gates) }) };
    Ok(())
}

/// An interrupt gate (SDM volume 3, figure 6-8): present, ring 0, type 14, on stack `ist` of the task segment.
fn gate(entry: u64, code: SegmentSelector, ist: u8) -> u128 {
    let entry = u128::from(entry);
    let low = entry & 0xFFFF | u128::from(code.0) << 16 | u128::from(ist) << 32 | 0x8E << 40;
    low | (entry >> 16 & 0xFFFF) << 48 | (entry >> 32) << 64
}

fn new_stack() -> Result<VirtAddr, OutOfMemory> {
    let stack = filled(0u128, STACK_SIZE / size_of::<u128>())?.leak();
    Ok(VirtAddr::from_ptr(stack.as_ptr_range().end))
}

/// Ends an access that failed, or reports and resets.
extern "C" fn handle(frame: &mut Frame) {
    match copy::recovery(frame.rip).or_else(|| msr::recovery(frame.rip)) {
        Some(instruction) => frame.rip = instruction,
        None => give_up(|| report(frame), format_args!("exception {}", frame.vector)),
    }
}

/// Has `chance` taken once if this kernel fails, after that has been reported: it may hand the machine over. It cannot allocate.
pub(crate) fn before_giving_up(chance: fn()) {
    LAST_CHANCE.set(chance);
}

/// Ends this kernel by its own fault: reports, takes the last chance, tells a person, and resets the machine.
pub(crate) fn give_up(report: impl FnOnce(), what: fmt::Arguments<'_>) -> ! {
    let report_and_try = || {
        report();
        if let Some(take) = LAST_CHANCE.with(|chance| *chance) {
            take();
        }
    };
    end(report_and_try, format_args!("Holdover itself has failed ({what})"))
}

/// Has `words` told to a person before the machine is reset because of an exception or a panic; they say why.
pub(crate) fn before_reset(words: Show) {
    LAST_WORDS.set(words);
}

/// Reports, tells a person why, and resets the machine. If this fails too, the machine is reset at once.
pub(crate) fn end(report: impl FnOnce(), why: fmt::Arguments<'_>) -> ! {
    if !REPORTING.swap(true, Ordering::Relaxed) {
        report();
        if let Some(tell) = LAST_WORDS.with(|tell| *tell) {
            tell(why);
        }
        say!("reset");
    }
    reset::now()
}

fn report(frame: &Frame) {
    let Frame { vector, error_code, rip, rsp, .. } = *frame;
    let offset = rip.wrapping_sub(Image::running().code.start.get());
    say!("exception {vector} code={error_code:#x} rip={rip:#x} (image+{offset:#x}) rsp={rsp:#x}");
    if vector == PAGE_FAULT {
        say!("page fault at {:#x}", Cr2::read_raw());
    }
}

#[cfg(test)]
mod tests {
    use x86_64::PrivilegeLevel;

    use super::*;

    #[test]
    fn a_gate_has_its_fields_where_the_manual_says() {
        let code = SegmentSelector::new(1, PrivilegeLevel::Ring0);
        assert_eq!(gate(0x1122_3344_5566_7788, code, 1), 0x1122_3344_5566_8E01_0008_7788);
    }
}
