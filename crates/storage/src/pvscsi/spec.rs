//! Registers, commands and layouts of the device, all of them little-endian.

/// Vendor ID of VMware.
pub(super) const VENDOR: u16 = 0x15ad;
/// Device ID of the host.
pub(super) const DEVICE: u16 = 0x07c0;
/// The last target that a host can have.
pub(super) const LAST_TARGET: u8 = 64;

/// Page numbers are addresses without these bits.
pub(super) const PAGE_SHIFT: u32 = 12;
const PAGE: usize = 1 << PAGE_SHIFT;

/// Entries of a ring of requests of one page.
pub(super) const REQUESTS: usize = PAGE / request::SIZE;
/// Entries of a ring of completions of one page.
pub(super) const COMPLETIONS: usize = PAGE / completion::SIZE;

/// The registers.
pub(super) mod register {
    use crate::register::{ReadOnly, ReadWrite};

    /// Begins a command.
    pub(in crate::pvscsi) const COMMAND: ReadWrite<u32> = ReadWrite::at(0x0000);
    /// Takes what a command needs, word by word; the last one starts it.
    pub(in crate::pvscsi) const COMMAND_DATA: ReadWrite<u32> = ReadWrite::at(0x0004);
    /// How the last command ended.
    pub(in crate::pvscsi) const COMMAND_STATUS: ReadOnly<u32> = ReadOnly::at(0x0008);
    /// Interrupts that wait.
    pub(in crate::pvscsi) const INTERRUPT_STATUS: ReadOnly<u32> = ReadOnly::at(0x100c);
    /// Interrupts that are wanted.
    pub(in crate::pvscsi) const INTERRUPT_MASK: ReadWrite<u32> = ReadWrite::at(0x2010);
    /// Notifies of requests of any kind.
    pub(in crate::pvscsi) const KICK_OTHERS: ReadWrite<u32> = ReadWrite::at(0x3014);
    /// Notifies of requests that read or write blocks.
    pub(in crate::pvscsi) const KICK_TRANSFERS: ReadWrite<u32> = ReadWrite::at(0x4018);
    /// Bytes of the registers.
    pub(in crate::pvscsi) const SIZE: u64 = 0x8000;
}

/// Command: reset everything.
pub(super) const ADAPTER_RESET: u32 = 1;
/// Command: take these rings.
pub(super) const SETUP_RINGS: u32 = 3;
/// Status of a command that failed.
pub(super) const FAILED: u32 = u32::MAX;

/// Most pages of a ring.
const MOST_PAGES: usize = 32;

/// What [`SETUP_RINGS`] needs: the page of the state, and rings of one page each.
pub(super) fn rings(state: u64, requests: u64, completions: u64) -> impl Iterator<Item = u32> {
    let pages = [1, 1].into_iter();
    let first = |page: u64| core::iter::once(page).chain(core::iter::repeat_n(0, MOST_PAGES - 1));
    let numbers = core::iter::once(state).chain(first(requests)).chain(first(completions));
    pages.chain(numbers.flat_map(|number| [number as u32, (number >> 32) as u32]))
}

/// Where things are in the memory that is shared, besides data.
pub(super) mod layout {
    use super::{PAGE, REQUESTS};

    /// The state of the rings.
    pub(in crate::pvscsi) const STATE: usize = 0;
    /// The ring of requests.
    pub(in crate::pvscsi) const REQUEST_RING: usize = PAGE;
    /// The ring of completions.
    pub(in crate::pvscsi) const COMPLETION_RING: usize = 2 * PAGE;
    /// Sense data of each slot.
    pub(in crate::pvscsi) const SENSE: usize = 3 * PAGE;
    /// Bytes between the sense data of two slots.
    pub(in crate::pvscsi) const SENSE_STRIDE: usize = 128;
    /// All of it.
    pub(in crate::pvscsi) const SIZE: usize = SENSE + REQUESTS * SENSE_STRIDE;
}

/// The state of the rings: indices that count on and wrap at 2³².
pub(super) mod state {
    /// Requests that the driver has put on their ring.
    pub(in crate::pvscsi) const REQUESTS_PRODUCED: usize = 0;
    /// Completions that the device has put on theirs.
    pub(in crate::pvscsi) const COMPLETIONS_PRODUCED: usize = 12;
    /// Completions that the driver has taken.
    pub(in crate::pvscsi) const COMPLETIONS_CONSUMED: usize = 16;
}

/// An entry of the ring of requests.
pub(super) mod request {
    use crate::scsi::command::Cdb;

