//! One remapping unit: reads its registers.
//!
//! Nothing here changes what the unit does; [`CommandedUnit`](crate::amdvi::command::CommandedUnit) gives the commands.

use alloc::vec::Vec;

use amdvi::HYPERTRANSPORT;
use amdvi::control::{
    BUFFER_OFFSET, BufferBase, Control, DeviceTableBase, ExclusionBase, ExclusionLimit, Status,
};
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use amdvi::registers::{self, Register};
use machine::{IoAddress, PAGE_SHIFT, PhysicalAddress, Range, Registers};

use crate::unit::{RegisterValue, UnitError};
use machine::growth::collected;

/// The register that shows what runs.
pub(crate) const STATUS: &str = "Status";

/// A remapping unit.
#[derive(Debug)]
pub struct Unit<'c, R, C> {
    registers: R,
    clock: &'c C,
    feature: ExtendedFeature,
    feature_2: ExtendedFeature2,
}

impl<'c, R: Registers, C> Unit<'c, R, C> {
    /// Makes a unit from `registers`, a block of [`BYTES`](registers::BYTES) bytes.
    ///
    /// This only reads; the takeover uses `clock` for its waits.
    pub fn new(registers: R, clock: &'c C) -> Result<Self, UnitError> {
        let control = registers.read64(registers::CONTROL.offset);
        if control == u64::MAX {
            return Err(UnitError::NotThere { register: registers::CONTROL.name, value: control });
        }
        let feature = ExtendedFeature::from_bits(registers.read64(registers::EXTENDED_FEATURE.offset));
        let feature_2 = ExtendedFeature2::from_bits(registers.read64(registers::EXTENDED_FEATURE_2.offset));
        Ok(Self { registers, clock, feature, feature_2 })
    }

    /// The clock for waits on the unit.
    pub(crate) fn clock(&self) -> &'c C {
        self.clock
    }

    /// EFR.
    pub fn feature(&self) -> ExtendedFeature {
        self.feature
    }

    /// EFR2.
    pub fn feature_2(&self) -> ExtendedFeature2 {
        self.feature_2
    }

    /// Control: what is on.
    pub fn control(&self) -> Control {
        Control::from_bits(self.read(registers::CONTROL))
    }

    /// Status: what runs, and what happened.
    pub fn status(&self) -> Status {
        Status::from_bits(self.read(registers::STATUS))
    }

    /// The base of a segment of the device table; segment 0 is all of it where there is one.
    pub fn device_table(&self, segment: usize) -> DeviceTableBase {
        DeviceTableBase::from_bits(self.read(table_register(segment)))
    }

    /// The base of the command buffer or a log.
    pub fn buffer(&self, register: Register) -> BufferBase {
        BufferBase::from_bits(self.read(register))
    }

    /// What a head or tail register says: bytes from the start of the buffer.
    pub(crate) fn offset(&self, register: Register) -> u64 {
        self.read(register) & BUFFER_OFFSET
    }

    /// Whether the unit has fetched all commands.
    pub(crate) fn has_fetched_all(&self) -> bool {
        self.offset(registers::COMMAND_HEAD) == self.offset(registers::COMMAND_TAIL)
    }

    /// The first page to which completion waits may store where secure nested paging is on (3.4.4); `None` if the unit does not know
    /// that, or the page is not set.
    pub(crate) fn store_page(&self) -> Option<PhysicalAddress> {
        let base = ExclusionBase::from_bits(self.read(registers::EXCLUSION_BASE));
        let is_set = self.feature.snp() && !base.enabled() && base.frame() != 0;
        is_set.then(|| PhysicalAddress::new(base.frame() << PAGE_SHIFT))
    }

    /// The exclusion range: requests to it pass untranslated, those of all devices or of some. Empty where there is none.
    pub(crate) fn exclusion(&self) -> Range<PhysicalAddress> {
        let base = ExclusionBase::from_bits(self.read(registers::EXCLUSION_BASE));
        base.range(ExclusionLimit::from_bits(self.read(registers::EXCLUSION_LIMIT)))
    }

    /// Addresses that the unit does not translate, whatever the tables say.
    pub(crate) fn untranslated(&self) -> [Range<IoAddress>; 2] {
        let Range { start, end } = self.exclusion();
        let hypertransport = if self.feature_2.ht_range_ignore() { Range::default() } else { HYPERTRANSPORT };
        [hypertransport, Range::from(start.get()..end.get())]
    }

    /// Any register, for a report.
    pub fn read(&self, register: Register) -> u64 {
        self.registers.read64(register.offset)
    }

    /// All registers; none if there is no memory for them.
    pub(crate) fn readable(&self) -> Vec<RegisterValue> {
        let segments = (1..self.control().segments()).filter_map(registers::device_table_segment);
        let all = registers::ALL.into_iter().chain(segments);
        collected(all.map(|register| (register.offset, self.read(register)))).unwrap_or_default()
    }

    pub(crate) fn write(&mut self, register: Register, value: u64) {
        self.registers.write64(register.offset, value);
    }
}

/// The register that holds the base of a segment of the device table.
pub(crate) const fn table_register(segment: usize) -> Register {
    match registers::device_table_segment(segment) {
        Some(register) => register,
        None => registers::DEVICE_TABLE,
    }
}
