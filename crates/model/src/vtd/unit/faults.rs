//! Fault status and fault records (7.3, 11.4.7).

use super::VtdUnit;
use crate::answer::{Access, Direction};
use crate::trace::Event;
use machine::SourceId;
use vtd::fault::{FaultReason, FaultRecord, FaultRecordHigh, FaultRecordLow, FaultStatus};
use vtd::registers::{FRCD_SIZE, FSTS};

impl VtdUnit {
    /// FSTS, with the bits that depend on the records.
    pub(super) fn fault_status(&self) -> u32 {
        let stored = FaultStatus::from_bits(self.get32(FSTS.offset));
        let first = (0..self.records()).find(|index| self.record_at(*index).high.fault());
        stored.with_ppf(first.is_some()).with_fri(first.unwrap_or(0) as u8).into_bits()
    }

    /// Sets errors of the queue.
    pub(crate) fn fail_queue(&mut self, errors: FaultStatus) {
        self.set32(FSTS.offset, self.get32(FSTS.offset) | errors.into_bits());
    }

    /// Clears the bits that are written as one, if they can be cleared; a queue that had stopped goes on.
    pub(super) fn clear_faults(&mut self, value: u32) {
        self.set32(FSTS.offset, self.get32(FSTS.offset) & !value);
    }

    /// Records a fault, or that one was lost (7.3.1).
    pub(super) fn record(&mut self, access: Access, reason: FaultReason) {
        self.events.push(Event::Fault { access, reason: reason.into() });
        let status = FaultStatus::from_bits(self.get32(FSTS.offset));
        if status.pfo() {
            return;
        }
        if self.record_at(self.next_record).high.fault() {
            self.set32(FSTS.offset, status.with_pfo(true).into_bits());
            return;
        }
        let high = FaultRecordHigh::new()
            .with_source(SourceId(access.source))
            .with_reason(reason)
            .with_pasid_present(access.pasid.is_some())
            .with_pasid(access.pasid.unwrap_or(0))
            .with_t1(access.direction == Direction::Read)
            .with_fault(true);
        let offset = self.record_offset(self.next_record);
        self.set64(offset, FaultRecordLow::new().with_frame(access.iova.get() >> 12).into_bits());
        self.set64(offset + 8, high.into_bits());
        self.next_record = (self.next_record + 1) % self.records();
    }

    /// Whether a register is part of a fault record.
    pub(super) fn is_fault_record(&self, offset: usize) -> bool {
        (self.record_offset(0)..self.traits.capability.fault_records_end()).contains(&offset)
    }

    /// Handles a write to a fault record: only F, its highest bit, can be written, and only cleared.
    pub(super) fn clear_record(&mut self, offset: usize, value: u32) {
        if offset % FRCD_SIZE == FRCD_SIZE - 4 {
            self.set32(offset, self.get32(offset) & !(value & 1 << 31));
        }
    }

    fn records(&self) -> usize {
        self.traits.capability.fault_records()
    }

    fn record_at(&self, index: usize) -> FaultRecord {
        let offset = self.record_offset(index);
        FaultRecord::from_words(self.get64(offset), self.get64(offset + 8))
    }

    fn record_offset(&self, index: usize) -> usize {
        self.traits.capability.fault_record_offset() + index * FRCD_SIZE
    }
}
