//! The device table, in one piece or in segments, and what an entry says of requests (2.2.2).

use super::{Abort, Context, Guest, Host, Table, Translation, Walker};
use crate::answer::Answer;
use crate::reached::Rights;
use amdvi::control::{Control, DeviceTableBase};
use amdvi::device_table::{DeviceTableEntry, ENTRY_BYTES, GuestPagingMode, InterruptControl, PagingMode};
use machine::{IoAddress, PhysicalAddress, Range};

/// Bits of a source-id.
const SOURCE_BITS: u32 = 16;
/// Bytes of an entry of an interrupt table: of 128 bits where guest virtual APIC is on, otherwise of 32 (2.2.5).
const WIDE_INTERRUPT: u64 = 16;
const NARROW_INTERRUPT: u64 = 4;
/// The highest IntTabLen: 2048 entries.
const LONGEST_INTERRUPT_TABLE: u8 = 11;

/// The registers that decide how a unit translates.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bases {
    pub(crate) control: Control,
    /// The device table, or its segments.
    pub(crate) segments: [DeviceTableBase; 8],
    /// The exclusion range; empty if there is none.
    pub(crate) exclusion: Range<PhysicalAddress>,
    pub(crate) excluded: ExcludedFor,
}

/// For which devices the exclusion range is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ExcludedFor {
    /// For those whose entry has EX.
    #[default]
    Some,
    /// For all (Allow).
    All,
}

/// How many page faults of a device are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reports {
    All,
    /// The first since the unit fetched the device's entry (SE).
    First,
    /// None (SA).
    None,
}

impl Reports {
    pub(crate) fn of(entry: DeviceTableEntry) -> Self {
        match (entry.guest.suppress_faults(), entry.guest.suppress_further_faults()) {
            _ if !entry.host.valid() => Self::All,
            (true, _) => Self::None,
            (false, true) => Self::First,
            (false, false) => Self::All,
        }
    }
}

impl Bases {
    /// The device table, or its first segment.
    pub(crate) fn address(self) -> PhysicalAddress {
        self.segments[0].table().start
    }

    /// How many entries there are in all segments.
    pub(crate) fn entries(self) -> usize {
        let segments = self.control.segments();
        self.segments
            .iter()
            .take(segments)
            .map(|base| base.entries().min((1 << SOURCE_BITS) / segments))
            .sum()
    }

    /// Where the entry of a device is; `None` if the table has none for it. The highest bits of the source-id select the
    /// segment (2.2.2.3).
    pub(crate) fn place(self, source: u16) -> Option<PhysicalAddress> {
        let segments = self.control.segments();
        let bits = SOURCE_BITS - segments.ilog2();
        let (segment, index) = (usize::from(source) >> bits, usize::from(source) & ((1 << bits) - 1));
        let base = *self.segments.get(segment)?;
        let offset = (index * ENTRY_BYTES) as u64;
        (index < base.entries()).then(|| base.table().start.saturating_add(offset))
    }
}

