//! Layouts of the AHCI specification, revision 1.3.1, and of the Serial ATA and ATA/ATAPI (ACS) commands that a disk needs.
//!
//! Everything is little-endian. Section numbers without a name are of the AHCI specification.

#![cfg_attr(not(test), expect(clippy::disallowed_methods, reason = "what `bitflags` makes takes no memory"))]

use bitfield_struct::bitfield;

/// Class code of functions with this interface (2.1.5): mass storage, Serial ATA, AHCI.
pub(super) const CLASS: u32 = 0x010601;
/// The BAR that holds the registers (2.1.11).
pub(super) const BAR: u8 = 5;

/// Generic host control (3.1).
pub(super) mod host {
    use crate::register::{ReadOnly, ReadWrite};

    /// CAP: [`Capabilities`](super::Capabilities).
    pub(in crate::ahci) const CAPABILITIES: ReadOnly<u32> = ReadOnly::at(0x00);
    /// GHC: [`Control`](super::Control).
    pub(in crate::ahci) const CONTROL: ReadWrite<u32> = ReadWrite::at(0x04);
    /// PI: a bit for each port that there is, which firmware has written.
    pub(in crate::ahci) const PORTS: ReadWrite<u32> = ReadWrite::at(0x0c);
    /// CAP2: [`HAS_HANDOFF`].
    pub(in crate::ahci) const CAPABILITIES_2: ReadOnly<u32> = ReadOnly::at(0x24);
    /// BOHC: [`Handoff`](super::Handoff).
    pub(in crate::ahci) const HANDOFF: ReadWrite<u32> = ReadWrite::at(0x28);
    /// Bytes in the block.
    pub(in crate::ahci) const SIZE: u64 = 0x100;

    /// [`CAPABILITIES_2`]: there is [`HANDOFF`].
    pub(in crate::ahci) const HAS_HANDOFF: u32 = 1;
}

/// The registers of a port (3.3). Offsets are from the first of them.
pub(super) mod port {
    use crate::register::{Halves, ReadOnly, ReadWrite};

    /// CLB: device address of the command list.
    pub(in crate::ahci) const LIST: ReadWrite<Halves> = ReadWrite::at(0x00);
    /// FB: device address of the memory for received FISes.
    pub(in crate::ahci) const RECEIVED: ReadWrite<Halves> = ReadWrite::at(0x08);
    /// IS: [`Events`](super::Events); a bit that is written as one is cleared.
    pub(in crate::ahci) const EVENTS: ReadWrite<u32> = ReadWrite::at(0x10);
    /// IE: the events that interrupt.
    pub(in crate::ahci) const INTERRUPTS: ReadWrite<u32> = ReadWrite::at(0x14);
    /// CMD: [`Command`](super::Command).
    pub(in crate::ahci) const COMMAND: ReadWrite<u32> = ReadWrite::at(0x18);
    /// TFD: the disk's status in bits 7 to 0, its error in bits 15 to 8.
    pub(in crate::ahci) const TASK_FILE: ReadOnly<u32> = ReadOnly::at(0x20);
    /// SIG: the [`signature`](super::signature) that a device sends after a reset.
    pub(in crate::ahci) const SIGNATURE: ReadOnly<u32> = ReadOnly::at(0x24);
    /// SSTS: the state of the link.
    pub(in crate::ahci) const LINK: ReadOnly<u32> = ReadOnly::at(0x28);
    /// SCTL: [`LinkControl`](super::LinkControl).
    pub(in crate::ahci) const LINK_CONTROL: ReadWrite<u32> = ReadWrite::at(0x2c);
    /// SERR: errors of the link; a bit that is written as one is cleared.
    pub(in crate::ahci) const LINK_ERRORS: ReadWrite<u32> = ReadWrite::at(0x30);
    /// SACT: a bit for each queued command that the disk has not completed.
    pub(in crate::ahci) const ACTIVE: ReadWrite<u32> = ReadWrite::at(0x34);
    /// CI: a bit for each command that the controller has not done with.
    pub(in crate::ahci) const ISSUED: ReadWrite<u32> = ReadWrite::at(0x38);
    /// FBS: switching between the devices behind a port multiplier.
    pub(in crate::ahci) const SWITCHING: ReadWrite<u32> = ReadWrite::at(0x40);

    /// Bytes from the first port's registers to the next one's.
    pub(in crate::ahci) const SIZE: u64 = 0x80;

    /// [`TASK_FILE`], BSY and DRQ: the disk takes no command.
    pub(in crate::ahci) const BUSY: u32 = 0x88;
    /// [`TASK_FILE`]: the disk's status and error.
    pub(in crate::ahci) const STATUS_AND_ERROR: u32 = 0xffff;
    /// [`TASK_FILE`], ICRC among the errors: data was damaged on the link.
    pub(in crate::ahci) const DAMAGED_ON_LINK: u32 = 1 << 15;

