//! What happened on a machine, for people.

use crate::answer::{Access, Bdf, Reason, Requester};
use amdvi::control::Control;
use machine::PhysicalAddress;
use std::fmt;
use vtd::control::GlobalStatus;

/// How many events are kept; later ones are only counted.
const LIMIT: usize = 100_000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Software wrote a register.
    Wrote {
        /// The specification's name for it.
        register: &'static str,
        /// What was written.
        value: u64,
    },
    /// The unit took a new root table.
    RootTaken {
        /// Where it is.
        address: PhysicalAddress,
    },
    /// The unit took a new device table, or segment of one.
    DeviceTableTaken {
        /// Where it is.
        address: PhysicalAddress,
    },
    /// The unit's control register was written.
    Controlled {
        /// What it says now.
        control: Control,
    },
    /// The unit turned something on or off.
    Switched {
        /// What is on now.
        status: GlobalStatus,
    },
    /// The unit invalidated contexts.
    ForgotContexts,
    /// The unit invalidated PASID entries.
    ForgotPasids,
    /// The unit invalidated translations.
    ForgotTranslations,
    /// The unit invalidated a device table entry.
    ForgotDevice {
        /// The source-id.
        source: u16,
    },
    /// The unit invalidated the interrupts of a device.
    ForgotInterrupts {
        /// The source-id.
        source: u16,
    },
    /// The unit invalidated everything.
    ForgotEverything,
    /// The unit wrote a word of a log.
    Logged {
        /// Where.
        address: PhysicalAddress,
    },
    /// A log had no room: an entry was lost, and the log stopped.
    LogFull,
    /// The unit told a device to invalidate its device-TLB.
    ToldDevice {
        /// The requester whose translations it covers.
        requester: Requester,
    },
    /// A device did not answer, and the queue stopped.
    DeviceSilent {
        /// Its source-id.
        source: u16,
    },
    /// A wait in the invalidation queue completed.
    Waited {
        /// Its status data.
        data: u64,
    },
    /// The queue stopped at a descriptor that it cannot execute.
    QueueStopped {
        /// Bytes from the start of the queue.
        at: u64,
    },
    /// The unit blocked an access.
    Fault {
        /// The access.
        access: Access,
        /// Why.
        reason: Reason,
    },
    /// Software did something that the specification forbids.
    Misused {
        /// What.
        what: &'static str,
    },
    /// A frame was handed to the capture kernel.
    Allocated {
        /// Its address.
        frame: PhysicalAddress,
    },
    /// A frame was given back.
    Released {
        /// Its address.
        frame: PhysicalAddress,
    },
}

/// The events of a machine, each with the step it happened in.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: Vec<(u64, Event)>,
    lost: u64,
}

impl Trace {
    /// The events kept, oldest first, with their steps.
    pub fn events(&self) -> &[(u64, Event)] {
        &self.events
    }

    /// How many events came after the trace was full.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    pub(crate) fn add(&mut self, step: u64, event: Event) {
        if self.events.len() < LIMIT {
            self.events.push((step, event));
        } else {
            self.lost += 1;
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrote { register, value } => write!(f, "{register} is written {value:#x}"),
            Self::RootTaken { address } => write!(f, "the unit takes the root table at {address:#x}"),
            Self::DeviceTableTaken { address } => {
                write!(f, "the unit takes the device table at {address:#x}")
            }
            Self::Controlled { control } => {
                write!(f, "the unit's control register is {:#x}", control.into_bits())
            }
            Self::Switched { status } => write!(f, "the unit's status is {:#010x}", status.into_bits()),
            Self::ForgotContexts => f.write_str("the unit forgets contexts"),
            Self::ForgotPasids => f.write_str("the unit forgets PASIDs"),
            Self::ForgotTranslations => f.write_str("the unit forgets translations"),
            Self::ForgotDevice { source } => write!(f, "the unit forgets the entry of {}", Bdf(*source)),
            Self::ForgotInterrupts { source } => {
                write!(f, "the unit forgets the interrupts of {}", Bdf(*source))
            }
            Self::ForgotEverything => f.write_str("the unit forgets everything"),
            Self::Logged { address } => write!(f, "the unit logs to {address:#x}"),
            Self::LogFull => f.write_str("a log is full, and stops"),
            Self::ToldDevice { requester } => write!(f, "{} is told to forget", Bdf(requester.source)),
            Self::DeviceSilent { source } => write!(f, "{} does not answer: the queue stops", Bdf(*source)),
            Self::Waited { data } => write!(f, "wait {data:#x} is done"),
            Self::QueueStopped { at } => write!(f, "the queue stops at {at:#x}"),
            Self::Fault { access, reason } => write!(f, "fault: {access}, {reason}"),
            Self::Misused { what } => write!(f, "against the rules: {what}"),
            Self::Allocated { frame } => write!(f, "frame {frame:#x} is allocated"),
            Self::Released { frame } => write!(f, "frame {frame:#x} is released"),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, event) in &self.events {
            writeln!(f, "{step:>8}  {event}")?;
        }
        Ok(())
    }
}
