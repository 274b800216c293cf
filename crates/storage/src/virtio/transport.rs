//! How a virtio device is found and brought up over PCI (section 4.1).

use core::time::Duration;

use machine::{Clock, IoAddress, Registers, TimedOut, wait_until};
use pci::capabilities;

/// Where on the device's BARs one of its structures lies (4.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Index of the BAR, 0 to 5.
    pub bar: u8,
    /// Byte offset from the start of the BAR. Whether it lies inside the BAR is for whoever maps it to check.
    pub offset: u32,
    /// Size in bytes; at least what the structure needs.
    pub length: u32,
}

/// Where a device's structures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The common configuration (4.1.4.3).
    pub common: Structure,
    /// Where queues are notified (4.1.4.4).
    pub notify: Structure,
    /// Bytes between the notification addresses of two queues.
    pub notify_multiplier: u32,
    /// What is particular to the kind of device (4.1.4.6).
    pub device: Structure,
}

/// Why a function is no virtio device that can be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// There is no usable capability for a structure.
    #[error("no usable capability for the {0} structure")]
    Missing(&'static str),
    /// The caller could not map a structure.
    #[error("{0:?} could not be mapped")]
    Unmapped(Structure),
}

/// Capability ID of a vendor's own capabilities, which these are.
const VENDOR_SPECIFIC: u8 = 0x09;

/// Fields of `struct virtio_pci_cap` (4.1.4).
mod capability {
    pub(super) const LENGTH: usize = 2;
    pub(super) const TYPE: usize = 3;
    pub(super) const BAR: usize = 4;
    pub(super) const OFFSET: usize = 8;
    pub(super) const STRUCTURE_LENGTH: usize = 12;
    pub(super) const SIZE: usize = 16;
    /// Only in that of the notification structure.
    pub(super) const NOTIFY_MULTIPLIER: usize = 16;
    pub(super) const NOTIFY_SIZE: usize = 20;

    pub(super) const TYPE_COMMON: u8 = 1;
    pub(super) const TYPE_NOTIFY: u8 = 2;
    pub(super) const TYPE_DEVICE: u8 = 4;
}

/// `struct virtio_pci_common_cfg` (4.1.4.3): offsets in bytes; the width is in the name of the access.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0;
    pub(super) const DEVICE_FEATURE: usize = 4;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 8;
    pub(super) const DRIVER_FEATURE: usize = 12;
    pub(super) const DEVICE_STATUS: usize = 20;
    pub(super) const CONFIG_GENERATION: usize = 21;
    pub(super) const QUEUE_SELECT: usize = 22;
    pub(super) const QUEUE_SIZE: usize = 24;
    pub(super) const QUEUE_ENABLE: usize = 28;
    pub(super) const QUEUE_NOTIFY_OFF: usize = 30;
    pub(super) const QUEUE_DESC: usize = 32;
    pub(super) const QUEUE_DRIVER: usize = 40;
    pub(super) const QUEUE_DEVICE: usize = 48;
    pub(super) const SIZE: u32 = 56;
}

bitflags::bitflags! {
    /// Device status (2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Status: u8 {
        const ACKNOWLEDGE = 1;
        const DRIVER = 2;
        const DRIVER_OK = 4;
        const FEATURES_OK = 8;
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
        /// The device reaches memory as other devices do, through whatever remaps their accesses.
        const ACCESS_PLATFORM = 1 << 33;
        /// The device is real hardware, which needs real barriers.
        const ORDER_PLATFORM = 1 << 36;
    }
}

/// Which addresses a device is to be given (6, `VIRTIO_F_ACCESS_PLATFORM`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// Those that any PCI device in its place would be given: I/O addresses, if they are remapped.
    Platform,
    /// Physical addresses: the device, being the hypervisor, passes by whatever remaps.
    Physical,
}

