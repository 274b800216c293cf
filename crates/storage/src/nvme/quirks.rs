//! What some controllers need beyond the specification, of those that a server may have.
//!
//! The other peculiarities that Linux knows of do not matter here. They concern power states, identifiers of namespaces,
//! commands and interrupts that are not used, and speed; Apple's controllers, with other entries and doorbells, are in no server.
//! Where a peculiarity costs nothing, every controller is treated so: PRP lists at multiples of 512 bytes, identifiers of
//! commands below the queue's size, a queue of medium priority, device addresses below 2⁴⁸, and a fall-back for controllers that
//! cannot list their namespaces.

use core::time::Duration;

use pci::Identity;

/// What a controller needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quirks {
    /// Time for which the controller must be left alone after it was turned off.
    pub(super) rest: Duration,
    /// Entries that a queue can have although the controller tells of one.
    pub(super) entries: Option<u16>,
}

/// The controllers that must be left alone: vendor and device.
const RESTING: [(u16, u16); 6] = [
    // Samsung PM1725 and PM1725a
    (0x144d, 0xa821),
    (0x144d, 0xa822),
    // Seagate Nytro
    (0x1bb1, 0x0100),
    // HGST, WDC SN200
    (0x1c58, 0x0003),
    (0x1c58, 0x0023),
    // Memblaze PBlaze4
    (0x1c5f, 0x0540),
];

/// The time for which Linux leaves them alone.
const REST: Duration = Duration::from_millis(2300);

/// Controllers that tell of queues of one entry: Samsung's PM1725 and PM1725a.
const TELLING_OF_ONE: [(u16, u16); 2] = [(0x144d, 0xa821), (0x144d, 0xa822)];

impl Quirks {
    /// The quirks of a controller.
    pub(super) fn of(Identity { vendor, device, .. }: Identity) -> Self {
        let rest = if RESTING.contains(&(vendor, device)) { REST } else { Duration::ZERO };
        Self { rest, entries: TELLING_OF_ONE.contains(&(vendor, device)).then_some(64) }
    }
}
