//! What happens to the machine: how the capture kernel comes to run, what befalls it there, and how the machine ends.

use clap::ValueEnum;
use serde::Serialize;

/// How the capture kernel comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Start {
    /// The old kernel panics.
    Panic,
    /// The old kernel panics on its second processor.
    PanicElsewhere,
    /// The old kernel panics in an interrupt of its serial port.
    PanicInInterrupt,
    /// The old kernel panics in an NMI, as it does where one tells of a hard lockup.
    PanicInNmi,
    /// A fatal machine check makes the old kernel panic.
    MachineCheck,
    /// `kexec -e`, as an ordinary reboot into it: there is no crash, and no dead kernel's memory.
    Exec,
}

impl Start {
    /// What the old kernel's command line must have for it.
    pub(super) fn kernel_options(self) -> &'static str {
        match self {
            Self::PanicInInterrupt => "sysrq_always_enabled",
            Self::PanicInNmi => "unknown_nmi_panic",
            _ => "",
        }
    }
}

/// A machine check of processor 0. Its status words are those of the Intel SDM, volume 3, chapter 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MachineCheck {
    /// Memory that nobody was reading is bad: the interrupted program can go on.
    Recoverable,
    /// The processor's state is corrupt.
    Fatal,
}

impl MachineCheck {
    /// The status of the bank that reports it.
    pub(crate) fn bank_status(self) -> u64 {
        match self {
            // VAL, UC, EN, MISCV, ADDRV, S: memory scrubbing found an error (table 16-8).
            Self::Recoverable => 0xBD00_0000_0000_00C0,
            // VAL, UC, EN, PCC: an internal timer ran out.
            Self::Fatal => 0xB200_0000_0000_0400,
        }
    }

    /// The processor's status: MCIP, and RIPV if the interrupted program can go on.
    pub(crate) fn global_status(self) -> u64 {
        match self {
            Self::Recoverable => 0b101,
            Self::Fatal => 0b100,
        }
    }
}

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    /// Holdover resets it.
    Reset,
    /// A watchdog resets it.
    Watchdog,
    /// Holdover resets it, and each request to the dump's disk is recorded: the power can be cut at each of them afterwards.
    Recorded,
    /// Its power goes while the dump is written, as soon as the vital pages are said to be safe.
    PowerCut,
    /// Its power goes as soon as the dead kernel's log is said to be safe.
    PowerCutAfterLog,
    /// The dump's disk goes as soon as the dead kernel's log is said to be safe; Holdover resets the machine.
    DiskGoneAfterLog,
}