/// The registers of one device.
pub struct Transport<R> {
    common: R,
    notify: R,
    device: R,
    notify_multiplier: u32,
    notify_length: u32,
    patience: Duration,
}

/// Where a queue is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doorbell {
    offset: usize,
}

/// Device addresses of the parts of a queue (2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueAddresses {
    pub(super) descriptors: IoAddress,
    pub(super) available: IoAddress,
    pub(super) used: IoAddress,
}

impl Capabilities {
    /// Reads from a function's configuration space where its structures are.
    ///
    /// `device_length` is what the kind of device needs of its own structure. A device may offer several of a type, in
    /// its order of preference: the first that can be right is taken.
    pub(super) fn find(configuration: &impl Registers, device_length: u32) -> Result<Self, TransportError> {
        let first = |wanted: u8, size: usize, length: u32| {
            capabilities::standard(configuration)
                .filter(|&(id, _)| id == VENDOR_SPECIFIC)
                .filter(|&(_, at)| configuration.read8(at + capability::TYPE) == wanted)
                .find_map(|(_, at)| Some((at, Structure::read(configuration, at, size, length)?)))
        };
        let (_, common) = first(capability::TYPE_COMMON, capability::SIZE, common::SIZE)
            .ok_or(TransportError::Missing("common configuration"))?;
        let (at, notify) = first(capability::TYPE_NOTIFY, capability::NOTIFY_SIZE, 2)
            .ok_or(TransportError::Missing("notification"))?;
        let (_, device) = first(capability::TYPE_DEVICE, capability::SIZE, device_length)
            .ok_or(TransportError::Missing("device configuration"))?;
        let notify_multiplier = configuration.read32(at + capability::NOTIFY_MULTIPLIER);
        Ok(Self { common, notify, notify_multiplier, device })
    }
}

impl Structure {
    /// Reads the capability of `size` bytes at `at`, if it is whole and tells of at least `length` bytes.
    fn read(configuration: &impl Registers, at: usize, size: usize, length: u32) -> Option<Self> {
        let inside = at + size <= capabilities::STANDARD_SIZE;
        if !inside || usize::from(configuration.read8(at + capability::LENGTH)) < size {
            return None;
        }
        let structure = Self {
            bar: configuration.read8(at + capability::BAR),
            offset: configuration.read32(at + capability::OFFSET),
            length: configuration.read32(at + capability::STRUCTURE_LENGTH),
        };
        (structure.bar < 6 && structure.offset.is_multiple_of(4) && structure.length >= length)
            .then_some(structure)
    }
}

impl<R: Registers> Transport<R> {
    /// Takes the structures as `map` maps them. `map` answers `None` for what does not lie inside a memory BAR.
    ///
    /// `patience` is the longest wait for the device to have reset itself, to show a configuration that it is not changing,
    /// and to complete its first request.
    pub fn new(
        capabilities: &Capabilities,
        patience: Duration,
        mut map: impl FnMut(Structure) -> Option<R>,
    ) -> Result<Self, TransportError> {
        let mut map = |structure| map(structure).ok_or(TransportError::Unmapped(structure));
        Ok(Self {
            common: map(capabilities.common)?,
            notify: map(capabilities.notify)?,
            device: map(capabilities.device)?,
            notify_multiplier: capabilities.notify_multiplier,
            notify_length: capabilities.notify.length,
            patience,
        })
    }

    /// The longest wait for each of the device's first steps.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Which addresses the device is to be given.
    pub fn addressing(&mut self) -> Addressing {
        if self.offered().contains(Features::ACCESS_PLATFORM) {
            Addressing::Platform
        } else {
            Addressing::Physical
        }
    }

    /// The features that the device offers, of those that are known here.
    pub(super) fn offered(&mut self) -> Features {
        self.common.write32(common::DEVICE_FEATURE_SELECT, 0);
        let low = self.common.read32(common::DEVICE_FEATURE);
        self.common.write32(common::DEVICE_FEATURE_SELECT, 1);
        let high = self.common.read32(common::DEVICE_FEATURE);
        Features::from_bits_truncate(u64::from(high) << 32 | u64::from(low))
    }

