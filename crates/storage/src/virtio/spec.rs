//! Layouts of the Virtual I/O Device specification, version 1.2, as far as a disk needs them.
//!
//! Everything is little-endian. Section numbers are of that specification.

#![cfg_attr(not(test), expect(clippy::disallowed_methods, reason = "what `bitflags` makes takes no memory"))]

use bitfield_struct::bitfield;

/// Vendor ID of all virtio functions (4.1.2).
pub(super) const VENDOR: u16 = 0x1af4;
/// Device ID of a disk (4.1.2.1).
pub(super) const BLOCK: u16 = 0x1042;
/// The queue of a disk (5.2.2).
pub(super) const BLOCK_QUEUE: u16 = 0;
/// Device ID of a SCSI host (4.1.2.1).
pub(super) const SCSI: u16 = 0x1048;
/// Device ID of a SCSI host that also speaks the interface before version 1 (4.1.2.3).
pub(super) const TRANSITIONAL_SCSI: u16 = 0x1004;
/// The first queue for requests of a SCSI host (5.6.2).
pub(super) const SCSI_REQUEST_QUEUE: u16 = 2;
/// Device ID of a disk that also speaks the interface before version 1 (4.1.2.3).
pub(super) const TRANSITIONAL_BLOCK: u16 = 0x1001;

/// `struct virtio_pci_cap` (4.1.4): which part of a BAR holds a structure. Offsets are from the capability's first byte.
pub(super) mod capability {
    use crate::register::ReadOnly;

    /// ID of a vendor's own capability, which this is.
    pub(in crate::virtio) const VENDOR_SPECIFIC: u8 = 0x09;

    /// Bytes in the capability.
    pub(in crate::virtio) const LENGTH: ReadOnly<u8> = ReadOnly::at(2);
    /// The type of the structure that the capability locates.
    pub(in crate::virtio) const TYPE: ReadOnly<u8> = ReadOnly::at(3);
    /// Index of the BAR; 6 and above are reserved.
    pub(in crate::virtio) const BAR: ReadOnly<u8> = ReadOnly::at(4);
    /// Where in the BAR the structure begins, in bytes.
    pub(in crate::virtio) const OFFSET: ReadOnly<u32> = ReadOnly::at(8);
    /// Bytes in the structure.
    pub(in crate::virtio) const STRUCTURE_LENGTH: ReadOnly<u32> = ReadOnly::at(12);
    /// Bytes in a capability of these fields.
    pub(in crate::virtio) const SIZE: usize = 16;

    /// Bytes between the notification addresses of two queues (4.1.4.4); only in the capability of the notification structure.
    pub(in crate::virtio) const NOTIFY_MULTIPLIER: ReadOnly<u32> = ReadOnly::at(16);
    /// Bytes in that capability.
    pub(in crate::virtio) const NOTIFY_SIZE: usize = 20;

    /// [`TYPE`] of the common configuration (4.1.4.3).
    pub(in crate::virtio) const COMMON: u8 = 1;
    /// [`TYPE`] of the notification structure (4.1.4.4).
    pub(in crate::virtio) const NOTIFY: u8 = 2;
    /// [`TYPE`] of the configuration that is particular to the kind of device (4.1.4.6).
    pub(in crate::virtio) const DEVICE: u8 = 4;
}

/// `struct virtio_pci_common_cfg` (4.1.4.3).
pub(super) mod common {
    use crate::register::{Halves, ReadOnly, ReadWrite};

    /// Which 32 of the device's feature bits [`DEVICE_FEATURE`] shows.
    pub(in crate::virtio) const DEVICE_FEATURE_SELECT: ReadWrite<u32> = ReadWrite::at(0);
    /// The feature bits that the device offers.
    pub(in crate::virtio) const DEVICE_FEATURE: ReadOnly<u32> = ReadOnly::at(4);
    /// Which 32 of the driver's feature bits [`DRIVER_FEATURE`] shows.
    pub(in crate::virtio) const DRIVER_FEATURE_SELECT: ReadWrite<u32> = ReadWrite::at(8);
    /// The feature bits that the driver accepts.
    pub(in crate::virtio) const DRIVER_FEATURE: ReadWrite<u32> = ReadWrite::at(12);
    /// [`Status`](super::Status); writing 0 resets the device.
    pub(in crate::virtio) const DEVICE_STATUS: ReadWrite<u8> = ReadWrite::at(20);
    /// Changes each time the device changes its configuration.
    pub(in crate::virtio) const CONFIG_GENERATION: ReadOnly<u8> = ReadOnly::at(21);
    /// Which queue the fields below are of.
    pub(in crate::virtio) const QUEUE_SELECT: ReadWrite<u16> = ReadWrite::at(22);
    /// Entries of the queue: on reset, as many as it can have; 0 if there is no such queue.
    pub(in crate::virtio) const QUEUE_SIZE: ReadWrite<u16> = ReadWrite::at(24);
    /// 1 when the device may use the queue.
    pub(in crate::virtio) const QUEUE_ENABLE: ReadWrite<u16> = ReadWrite::at(28);
    /// Where the queue is notified, in units of the notification structure's multiplier.
    pub(in crate::virtio) const QUEUE_NOTIFY_OFF: ReadOnly<u16> = ReadOnly::at(30);
    /// Device address of the descriptors. Every device takes a 64-bit field as two accesses of 32 bits (4.1.3.1).
    pub(in crate::virtio) const QUEUE_DESC: ReadWrite<Halves> = ReadWrite::at(32);
    /// Device address of the available ring.
    pub(in crate::virtio) const QUEUE_DRIVER: ReadWrite<Halves> = ReadWrite::at(40);
    /// Device address of the used ring.
    pub(in crate::virtio) const QUEUE_DEVICE: ReadWrite<Halves> = ReadWrite::at(48);
    /// Bytes in the structure up to here.
    pub(in crate::virtio) const SIZE: u32 = 56;
}

