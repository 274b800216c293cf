//! The entry that decides how a device's requests are translated: a context entry in legacy mode, a PASID table
//! entry in scalable mode. Both say much the same, in different words.

use machine::{Frames, PAGE_SHIFT};
use paging::Format;
use vtd::context::{ContextEntry, ContextLow, TranslationType};
use vtd::paging::AddressWidth;
use vtd::pasid::{FirstStagePagingMode, PasidEntry, PasidFirstStage, PasidSecondStage, PasidTranslationType};

use crate::entry::{Link, Slot};
use crate::vtd::mode::Mode;

/// Words of a PASID table entry, the longer of the two.
const WORDS: usize = 8;

/// An entry that decides how requests are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A context entry of legacy mode.
    Context(ContextEntry),
    /// A PASID table entry of scalable mode.
    Pasid(PasidEntry),
}

impl Entry {
    /// An entry of this mode that passes all requests of a device through; the caller links it to tables.
    pub(crate) fn new(mode: Mode) -> Self {
        match mode {
            Mode::Legacy => Self::Context(ContextEntry {
                low: ContextLow::new().with_present(true).with_translation(TranslationType::PASS_THROUGH),
                ..ContextEntry::default()
            }),
            Mode::Scalable => Self::Pasid(PasidEntry {
                second: PasidSecondStage::new()
                    .with_present(true)
                    .with_translation(PasidTranslationType::PASS_THROUGH),
                ..PasidEntry::default()
            }),
        }
    }

    /// Domain-id.
    pub const fn domain(&self) -> u16 {
        match self {
            Self::Context(entry) => entry.high.domain(),
            Self::Pasid(entry) => entry.domain.domain(),
        }
    }

    /// Whether the first stage belongs to a guest: the second stage then translates the addresses of its tables and
    /// of all they map.
    pub const fn is_nested(&self) -> bool {
        match self {
            Self::Context(_) => false,
            Self::Pasid(entry) => entry.second.translation().0 == PasidTranslationType::NESTED.0,
        }
    }

    pub(crate) fn has_reserved_bits(&self, host_address_bits: u32) -> bool {
        match self {
            Self::Context(entry) => entry.reserved_bits(host_address_bits) != (0, 0),
            Self::Pasid(entry) => entry.has_reserved_bits(host_address_bits),
        }
    }

    /// The entry with these tables. Ignored bits stay, and so does the translation type unless it was pass-through.
    ///
    /// A nested entry keeps its first-stage pointer, which is a guest address: whatever the tables there say now or
    /// later, the device reaches no more than the second stage allows (3.8).
    pub(crate) fn linked(self, link: Link) -> Self {
        match self {
            Self::Context(entry) => Self::Context(link_context(entry, link)),
            Self::Pasid(entry) => Self::Pasid(match entry.second.translation() {
                PasidTranslationType::PASS_THROUGH => link_pasid(without_tables(entry, link.format), link),
                _ => link_pasid(entry, link),
            }),
        }
    }

    /// The entry that blocks its device. It keeps the old kernel's choice (FPD) whether faults are recorded.
    ///
    /// A blocked device may go on making requests for ever, and its faults are recorded all the same. That is
    /// harmless: once the takeover has read the records that were evidence, nothing else needs them and no interrupt
    /// is raised; and the records show what became of the device.
    pub(crate) fn blocked(self) -> Self {
        match self {
            Self::Context(entry) => {
                let low = ContextLow::new().with_fault_disabled(entry.low.fault_disabled());
                Self::Context(ContextEntry { low, ..ContextEntry::default() })
            }
            Self::Pasid(entry) => {
                let second = PasidSecondStage::new().with_fault_disabled(entry.second.fault_disabled());
                Self::Pasid(PasidEntry { second, ..PasidEntry::default() })
            }
        }
    }

    /// The words of the entry, and how many of them count.
    fn words(&self) -> ([u64; WORDS], usize) {
        match self {
            Self::Context(entry) => {
                let mut words = [0; WORDS];
                words[..2].copy_from_slice(&entry.words());
                (words, 2)
            }
            Self::Pasid(entry) => (entry.words(), WORDS),
        }
    }

    /// Reads the entry in this slot.
    pub(crate) fn load(mode: Mode, slot: Slot, frames: &impl Frames) -> Self {
        let word = |offset| frames.load(slot.table, slot.word + offset);
        match mode {
            Mode::Legacy => Self::Context(ContextEntry::from_words(word(0), word(1))),
            Mode::Scalable => Self::Pasid(PasidEntry::from_words(core::array::from_fn(word))),
        }
    }

    pub(crate) fn is_present(&self) -> bool {
        match self {
            Self::Context(entry) => entry.low.present(),
            Self::Pasid(entry) => entry.second.present(),
        }
    }

    /// Writes the entry in a slot that hardware does not use yet.
    pub(crate) fn fill(&self, slot: Slot, frames: &mut impl Frames) {
        let (words, count) = self.words();
        slot.fill(&words[..count], frames);
    }

    /// Writes the entry in an empty slot that hardware may be reading: the word with the present bit last.
    pub(crate) fn store(&self, slot: Slot, frames: &mut impl Frames) {
        let (words, count) = self.words();
        slot.store(&words[..count], frames);
    }
}

fn link_context(entry: ContextEntry, link: Link) -> ContextEntry {
    let translation = match entry.low.translation() {
        TranslationType::PASS_THROUGH => TranslationType::TRANSLATED,
        other => other,
    };
    let low = entry.low.with_frame(link.root.get() >> PAGE_SHIFT).with_translation(translation);
    ContextEntry { low, high: entry.high.with_width(AddressWidth::of(link.top)).with_domain(link.id) }
}

fn link_pasid(entry: PasidEntry, link: Link) -> PasidEntry {
    let frame = link.root.get() >> PAGE_SHIFT;
    let domain = entry.domain.with_domain(link.id);
    let width = AddressWidth::of(link.top);
    match link.format {
        Format::FirstStage | Format::AmdV2 => {
            let first = entry.first.with_frame(frame).with_mode(FirstStagePagingMode::of(width));
            PasidEntry { first, domain, ..entry }
        }
        Format::SecondStage | Format::AmdV1 => {
            PasidEntry { second: entry.second.with_frame(frame).with_width(width), domain, ..entry }
        }
    }
}

/// An entry that was pass-through, changed to use tables of this stage. Clears the fields that hardware ignored in
/// pass-through and would use now (9.6): pointers, widths, memory types, accessed and dirty bits.
fn without_tables(entry: PasidEntry, format: Format) -> PasidEntry {
    let translation = match format {
        Format::FirstStage | Format::AmdV2 => PasidTranslationType::FIRST_STAGE,
        Format::SecondStage | Format::AmdV1 => PasidTranslationType::SECOND_STAGE,
    };
    let second = PasidSecondStage::new()
        .with_present(true)
        .with_fault_disabled(entry.second.fault_disabled())
        .with_translation(translation);
    let first = PasidFirstStage::new().with_supervisor(entry.first.supervisor());
    PasidEntry { second, first, domain: entry.domain.with_memory_types(false), ..entry }
}
