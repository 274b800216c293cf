//! One remapping unit: reads its registers.
//!
//! Nothing here changes what the unit does; [`CommandedUnit`](crate::vtd::command::CommandedUnit) gives the commands.

use alloc::vec::Vec;

use machine::Registers;
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::{GlobalStatus, RootTableAddress};
use vtd::fault::{FaultRecord, FaultRecordHigh, FaultStatus, PageRequestStatus};
use vtd::queue::QueueErrorRecord;
use vtd::registers::{self, Access, FIXED, FRCD_SIZE, IOTLB_FROM_IRO, Register, Width};

use crate::unit::{RegisterValue, UnitError};
use machine::growth::{collected, push};

/// How many fault records are read as evidence.
const FAULT_RECORDS_READ: usize = 8;

/// The register that shows the result of global commands.
pub(crate) const STATUS: &str = "GSTS";

/// A remapping unit.
#[derive(Debug)]
pub struct Unit<'c, R, C> {
    registers: R,
    clock: &'c C,
    capability: Capability,
    extended: ExtendedCapability,
    /// Bytes of the block.
    size: usize,
}

impl<'c, R: Registers, C> Unit<'c, R, C> {
    /// Makes a unit from `registers`, a block of `size` bytes (at least a page, see
    /// [`register_bytes`](Self::register_bytes)).
    ///
    /// This only reads; the takeover uses `clock` for its waits. If the capability registers place some registers
    /// outside the block, the takeover works without them: it reads no fault records, and invalidates by queue only.
    pub fn new(registers: R, size: usize, clock: &'c C) -> Result<Self, UnitError> {
        let version = registers.read32(registers::VER.offset);
        if version == 0 || version == u32::MAX {
            return Err(UnitError::NotThere { register: "VER", value: version.into() });
        }
        let capability = Capability::from_bits(registers.read64(registers::CAP.offset));
        let extended = ExtendedCapability::from_bits(registers.read64(registers::ECAP.offset));
        Ok(Self { registers, clock, capability, extended, size })
    }

    /// How many bytes the unit's registers take from the start of the block, according to its capability registers.
    /// Firmware may have reported fewer.
    pub fn register_bytes(&self) -> usize {
        self.iotlb_end().max(self.capability.fault_records_end())
    }

    fn iotlb_end(&self) -> usize {
        self.extended.iotlb_offset() + IOTLB_FROM_IRO + 8
    }

    /// Checks that register-based invalidation of translations is possible.
    pub(crate) fn check_iotlb(&self) -> Result<(), UnitError> {
        if self.iotlb_end() <= self.size { Ok(()) } else { Err(UnitError::Outside("IOTLB")) }
    }

    /// The clock for waits on the unit.
    pub(crate) fn clock(&self) -> &'c C {
        self.clock
    }

    /// CAP.
    pub fn capability(&self) -> Capability {
        self.capability
    }

    /// ECAP.
    pub fn extended_capability(&self) -> ExtendedCapability {
        self.extended
    }

    /// GSTS: what is on.
    pub fn status(&self) -> GlobalStatus {
        GlobalStatus::from_bits(self.registers.read32(registers::GSTS.offset))
    }

    /// RTADDR: the root table.
    pub fn root_table(&self) -> RootTableAddress {
        RootTableAddress::from_bits(self.read(registers::RTADDR))
    }

    /// IQERCD: details of an error of the queue.
    pub fn queue_error(&self) -> QueueErrorRecord {
        QueueErrorRecord::from_bits(self.read(registers::IQERCD))
    }

    /// PRS: the state of the page request queue; all clear on units without one.
    pub fn page_requests(&self) -> PageRequestStatus {
        if !self.extended.prs() {
            return PageRequestStatus::new();
        }
        PageRequestStatus::from_bits(self.registers.read32(registers::PRS.offset))
    }

    /// FSTS: pending faults and errors of the queue.
    pub fn fault_status(&self) -> FaultStatus {
        FaultStatus::from_bits(self.registers.read32(registers::FSTS.offset))
    }

    /// The errors on which the queue has stopped. A wrong answer of a device (ICE) stops nothing.
    pub(crate) fn queue_stops(&self) -> FaultStatus {
        self.fault_status().only(FaultStatus::QUEUE_STOPS)
    }

    /// Any register at a fixed place, for a report.
    pub fn read(&self, register: Register) -> u64 {
        match register.width {
            Width::Bits32 => u64::from(self.registers.read32(register.offset)),
            Width::Bits64 => self.registers.read64(register.offset),
        }
    }

    /// All registers at fixed places that can be read; none if there is no memory for them.
    pub(crate) fn readable(&self) -> Vec<RegisterValue> {
        let readable = FIXED.into_iter().filter(|register| register.access != Access::WriteOnly);
        collected(readable.map(|register| (register.offset, self.read(register)))).unwrap_or_default()
    }

    /// Reads the first recorded faults in the order in which they were recorded, and clears all records, so that
    /// later faults are seen as new (11.4.7).
    ///
    /// Records that are not listed, because memory is short or there are too many, are cleared all the same.
    pub(crate) fn take_faults(&mut self) -> Vec<FaultRecord> {
        let status = self.fault_status();
        let (first, count) = (usize::from(status.fri()), self.fault_records());
        let mut taken = Vec::new();
        for index in (0..count).map(|offset| (first + offset) % count) {
            let record = self.take_fault(index);
            if let Some(record) = record.filter(|_| taken.len() < FAULT_RECORDS_READ) {
                let _ = push(&mut taken, record);
            }
        }
        // Writing the set bits back clears them: overflow of the records, the fault log's bits, errors of a queue.
        self.write(registers::FSTS, u64::from(status.into_bits()));
        taken
    }

    /// How many fault records there are in the block.
    fn fault_records(&self) -> usize {
        let room = self.size.saturating_sub(self.capability.fault_record_offset());
        self.capability.fault_records().min(room / FRCD_SIZE)
    }

    fn take_fault(&mut self, index: usize) -> Option<FaultRecord> {
        let offset = self.capability.fault_record_offset() + index * FRCD_SIZE;
        let high = self.registers.read64(offset + 8);
        let record = FaultRecord::from_words(self.registers.read64(offset), high);
        if !record.high.fault() {
            return None;
        }
        // F is cleared by a write of one to the record's last word of 32 bits; the other bits are read only.
        let clear = FaultRecordHigh::new().with_fault(true).into_bits();
        self.registers.write32(offset + 12, (clear >> 32) as u32);
        Some(record)
    }

    pub(crate) fn write(&mut self, register: Register, value: u64) {
        match register.width {
            Width::Bits32 => self.registers.write32(register.offset, value as u32),
            Width::Bits64 => self.registers.write64(register.offset, value),
        }
    }

    /// Writes the register `from_iro` bytes into the IOTLB group.
    pub(crate) fn write_iotlb(&mut self, from_iro: usize, value: u64) {
        self.registers.write64(self.extended.iotlb_offset() + from_iro, value);
    }

    /// Reads the IOTLB invalidate register.
    pub(crate) fn read_iotlb(&self) -> u64 {
        self.registers.read64(self.extended.iotlb_offset() + IOTLB_FROM_IRO)
    }
}