/// `struct virtio_blk_config` (5.2.4): the device's own configuration of a disk.
pub(super) mod block {
    use crate::register::{Halves, ReadOnly};

    /// Size of the disk, in [`SECTOR`](super::SECTOR)s.
    pub(in crate::virtio) const CAPACITY: ReadOnly<Halves> = ReadOnly::at(0);
    /// Largest segment in bytes, with the feature [`BLK_SIZE_MAX`](super::Features::BLK_SIZE_MAX).
    pub(in crate::virtio) const SIZE_MAX: ReadOnly<u32> = ReadOnly::at(8);
    /// Bytes in a block, with the feature [`BLK_BLK_SIZE`](super::Features::BLK_BLK_SIZE).
    pub(in crate::virtio) const BLK_SIZE: ReadOnly<u32> = ReadOnly::at(20);
    /// Bytes in the structure up to here.
    pub(in crate::virtio) const SIZE: u32 = 24;
}

/// `struct virtio_scsi_config` (5.6.4): the device's own configuration of a SCSI host.
pub(super) mod scsi {
    use crate::register::ReadOnly;

    /// Most sectors that one command should move.
    pub(in crate::virtio) const MAX_SECTORS: ReadOnly<u32> = ReadOnly::at(8);
    /// Bytes of sense data in a response.
    pub(in crate::virtio) const SENSE_SIZE: ReadOnly<u32> = ReadOnly::at(20);
    /// Bytes of a command.
    pub(in crate::virtio) const CDB_SIZE: ReadOnly<u32> = ReadOnly::at(24);
    /// The last target.
    pub(in crate::virtio) const MAX_TARGET: ReadOnly<u16> = ReadOnly::at(30);
    /// Bytes in the structure.
    pub(in crate::virtio) const SIZE: u32 = 36;
    /// Bytes in a sector.
    pub(in crate::virtio) const SECTOR: usize = 512;
}

/// `struct virtio_scsi_req_cmd` (5.6.6.1): what the device reads of a command, and what it writes about it, besides data.
pub(super) mod scsi_request {
    use crate::scsi::command::Cdb;
    use crate::scsi::sense;

    /// Bytes of a command.
    pub(in crate::virtio) const CDB_SIZE: usize = 32;
    /// Bytes that the device reads.
    pub(in crate::virtio) const HEADER_SIZE: usize = 19 + CDB_SIZE;
    /// Where the response is.
    pub(in crate::virtio) const RESPONSE: usize = 64;
    /// Bytes that the device writes.
    pub(in crate::virtio) const RESPONSE_SIZE: usize = 12 + sense::SIZE;
    /// In the response: sense data.
    pub(in crate::virtio) const SENSE: usize = 12;
    /// Bytes between two slots.
    pub(in crate::virtio) const STRIDE: usize = 256;
    /// A response that no device gives: it stands there before the device has answered.
    pub(in crate::virtio) const NO_RESPONSE: [u8; RESPONSE_SIZE] = [0xff; RESPONSE_SIZE];

    /// What the device reads: the unit's address, the command's number, and the command, with the simple task attribute.
    pub(in crate::virtio) fn header(target: u8, unit: u16, number: u64, cdb: Cdb) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        let [high, low] = unit.to_be_bytes();
        bytes[..4].copy_from_slice(&[1, target, 0x40 | high, low]);
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        bytes[19..19 + cdb.len()].copy_from_slice(&cdb);
        bytes
    }
}

/// Codes of the field `response` (5.6.6.1).
pub(super) mod scsi_response {
    pub(in crate::virtio) const OK: u8 = 0;
    pub(in crate::virtio) const ABORTED: u8 = 2;
    pub(in crate::virtio) const BAD_TARGET: u8 = 3;
    pub(in crate::virtio) const RESET: u8 = 4;
    pub(in crate::virtio) const BUSY: u8 = 5;
}

