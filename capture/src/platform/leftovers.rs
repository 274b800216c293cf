//! Names what the dead kernel may have left on in the processor, and what would slow or disturb this kernel, or write to
//! the dead kernel's memory.

use core::arch::x86_64::CpuidResult;

/// A model-specific register that is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Leftover {
    /// IA32_SPEC_CTRL: restricted speculation (IBRS, STIBP, SSBD), which slows every branch and load (Intel SDM volume 4,
    /// table 2-2).
    SpeculationControl = 0x48,
    /// IA32_DEBUGCTL: branch records and branch trace stores, which go to the dead kernel's addresses (Intel SDM volume 3,
    /// section 18.4.1).
    DebugControl = 0x1D9,
    /// IA32_PERF_GLOBAL_CTRL: counters, which raise non-maskable interrupts and store samples at the dead kernel's addresses
    /// (Intel SDM volume 3, section 20.2.2).
    CounterControl = 0x38F,
    /// IA32_RTIT_CTL: Processor Trace, which writes to physical memory of the dead kernel (Intel SDM volume 3, section
    /// 33.2.8.2).
    TraceControl = 0x570,
    /// IA32_HW_FEEDBACK_CONFIG: scheduling hints, which the processor writes to physical memory of the dead kernel (Intel SDM
    /// volume 3, section 15.6.5).
    FeedbackControl = 0x17D1,
    /// PerfCntrGlobalCtl, as [`CounterControl`](Self::CounterControl) (AMD64 APM volume 2, section 13.2.1).
    AmdCounterControl = 0xC000_0301,
}

/// The registers to clear on a processor that answers CPUID like this; `cpuid(leaf)` has subleaf 0, and is zero beyond the
/// highest leaf.
pub fn leftovers(cpuid: impl Fn(u32) -> CpuidResult) -> impl Iterator<Item = Leftover> {
    let (features, amd) = (cpuid(7), cpuid(0x8000_0008));
    // IBRS, STIBP, SSBD: leaf 7 (Intel SDM volume 2, CPUID), leaf 80000008h (AMD64 APM volume 3, appendix E.4.7).
    let speculation = features.edx & (1 << 26 | 1 << 27 | 1 << 31) | amd.ebx & (1 << 14 | 1 << 15 | 1 << 24);
    [
        (speculation != 0, Leftover::SpeculationControl),
        // No leaf names it; processors with 64-bit mode have it.
        (true, Leftover::DebugControl),
        (cpuid(0xA).eax & 0xFF >= 2, Leftover::CounterControl),
        (features.ebx & 1 << 25 != 0, Leftover::TraceControl),
        (cpuid(6).eax & 1 << 19 != 0, Leftover::FeedbackControl),
        (cpuid(0x8000_0022).eax & 1 != 0, Leftover::AmdCounterControl),
    ]
    .into_iter()
    .filter_map(|(exists, register)| exists.then_some(register))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: CpuidResult = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };

    fn cleared(leaf: u32, answer: CpuidResult) -> Vec<Leftover> {
        leftovers(|asked| if asked == leaf { answer } else { NOTHING })
            .filter(|register| *register != Leftover::DebugControl)
            .collect()
    }

    #[test]
    fn only_what_the_processor_has_is_cleared() {
        assert_eq!(cleared(0, NOTHING), []);
        for bit in [26, 27, 31] {
            let answer = CpuidResult { edx: 1 << bit, ..NOTHING };
            assert_eq!(cleared(7, answer), [Leftover::SpeculationControl]);
        }
        for bit in [14, 15, 24] {
            let answer = CpuidResult { ebx: 1 << bit, ..NOTHING };
            assert_eq!(cleared(0x8000_0008, answer), [Leftover::SpeculationControl]);
        }
        assert_eq!(cleared(7, CpuidResult { ebx: 1 << 25, ..NOTHING }), [Leftover::TraceControl]);
        assert_eq!(cleared(0xA, CpuidResult { eax: 1, ..NOTHING }), []);
        assert_eq!(cleared(0xA, CpuidResult { eax: 5, ..NOTHING }), [Leftover::CounterControl]);
    }
}