    /// Bytes of an entry.
    pub(in crate::pvscsi) const SIZE: usize = 128;
    /// [`Descriptor::flags`]: the command moves nothing.
    pub(in crate::pvscsi) const NO_DATA: u32 = 1 << 2;
    /// [`Descriptor::flags`]: the device writes the data.
    pub(in crate::pvscsi) const TO_HOST: u32 = 1 << 3;
    /// [`Descriptor::flags`]: the device reads the data.
    pub(in crate::pvscsi) const TO_DEVICE: u32 = 1 << 4;

    /// A command, and where its data and sense data are.
    pub(in crate::pvscsi) struct Descriptor {
        pub(in crate::pvscsi) context: u64,
        pub(in crate::pvscsi) data: u64,
        pub(in crate::pvscsi) data_len: u64,
        pub(in crate::pvscsi) sense: u64,
        pub(in crate::pvscsi) sense_len: u32,
        pub(in crate::pvscsi) flags: u32,
        pub(in crate::pvscsi) cdb: Cdb,
        pub(in crate::pvscsi) cdb_len: u8,
        pub(in crate::pvscsi) target: u8,
        pub(in crate::pvscsi) unit: u16,
    }

    impl Descriptor {
        /// The entry: with the simple task attribute, on bus 0.
        pub(in crate::pvscsi) fn to_bytes(&self) -> [u8; SIZE] {
            const SIMPLE: u8 = 0x20;
            let mut bytes = [0; SIZE];
            for (at, word) in [self.context, self.data, self.data_len, self.sense].iter().enumerate() {
                bytes[8 * at..8 * at + 8].copy_from_slice(&word.to_le_bytes());
            }
            bytes[32..36].copy_from_slice(&self.sense_len.to_le_bytes());
            bytes[36..40].copy_from_slice(&self.flags.to_le_bytes());
            bytes[40..56].copy_from_slice(&self.cdb);
            bytes[56] = self.cdb_len;
            bytes[57..59].copy_from_slice(&unit_address(self.unit));
            bytes[65] = SIMPLE;
            bytes[67] = self.target;
            bytes
        }
    }

    /// The first level of a unit's address (SAM-5, 4.7.7): numbers below 256 by the peripheral method, others by the flat one.
    fn unit_address(unit: u16) -> [u8; 2] {
        let flat = if unit < 256 { 0 } else { 0x4000 };
        (flat | unit).to_be_bytes()
    }
}

/// An entry of the ring of completions.
pub(super) mod completion {
    /// Bytes of an entry.
    pub(in crate::pvscsi) const SIZE: usize = 32;

    /// What became of a request.
    pub(in crate::pvscsi) struct Descriptor {
        pub(in crate::pvscsi) context: u64,
        pub(in crate::pvscsi) sense_len: u32,
        pub(in crate::pvscsi) host_status: u16,
        pub(in crate::pvscsi) unit_status: u16,
    }

    impl Descriptor {
        /// Reads an entry.
        pub(in crate::pvscsi) fn from_bytes(bytes: &[u8; SIZE]) -> Self {
            let [c0, c1, c2, c3, c4, c5, c6, c7, _, _, _, _, _, _, _, _, l0, l1, l2, l3, h0, h1, u0, u1, ..] =
                *bytes;
            Self {
                context: u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
                sense_len: u32::from_le_bytes([l0, l1, l2, l3]),
                host_status: u16::from_le_bytes([h0, h1]),
                unit_status: u16::from_le_bytes([u0, u1]),
            }
        }
    }
}

/// Codes of [`completion::Descriptor::host_status`].
pub(super) mod host_status {
    pub(in crate::pvscsi) const SUCCESS: u16 = 0x00;
    pub(in crate::pvscsi) const LINKED: u16 = 0x0a;
    pub(in crate::pvscsi) const LINKED_WITH_FLAG: u16 = 0x0b;
    /// Fewer bytes were moved than there is room for.
    pub(in crate::pvscsi) const UNDERRUN: u16 = 0x0c;
    /// Another number of bytes was moved than there is room for.
    pub(in crate::pvscsi) const DATA_RUN: u16 = 0x12;
    /// Nobody answered the selection.
    pub(in crate::pvscsi) const NO_TARGET: u16 = 0x11;
    /// The request makes no sense, such as a target that the host cannot have.
    pub(in crate::pvscsi) const BAD_PARAMETER: u16 = 0x1a;
    /// A reset was sent or received, the bus was reset, the queue was cleared.
    pub(in crate::pvscsi) const PASSING: [u16; 4] = [0x22, 0x23, 0x25, 0x26];
}