bitflags::bitflags! {
    /// Device status (2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Status: u8 {
        /// The driver has found the device.
        const ACKNOWLEDGE = 1;
        /// The driver knows how to drive it.
        const DRIVER = 2;
        /// The driver is ready.
        const DRIVER_OK = 4;
        /// Features are agreed on.
        const FEATURES_OK = 8;
        /// The driver has given up.
        const FAILED = 128;
    }

    /// Features of any device (6) and of block devices (5.2.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Features: u64 {
        /// The device limits the size of a segment.
        const BLK_SIZE_MAX = 1 << 1;
        /// The disk cannot be written.
        const BLK_RO = 1 << 5;
        /// The configuration tells the block size.
        const BLK_BLK_SIZE = 1 << 6;
        /// There is a cache, and a request to empty it.
        const BLK_FLUSH = 1 << 9;
        /// The device keeps to version 1 of the specification.
        const VERSION_1 = 1 << 32;
        /// The device accesses memory like other devices of the platform: an IOMMU may remap its accesses.
        const ACCESS_PLATFORM = 1 << 33;
        /// The device is real hardware, which needs real barriers.
        const ORDER_PLATFORM = 1 << 36;
    }
}

/// `struct virtq_desc`, 16 bytes (2.7.5): a stretch of memory for the device.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Device address of its first byte.
    pub(super) address: u64,
    /// Its size in bytes.
    pub(super) len: u32,
    /// NEXT: the chain goes on at [`next`](Self::next).
    pub(super) has_next: bool,
    /// WRITE: the device writes the memory instead of reading it.
    pub(super) device_writes: bool,
    #[bits(14)]
    __: u16,
    /// Index of the next descriptor of the chain.
    pub(super) next: u16,
}

/// An entry of the used ring, `struct virtq_used_elem`, 8 bytes (2.7.8): two fields of 32 bits.
pub(super) mod used {
    /// First descriptor of the chain that the device has done with.
    pub(in crate::virtio) const ID: usize = 0;
    /// Bytes that the device wrote.
    pub(in crate::virtio) const LEN: usize = 4;
    /// Bytes in the entry.
    pub(in crate::virtio) const SIZE: usize = 8;
}

/// Both rings, `struct virtq_avail` and `struct virtq_used` (2.7.6, 2.7.8): two fields of 16 bits, then the entries.
pub(super) mod ring {
    /// Flags by which the ring's writer suppresses notifications.
    pub(in crate::virtio) const FLAGS: usize = 0;
    /// Index of the next entry, modulo 2¹⁶.
    pub(in crate::virtio) const INDEX: usize = 2;
    /// The first entry.
    pub(in crate::virtio) const ENTRIES: usize = 4;
    /// Bytes in an entry of the available ring: the first descriptor of a chain.
    pub(in crate::virtio) const AVAILABLE_SIZE: usize = 2;
    /// Bytes behind the entries: a field that is not used without the feature `VIRTIO_F_EVENT_IDX`.
    pub(in crate::virtio) const TRAILER: usize = 2;

    /// [`FLAGS`] of the available ring: the driver wants no interrupt.
    pub(in crate::virtio) const NO_INTERRUPT: u16 = 1;
    /// [`FLAGS`] of the used ring: the device wants no notification.
    pub(in crate::virtio) const NO_NOTIFY: u16 = 1;
}

/// The header of `struct virtio_blk_req`, 16 bytes (5.2.6), which the device reads.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub(super) struct RequestHeader {
    /// The kind of request.
    pub(super) kind: u32,
    __: u32,
    /// The first sector that is moved, in [`SECTOR`]s.
    pub(super) sector: u64,
}

/// The unit of sectors, whatever the block size is (5.2.6).
pub(super) const SECTOR: u64 = 512;

/// Codes of [`RequestHeader::kind`] (5.2.6): read, write, empty the cache.
pub(super) mod kind {
    pub(in crate::virtio) const IN: u32 = 0;
    pub(in crate::virtio) const OUT: u32 = 1;
    pub(in crate::virtio) const FLUSH: u32 = 4;
}

/// Status of a request that was done (5.2.6): a byte behind its data, which the device writes.
pub(super) const STATUS_OK: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct virtq_desc` of Linux, with `VRING_DESC_F_NEXT` 1 and `VRING_DESC_F_WRITE` 2.
    #[test]
    fn a_descriptor_is_laid_out_as_linux_has_it() {
        let descriptor = Descriptor::new()
            .with_address(0x0102_0304_0506_0708)
            .with_len(0x1112_1314)
            .with_has_next(true)
            .with_device_writes(true)
            .with_next(0x2122);
        let bytes = [8, 7, 6, 5, 4, 3, 2, 1, 0x14, 0x13, 0x12, 0x11, 3, 0, 0x22, 0x21];
        assert_eq!(descriptor.into_bits().to_le_bytes(), bytes);
    }

    /// `struct virtio_blk_outhdr` of Linux: `type`, `ioprio`, `sector`.
    #[test]
    fn a_requests_header_is_laid_out_as_linux_has_it() {
        let header = RequestHeader::new().with_kind(kind::FLUSH).with_sector(0x0102);
        assert_eq!(header.into_bits().to_le_bytes(), [4, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    }
}