    /// Resets the device: it forgets its queues and stops touching memory (2.4, 4.1.4.3.1).
    pub(super) fn reset(&mut self, clock: &impl Clock) -> Result<(), TimedOut> {
        self.common.write8(common::DEVICE_STATUS, 0);
        wait_until(clock, self.patience, || self.status().is_empty())
    }

    /// The status bits that are set, of those that are known here.
    pub(super) fn status(&self) -> Status {
        Status::from_bits_retain(self.common.read8(common::DEVICE_STATUS))
    }

    /// Sets status bits on top of those that are set.
    pub(super) fn advance(&mut self, status: Status) {
        let status = self.status() | status;
        self.common.write8(common::DEVICE_STATUS, status.bits());
    }

    /// Accepts features; whether the device is content shows in its status.
    pub(super) fn accept(&mut self, features: Features) {
        let bits = features.bits();
        self.common.write32(common::DRIVER_FEATURE_SELECT, 0);
        self.common.write32(common::DRIVER_FEATURE, bits as u32);
        self.common.write32(common::DRIVER_FEATURE_SELECT, 1);
        self.common.write32(common::DRIVER_FEATURE, (bits >> 32) as u32);
    }

    /// Entries that queue 0 can have; 0 if there is no such queue.
    pub(super) fn queue_size(&mut self) -> u16 {
        self.common.write16(common::QUEUE_SELECT, 0);
        self.common.read16(common::QUEUE_SIZE)
    }

    /// Sets queue 0 up and enables it (4.1.5.1.3). `None` if its doorbell is outside the notification structure.
    pub(super) fn enable_queue(&mut self, size: u16, addresses: QueueAddresses) -> Option<Doorbell> {
        self.common.write16(common::QUEUE_SELECT, 0);
        self.common.write16(common::QUEUE_SIZE, size);
        self.write64(common::QUEUE_DESC, addresses.descriptors);
        self.write64(common::QUEUE_DRIVER, addresses.available);
        self.write64(common::QUEUE_DEVICE, addresses.used);
        let doorbell = self.doorbell()?;
        self.common.write16(common::QUEUE_ENABLE, 1);
        Some(doorbell)
    }

    /// Where the selected queue is notified (4.1.4.4).
    fn doorbell(&self) -> Option<Doorbell> {
        let number = u32::from(self.common.read16(common::QUEUE_NOTIFY_OFF));
        let offset = number.checked_mul(self.notify_multiplier)?;
        let inside = offset.is_multiple_of(2) && offset.checked_add(2)? <= self.notify_length;
        inside.then_some(Doorbell { offset: offset as usize })
    }

    /// Tells the device that queue 0 has something available.
    pub(super) fn ring(&mut self, doorbell: Doorbell) {
        self.notify.write16(doorbell.offset, 0);
    }

    /// Reads from the device's own configuration with `read`, again if it changed meanwhile (4.1.4.3.1).
    pub(super) fn read_configuration<T>(
        &self,
        clock: &impl Clock,
        mut read: impl FnMut(&R) -> T,
    ) -> Result<T, TimedOut> {
        let mut value = read(&self.device);
        wait_until(clock, self.patience, || {
            let before = self.generation();
            value = read(&self.device);
            self.generation() == before
        })?;
        Ok(value)
    }

    fn generation(&self) -> u8 {
        self.common.read8(common::CONFIG_GENERATION)
    }

    /// Writes a 64-bit field, as two of 32 bits, which every device takes (4.1.3.1).
    fn write64(&mut self, offset: usize, value: IoAddress) {
        let value = value.get();
        self.common.write32(offset, value as u32);
        self.common.write32(offset + 4, (value >> 32) as u32);
    }
}
