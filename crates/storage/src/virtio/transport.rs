//! Finds a virtio device over PCI and initializes it (section 4.1).

use core::time::Duration;

use machine::{Clock, IoAddress, Registers, TimedOut, wait_until};
use pci::capabilities;

use super::spec::{Features, Status, capability, common};
use crate::access::{Addressing, BarRange, DeviceAccess};
use crate::error::{OpenError, StartError};
use crate::register::Halves;

/// Where a device's structures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The common configuration (4.1.4.3).
    pub common: BarRange,
    /// Where queues are notified (4.1.4.4).
    pub notify: BarRange,
    /// Bytes between the notification addresses of two queues.
    pub notify_multiplier: u32,
    /// The configuration that is specific to the kind of device (4.1.4.6).
    pub device: BarRange,
}

/// The registers of one device.
pub(super) struct Transport<R> {
    common: R,
    notify: R,
    device: R,
    notify_multiplier: u32,
    notify_length: u64,
    patience: Duration,
}

/// Where a queue is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doorbell {
    offset: usize,
    /// The queue.
    queue: u16,
}

/// Device addresses of the parts of a queue (2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueAddresses {
    pub(super) descriptors: IoAddress,
    pub(super) available: IoAddress,
    pub(super) used: IoAddress,
}

impl Capabilities {
    /// Finds a device's structures by its configuration space.
    ///
    /// `device_length` is the size that this kind of device needs of its own structure. A device may offer several
    /// structures of a type, in its order of preference: the first plausible one is used.
    pub(super) fn find(configuration: &impl Registers, device_length: u32) -> Result<Self, StartError> {
        let first = |wanted: u8, size: usize, length: u32| {
            capabilities::standard(configuration)
                .filter(|&(id, _)| id == capability::VENDOR_SPECIFIC)
                .filter(|&(_, at)| capability::TYPE.of(at).read(configuration) == wanted)
                .find_map(|(_, at)| Some((at, read_structure(configuration, at, size, length)?)))
        };
        let (_, common) = first(capability::COMMON, capability::SIZE, common::SIZE)
            .ok_or(StartError::Missing("common configuration"))?;
        let (at, notify) = first(capability::NOTIFY, capability::NOTIFY_SIZE, 2)
            .ok_or(StartError::Missing("notification"))?;
        let (_, device) = first(capability::DEVICE, capability::SIZE, device_length)
            .ok_or(StartError::Missing("device configuration"))?;
        let notify_multiplier = capability::NOTIFY_MULTIPLIER.of(at).read(configuration);
        Ok(Self { common, notify, notify_multiplier, device })
    }
}

/// Reads the capability of `size` bytes at `at`, if it is whole and tells of at least `length` bytes.
fn read_structure(configuration: &impl Registers, at: usize, size: usize, length: u32) -> Option<BarRange> {
    let inside = at + size <= capabilities::STANDARD_SIZE;
    if !inside || usize::from(capability::LENGTH.of(at).read(configuration)) < size {
        return None;
    }
    let offset = capability::OFFSET.of(at).read(configuration);
    let told = capability::STRUCTURE_LENGTH.of(at).read(configuration);
    let bar = capability::BAR.of(at).read(configuration);
    let range = BarRange { bar, offset: offset.into(), length: told.into() };
    (bar < 6 && offset.is_multiple_of(4) && told >= length).then_some(range)
}

impl<R: Registers> Transport<R> {
    /// Starts a device (3.1.1), whatever it was doing for somebody else. `bring_up` agrees on features and sets up queues, with
    /// memory at addresses of the given kind.
    ///
    /// After the reset the device is asked again which addresses it uses. A device that changed its answer is refused: it would
    /// write to memory that is not the driver's.
    pub(super) fn start<A: DeviceAccess<Registers = R>, T>(
        access: &mut A,
        capabilities: &Capabilities,
        clock: &impl Clock,
        patience: Duration,
        bring_up: impl FnOnce(&mut Self, &mut A, Addressing) -> Result<T, StartError>,
    ) -> Result<(Self, T), OpenError<A::Refusal>> {
        let mut transport = Self::map(access, capabilities, patience)?;
        let addressing = transport.addressing();
        access.attach(addressing).map_err(OpenError::Attach)?;
        let parts = transport.initialize(clock, |transport| bring_up(transport, access, addressing))?;
        Ok((transport, parts))
    }

    /// Resets a device and initializes it. `bring_up` agrees on features and sets up queues.
    pub(super) fn initialize<T>(
        &mut self,
        clock: &impl Clock,
        bring_up: impl FnOnce(&mut Self) -> Result<T, StartError>,
    ) -> Result<T, StartError> {
        self.reset(clock)?;
        self.advance(Status::ACKNOWLEDGE);
        self.advance(Status::DRIVER);
        let parts = bring_up(self);
        self.advance(if parts.is_ok() { Status::DRIVER_OK } else { Status::FAILED });
        parts
    }