    /// [`LINK`], DET: what was detected.
    pub(in crate::ahci) const DETECTION: u32 = 0xf;
    /// [`DETECTION`]: a device is there, and the link works.
    pub(in crate::ahci) const CONNECTED: u32 = 3;
    /// [`DETECTION`]: a device is there, and the link does not work (yet).
    pub(in crate::ahci) const DETECTED: u32 = 1;
}

/// Host capabilities (3.1.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub(super) struct Capabilities {
    /// NP: number of ports, less one.
    #[bits(5)]
    pub(super) ports_less_one: u8,
    #[bits(3)]
    __: u8,
    /// NCS: commands in a list, less one.
    #[bits(5)]
    pub(super) slots_less_one: u8,
    #[bits(3)]
    __: u8,
    /// FBSS: ports have [`port::SWITCHING`].
    pub(super) switching: bool,
    #[bits(13)]
    __: u16,
    /// SNCQ: queued commands are supported.
    pub(super) queuing: bool,
    /// S64A: addresses have 64 bits instead of 32.
    pub(super) wide_addresses: bool,
}

/// Control of a port's link, SCTL (3.3.11).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub(super) struct LinkControl {
    /// DET: 1 resets the link (COMRESET) until it is 0 again.
    #[bits(4)]
    pub(super) reset: u8,
    /// SPD: the highest speed that is allowed; 0 is any.
    #[bits(4)]
    pub(super) speed: u8,
    /// IPM: the power states that the link may not go to; 3 is both Partial and Slumber.
    #[bits(4)]
    pub(super) not_to_sleep: u8,
    #[bits(20)]
    __: u32,
}

bitflags::bitflags! {
    /// Global host control (3.1.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Control: u32 {
        /// HR: resets the controller; it clears the bit when it has done so.
        const RESET = 1;
        /// AE: the controller is used through these registers.
        const AHCI = 1 << 31;
    }

    /// Hand-off between firmware and operating system, BOHC (3.1.11).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Handoff: u32 {
        /// BOS: firmware owns the controller.
        const FIRMWARE = 1;
        /// OOS: the operating system asks for it.
        const SYSTEM = 1 << 1;
        /// SOOE: firmware is told when OOS changes.
        const NOTICE = 1 << 2;
        /// OOC: OOS has changed; the bit is cleared if it is written as one.
        const CHANGED = 1 << 3;
        /// BB: firmware is finishing what it began.
        const BUSY = 1 << 4;
    }

    /// A port's command and status, CMD (3.3.7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Command: u32 {
        /// ST: the port works on its command list.
        const START = 1;
        /// SUD: the device may spin up.
        const SPIN_UP = 1 << 1;
        /// POD: the device has power.
        const POWER = 1 << 2;
        /// FRE: received FISes are stored.
        const RECEIVE = 1 << 4;
        /// FR: the port may still store received FISes.
        const RECEIVING = 1 << 14;
        /// CR: the port may still be at work on its command list.
        const RUNNING = 1 << 15;
        /// ICC, value 1: the link is to be active.
        const WAKE = 1 << 28;
    }

    /// What happened to a port, IS (3.3.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Events: u32 {
        /// PCS: a device announced itself.
        const CONNECT_CHANGE = 1 << 6;
        /// PRCS: the link broke down or came up.
        const LINK_CHANGE = 1 << 22;
        /// OFS: a device sent more than its command was for.
        const OVERFLOW = 1 << 24;
        /// IFS: a fatal error of the link.
        const INTERFACE = 1 << 27;
        /// HBDS: memory with data was damaged.
        const DATA = 1 << 28;
        /// HBFS: an access to memory failed.
        const BUS = 1 << 29;
        /// TFES: the disk reported an error.
        const TASK_FILE = 1 << 30;
    }
}

/// Signatures of devices (Serial ATA 3.x, 11.3.2): the sector count and the address in the first FIS after a reset.
pub(super) mod signature {
    pub(in crate::ahci) const DISK: u32 = 0x0000_0101;
    pub(in crate::ahci) const PACKET: u32 = 0xeb14_0101;
    pub(in crate::ahci) const PORT_MULTIPLIER: u32 = 0x9669_0101;
    pub(in crate::ahci) const ENCLOSURE: u32 = 0xc33c_0101;
}

/// The first 16 bytes of a command header (4.2.2); 16 reserved ones follow.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub(super) struct Header {
    /// CFL: length of the command FIS, in units of four bytes.
    #[bits(5)]
    pub(super) fis_length: u8,
    /// A: the command is a packet.
    packet: bool,
    /// W: data goes to the device.
    pub(super) is_write: bool,
    #[bits(9)]
    __: u16,
    /// PRDTL: how many [`Region`]s the command table has.
    pub(super) regions: u16,
    /// PRDBC: how many bytes were moved.
    bytes: u32,
    /// CTBA: device address of the command table.
    pub(super) table: u64,
}

/// A stretch of memory for data, an entry of the PRDT (4.2.3.3).
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub(super) struct Region {
    /// DBA: device address of its first byte; even.
    pub(super) address: u64,
    __: u32,
    /// DBC: its size in bytes, less one; the size is even.
    #[bits(22)]
    pub(super) size_less_one: u32,
    #[bits(10)]
    __: u16,
}

