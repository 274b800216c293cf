//! Judges how bad a machine check is, by the status words of the processor and of its banks.
//!
//! Intel SDM volume 3, chapter 16, "Machine-Check Architecture". AMD's processors have the same words, without the bits for
//! software recovery (AMD64 APM volume 2, chapter 9).

// IA32_MCG_STATUS (section 16.3.1.2).
const RIPV: u64 = 1 << 0;
const EIPV: u64 = 1 << 1;
const MCIP: u64 = 1 << 2;
const LMCE_S: u64 = 1 << 3;

// IA32_MCG_CAP (section 16.3.1.1).
const COUNT: u64 = 0xFF;
const SER_P: u64 = 1 << 24;

// IA32_MCi_STATUS (section 16.3.2.2).
const VAL: u64 = 1 << 63;
const UC: u64 = 1 << 61;
const ADDRV: u64 = 1 << 58;
const PCC: u64 = 1 << 57;
const S: u64 = 1 << 56;
const AR: u64 = 1 << 55;

/// What the processor says of its banks: IA32_MCG_CAP.
#[derive(Clone, Copy, Debug)]
pub struct Capability(pub u64);

impl Capability {
    /// How many banks there are that have their registers at IA32_MC0_CTL and after it. AMD's processors can have more
    /// than these 32; other registers follow, and where there are none, a read is a fault.
    pub fn banks(self) -> u32 {
        const MOST: u64 = 32;
        (self.0 & COUNT).min(MOST) as u32
    }
}

/// The status of one bank: IA32_MCi_STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BankStatus(pub u64);

impl BankStatus {
    /// Whether it reports an error.
    pub fn is_valid(self) -> bool {
        self.0 & VAL != 0
    }

    /// Whether the bank knows the error's address.
    pub fn has_address(self) -> bool {
        self.has(VAL | ADDRV)
    }

    /// Whether the error has corrupted the processor's state.
    fn is_fatal(self) -> bool {
        self.has(VAL | UC | PCC)
    }

    /// Whether whoever used the bad data must not go on. Without recovery by software, that holds for every error that
    /// was not corrected.
    fn demands_action(self, capability: Capability) -> bool {
        let recovery = if capability.0 & SER_P != 0 { S | AR } else { 0 };
        self.has(VAL | UC | recovery)
    }

    fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }
}

/// What can go on after a machine check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The interrupted program.
    Harmless,
    /// All but the interrupted instruction, which used bad data or cannot be run again.
    AtInstruction,
    /// Nothing: the processor's state is corrupt, or nobody knows where the program was.
    Fatal,
}

impl Severity {
    /// Judges a machine check by IA32_MCG_STATUS and the status of each bank.
    pub fn of(capability: Capability, global: u64, banks: impl Iterator<Item = BankStatus>) -> Self {
        let by_program = match (global & RIPV != 0, global & EIPV != 0) {
            (true, _) => Self::Harmless,
            (false, true) => Self::AtInstruction,
            (false, false) => Self::Fatal,
        };
        let by_bank = |bank: BankStatus| match bank {
            fatal if fatal.is_fatal() => Self::Fatal,
            // Only if the address is that of an instruction involved in the error is it this program that used bad data.
            used if used.demands_action(capability) && global & EIPV != 0 => Self::AtInstruction,
            _ => Self::Harmless,
        };
        banks.map(by_bank).fold(by_program, Self::max)
    }
}

/// Whether a machine check is in progress that other processors may be handling too: it was not delivered to one alone. `global` is
/// IA32_MCG_STATUS.
pub fn is_on_others(global: u64) -> bool {
    global & (MCIP | LMCE_S) == MCIP
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECOVERY: Capability = Capability(SER_P | 0xA);
    const BASIC: Capability = Capability(6);

    fn judged(capability: Capability, global: u64, banks: &[u64]) -> Severity {
        Severity::of(capability, MCIP | global, banks.iter().copied().map(BankStatus))
    }

    #[test]
    fn only_a_machine_check_in_progress_that_is_not_local_is_on_other_processors() {
        let on_others = |global| is_on_others(global | RIPV);
        assert!(on_others(MCIP) && !on_others(MCIP | LMCE_S) && !on_others(0));
    }

    #[test]
    fn the_program_goes_on_if_its_address_is_valid_and_no_bank_is_fatal() {
        let scrubbed = 0xBD00_0000_0000_00C0;
        assert_eq!(judged(RECOVERY, RIPV, &[]), Severity::Harmless);
        assert_eq!(judged(RECOVERY, RIPV, &[0, scrubbed]), Severity::Harmless);
        assert_eq!(judged(BASIC, RIPV, &[VAL | UC]), Severity::Harmless);
    }

    /// The registers after the 32nd bank's begin with IA32_VMX_BASIC, 480H.
    #[test]
    fn banks_beyond_their_registers_are_not_read() {
        assert_eq!(
            [0, 10, 32, 33, 64, 255].map(|count| Capability(SER_P | count).banks()),
            [0, 10, 32, 32, 32, 32]
        );
    }

    #[test]
    fn one_fatal_bank_or_an_unknown_place_is_fatal() {
        let timed_out = 0xB200_0000_0000_0400;
        assert_eq!(judged(RECOVERY, RIPV | EIPV, &[VAL, timed_out, 0]), Severity::Fatal);
        assert_eq!(judged(RECOVERY, 0, &[]), Severity::Fatal);
        assert_eq!(judged(RECOVERY, RIPV, &[UC | PCC]), Severity::Harmless, "not valid");
        assert_eq!(judged(RECOVERY, RIPV, &[VAL | PCC]), Severity::Harmless, "corrected");
    }

    /// Table 16-20: a load of poisoned data, on the processor that loads, and on another one.
    #[test]
    fn an_instruction_that_used_bad_data_does_not_go_on() {
        let load = VAL | UC | S | AR | ADDRV | 0x134;
        assert_eq!(judged(RECOVERY, RIPV | EIPV, &[load]), Severity::AtInstruction);
        assert_eq!(judged(RECOVERY, RIPV, &[load]), Severity::Harmless);
        assert_eq!(judged(RECOVERY, RIPV | EIPV, &[load & !AR]), Severity::Harmless);
        assert_eq!(judged(BASIC, RIPV | EIPV, &[VAL | UC]), Severity::AtInstruction);
        assert_eq!(judged(RECOVERY, EIPV, &[]), Severity::AtInstruction);
    }
}