    /// Accepts version 1 and those of the `useful` features that the device offers; returns what was accepted.
    pub(super) fn negotiate(
        &mut self,
        addressing: Addressing,
        useful: Features,
    ) -> Result<Features, StartError> {
        let offered = self.offered();
        if !offered.contains(Features::VERSION_1) {
            return Err(StartError::Features);
        }
        let wanted = self.addressing();
        if wanted != addressing {
            return Err(StartError::Addressing(wanted));
        }
        let accepted = offered & useful | Features::VERSION_1;
        self.accept(accepted);
        self.advance(Status::FEATURES_OK);
        // The device clears the bit if it does not support the accepted features (3.1.1, step 6).
        if self.status().contains(Status::FEATURES_OK) { Ok(accepted) } else { Err(StartError::Features) }
    }

    /// Maps the structures of a device.
    ///
    /// `patience` is the longest wait for the device to finish its reset, and to show a configuration that it is not
    /// changing.
    fn map<A: DeviceAccess<Registers = R>>(
        access: &mut A,
        capabilities: &Capabilities,
        patience: Duration,
    ) -> Result<Self, StartError> {
        let mut map = |range| access.map(range).ok_or(StartError::Unmapped(range));
        Ok(Self {
            common: map(capabilities.common)?,
            notify: map(capabilities.notify)?,
            device: map(capabilities.device)?,
            notify_multiplier: capabilities.notify_multiplier,
            notify_length: capabilities.notify.length,
            patience,
        })
    }

    /// The kind of addresses that the device uses (6, `VIRTIO_F_ACCESS_PLATFORM`).
    fn addressing(&mut self) -> Addressing {
        if self.offered().contains(Features::ACCESS_PLATFORM) {
            Addressing::Platform
        } else {
            Addressing::Physical
        }
    }

    /// The features that the device offers, of those that are known here.
    pub(super) fn offered(&mut self) -> Features {
        common::DEVICE_FEATURE_SELECT.write(&mut self.common, 0);
        let low = common::DEVICE_FEATURE.read(&self.common);
        common::DEVICE_FEATURE_SELECT.write(&mut self.common, 1);
        let high = common::DEVICE_FEATURE.read(&self.common);
        Features::from_bits_truncate(u64::from(high) << 32 | u64::from(low))
    }

    /// Resets the device: it forgets its queues and stops touching memory (2.4, 4.1.4.3.1).
    pub(super) fn reset(&mut self, clock: &impl Clock) -> Result<(), TimedOut> {
        common::DEVICE_STATUS.write(&mut self.common, 0);
        wait_until(clock, self.patience, || self.status().is_empty())
    }

    /// The status bits that are set, of those that are known here.
    fn status(&self) -> Status {
        Status::from_bits_retain(common::DEVICE_STATUS.read(&self.common))
    }

    /// Sets status bits on top of those that are set.
    fn advance(&mut self, status: Status) {
        let status = self.status() | status;
        common::DEVICE_STATUS.write(&mut self.common, status.bits());
    }

    /// Accepts features; the device's status then shows whether it agrees.
    fn accept(&mut self, features: Features) {
        let bits = features.bits();
        common::DRIVER_FEATURE_SELECT.write(&mut self.common, 0);
        common::DRIVER_FEATURE.write(&mut self.common, bits as u32);
        common::DRIVER_FEATURE_SELECT.write(&mut self.common, 1);
        common::DRIVER_FEATURE.write(&mut self.common, (bits >> 32) as u32);
    }

    /// Entries that a queue can have; 0 if there is no such queue.
    pub(super) fn queue_size(&mut self, queue: u16) -> u16 {
        common::QUEUE_SELECT.write(&mut self.common, queue);
        common::QUEUE_SIZE.read(&self.common)
    }

    /// Sets a queue up and enables it (4.1.5.1.3). `None` if its doorbell is outside the notification structure.
    pub(super) fn enable_queue(
        &mut self,
        queue: u16,
        size: u16,
        addresses: QueueAddresses,
    ) -> Option<Doorbell> {
        common::QUEUE_SELECT.write(&mut self.common, queue);
        common::QUEUE_SIZE.write(&mut self.common, size);
        let Self { common, .. } = self;
        common::QUEUE_DESC.write(common, Halves(addresses.descriptors.get()));
        common::QUEUE_DRIVER.write(common, Halves(addresses.available.get()));
        common::QUEUE_DEVICE.write(common, Halves(addresses.used.get()));
        let doorbell = self.doorbell(queue)?;
        common::QUEUE_ENABLE.write(&mut self.common, 1);
        Some(doorbell)
    }

    /// Where the selected queue is notified (4.1.4.4).
    fn doorbell(&self, queue: u16) -> Option<Doorbell> {
        let number = u64::from(common::QUEUE_NOTIFY_OFF.read(&self.common));
        let offset = number * u64::from(self.notify_multiplier);
        let inside = offset.is_multiple_of(2) && offset + 2 <= self.notify_length;
        inside.then_some(Doorbell { offset: offset as usize, queue })
    }

    /// Tells the device that a queue has something available.
    pub(super) fn ring(&mut self, doorbell: Doorbell) {
        self.notify.write16(doorbell.offset, doorbell.queue);
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
        common::CONFIG_GENERATION.read(&self.common)
    }
}