/// The most bytes that a [`Region`] can have.
pub(super) const LARGEST_REGION: usize = 1 << 22;

/// Offsets in a command table (4.2.3).
pub(super) mod table {
    /// The command FIS.
    pub(in crate::ahci) const FIS: usize = 0;
    /// The first [`Region`](super::Region).
    pub(in crate::ahci) const REGIONS: usize = 0x80;
}

/// Bytes in a command list (4.2.2): 32 headers of 32 bytes. It is aligned to its size.
pub(super) const LIST_SIZE: usize = 0x400;
/// Bytes in the header of a command.
pub(super) const HEADER_SIZE: usize = 32;
/// Bytes for received FISes (4.2.1), aligned to that.
pub(super) const RECEIVED_SIZE: usize = 0x100;

/// Where received FISes of each kind are stored (4.2.1). The first byte of each is its type, which is not zero.
pub(super) mod received {
    /// D2H Register: a command that was not queued has ended, or any has failed.
    pub(in super::super) const REGISTER: usize = 0x40;
    /// Set Device Bits: queued commands have ended.
    pub(in super::super) const SET_DEVICE_BITS: usize = 0x58;
}

/// A command to a disk (ACS-3, 7): the fields that the commands of this driver have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ata {
    /// The code of the command.
    pub(super) code: u8,
    /// The field FEATURE.
    pub(super) features: u16,
    /// The field COUNT.
    pub(super) count: u16,
    /// The first block.
    pub(super) block: u64,
    /// The field DEVICE.
    pub(super) device: u8,
}

impl Ata {
    /// IDENTIFY DEVICE: the disk describes itself in 512 bytes.
    pub(super) const IDENTIFY: Self = Self::bare(0xec);
    /// FLUSH CACHE.
    pub(super) const FLUSH: Self = Self::bare(0xe7);
    /// FLUSH CACHE EXT.
    pub(super) const FLUSH_EXT: Self = Self::bare(0xea);
    /// READ DMA EXT.
    pub(super) const READ: u8 = 0x25;
    /// WRITE DMA EXT.
    pub(super) const WRITE: u8 = 0x35;
    /// READ FPDMA QUEUED.
    pub(super) const READ_QUEUED: u8 = 0x60;
    /// WRITE FPDMA QUEUED.
    pub(super) const WRITE_QUEUED: u8 = 0x61;
    /// DEVICE, bit 6: the address is a block's number.
    pub(super) const BY_NUMBER: u8 = 1 << 6;

    const fn bare(code: u8) -> Self {
        Self { code, features: 0, count: 0, block: 0, device: 0 }
    }

    /// The FIS that takes the command to the disk, Register – Host to Device (Serial ATA 3.x, 10.5.5).
    pub(super) fn fis(self) -> [u8; 20] {
        const KIND: u8 = 0x27;
        /// The FIS holds a command.
        const COMMAND: u8 = 0x80;
        let Self { code, features, count, block, device } = self;
        let [b0, b1, b2, b3, b4, b5, ..] = block.to_le_bytes();
        let ([f0, f1], [c0, c1]) = (features.to_le_bytes(), count.to_le_bytes());
        [KIND, COMMAND, code, f0, b0, b1, b2, device, b3, b4, b5, f1, c0, c1, 0, 0, 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct ahci_cmd_hdr` of Linux, whose `opts` are `fis_len | n_elem << 16 | AHCI_CMD_WRITE`.
    #[test]
    fn a_header_is_laid_out_as_linux_has_it() {
        let header =
            Header::new().with_fis_length(5).with_is_write(true).with_regions(1).with_table(0x1_2345_6780);
        let bytes = [0x45, 0, 1, 0, 0, 0, 0, 0, 0x80, 0x67, 0x45, 0x23, 1, 0, 0, 0];
        assert_eq!(header.into_bits().to_le_bytes(), bytes);
    }

    /// `struct ahci_sg` of Linux: `addr`, `addr_hi`, `reserved`, `flags_size`.
    #[test]
    fn a_region_is_laid_out_as_linux_has_it() {
        let region = Region::new().with_address(0x1_2345_6000).with_size_less_one(0xffff);
        let bytes = [0, 0x60, 0x45, 0x23, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
        assert_eq!(region.into_bits().to_le_bytes(), bytes);
    }

    /// As `ata_tf_to_fis` of Linux lays it out.
    #[test]
    fn a_command_is_laid_out_as_linux_has_it() {
        let ata =
            Ata { code: Ata::WRITE, features: 0xf1f0, count: 0xc1c0, block: 0x0605_0403_0201, device: 0x40 };
        let bytes = [0x27, 0x80, 0x35, 0xf0, 1, 2, 3, 0x40, 4, 5, 6, 0xf1, 0xc0, 0xc1, 0, 0, 0, 0, 0, 0];
        assert_eq!(ata.fis(), bytes);
    }
}