impl Walker<'_> {
    /// The entry of a device; one of zeros if the table has none for it.
    pub(crate) fn entry(&self, source: u16) -> Result<DeviceTableEntry, Abort> {
        let Some(at) = self.bases.place(source) else { return Ok(DeviceTableEntry::default()) };
        let mut words = [0; 4];
        for (offset, word) in (0..).step_by(8).zip(&mut words) {
            *word = self.memory.read(at.saturating_add(offset)).ok_or(Abort::EntryUnreadable)?;
        }
        Ok(DeviceTableEntry::from_words(words))
    }

    /// What an entry says of requests with this PASID, or without one.
    pub(crate) fn context_of(&self, entry: DeviceTableEntry, pasid: Option<u32>) -> Result<Context, Abort> {
        if !entry.host.valid() {
            let (rights, translation) = (Rights::ALL, Translation::Untranslated);
            return Ok(Context { domain: 0, device_tlb: false, rights, translation });
        }
        let [host, guest, ..] = entry.reserved_bits();
        if host | guest != 0 {
            return Err(Abort::IllegalEntry);
        }
        if !entry.host.translation_valid() {
            return Err(Abort::NoTranslation);
        }
        let translation = self.translation(entry, pasid)?;
        let rights = Rights { read: entry.host.read(), write: entry.host.write() };
        let (domain, device_tlb) = (entry.guest.domain(), entry.guest.device_tlb());
        Ok(Context { domain, device_tlb, rights, translation })
    }

    fn translation(&self, entry: DeviceTableEntry, pasid: Option<u32>) -> Result<Translation, Abort> {
        let host = self.host_of(entry)?;
        let guest = self.guest_of(entry)?;
        let own = |guest: &Guest| entry.host.guest_without_pasid().then_some(*guest);
        match (pasid, guest) {
            (Some(pasid), Some(guest)) => Ok(Translation::Guest(Guest { pasid, ..guest }, host)),
            (Some(_), None) => Err(Abort::InvalidRequest),
            (None, guest) => Ok(match (guest.as_ref().and_then(own), host) {
                (Some(guest), host) => Translation::Guest(guest, host),
                (None, Some(host)) => Translation::Host(host),
                (None, None) => Translation::Untranslated,
            }),
        }
    }

    fn host_of(&self, entry: DeviceTableEntry) -> Result<Option<Host>, Abort> {
        if entry.host.mode() == PagingMode::NONE {
            return Ok(None);
        }
        let highest = self.traits.feature.host_levels();
        let level = entry.host.mode().top().filter(|level| Some(*level) <= highest);
        let level = level.ok_or(Abort::IllegalEntry)?;
        let marks = entry.host.accessed_dirty() & self.control().host_accessed_dirty();
        Ok(Some(Host { root: Table { address: entry.table(), level, rights: Rights::ALL }, marks }))
    }

    /// The guest tables of an entry, if it has any, for PASID 0.
    fn guest_of(&self, entry: DeviceTableEntry) -> Result<Option<Guest>, Abort> {
        if !entry.host.guest_valid() || !self.control().guest_translation() {
            return Ok(None);
        }
        let highest = self.traits.feature.guest_levels();
        let mode: GuestPagingMode = entry.interrupts.guest_mode();
        let top = mode.top().filter(|level| Some(*level) <= highest).ok_or(Abort::IllegalEntry)?;
        let cr3_levels = entry.host.cr3_levels();
        if cr3_levels > self.traits.feature.glx().min(2) {
            return Err(Abort::IllegalEntry);
        }
        Ok(Some(Guest { cr3_table: entry.cr3_table(), cr3_levels: cr3_levels + 1, pasid: 0, top }))
    }

    /// Whether an address is in the exclusion range of a device.
    pub(super) fn is_excluded(&self, entry: DeviceTableEntry, iova: IoAddress) -> bool {
        let its = self.bases.excluded == ExcludedFor::All || entry.guest.exclusion();
        entry.host.valid() && its && self.bases.exclusion.contains(PhysicalAddress::new(iova.get()))
    }

    /// What becomes of an interrupt message. The number of the interrupt is in the message's data; here the address stands for
    /// it.
    pub(super) fn message(&self, entry: DeviceTableEntry, iova: IoAddress) -> Result<Answer, Abort> {
        if !entry.interrupts.valid() {
            return Ok(Answer::Interrupt);
        }
        if entry.reserved_bits()[2] != 0 || entry.interrupts.length() > LONGEST_INTERRUPT_TABLE {
            return Err(Abort::IllegalEntry);
        }
        match entry.interrupts.control() {
            InterruptControl::PASS => Ok(Answer::Interrupt),
            InterruptControl::REMAP => self.interrupt(entry, iova.get() >> 2 & 0x7FF).map(Answer::Remapped),
            InterruptControl::ABORT => Err(Abort::NotAllowed),
            _ => Err(Abort::IllegalEntry),
        }
    }

    /// The first word of an entry of an interrupt table.
    fn interrupt(&self, entry: DeviceTableEntry, number: u64) -> Result<u64, Abort> {
        if number >> entry.interrupts.length() != 0 {
            return Err(Abort::NotPresent);
        }
        let size = if self.control().ga() { WIDE_INTERRUPT } else { NARROW_INTERRUPT };
        let at = entry.interrupt_table().saturating_add(number * size);
        let word = self.memory.read(at.align_down(8)).ok_or(Abort::TableUnreadable)?;
        Ok(if size == NARROW_INTERRUPT { word >> (at.get() % 8 * 8) & 0xFFFF_FFFF } else { word })
    }
}
