//! The entry that decides how a device's requests are translated: a context entry in legacy mode, a PASID table
//! entry in scalable mode. Both say much the same, in different words.

use machine::{Clock, Frames, PAGE_SHIFT, Registers};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::context::{ContextEntry, ContextHigh, ContextLow, TranslationType};
use vtd::paging::AddressWidth;
use vtd::pasid::{PasidDomain, PasidEntry, PasidSecondStage, PasidTranslationType};

use crate::Unit;
use crate::census::{Domain, Translation};
use crate::hazard::Danger;
use crate::mode::Mode;

/// Words of the longer kind.
const WORDS: usize = 8;

/// An entry that decides how requests are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A context entry of legacy mode.
    Context(ContextEntry),
    /// A PASID table entry of scalable mode.
    Pasid(PasidEntry),
}

/// Where an entry is in own frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) table: u64,
    /// First word.
    pub(crate) word: usize,
}

/// What a unit can do, as far as entries depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    pub(crate) capability: Capability,
    pub(crate) extended: ExtendedCapability,
}

impl Abilities {
    pub(crate) fn of<R: Registers, C: Clock>(unit: &Unit<'_, R, C>) -> Self {
        Self { capability: unit.capability(), extended: unit.extended_capability() }
    }

    /// The domain that a present entry puts its device into, if hardware accepts the entry (9.3, 9.6).
    pub(crate) fn judge(self, entry: Entry, host_address_bits: u32) -> Result<Domain, Danger> {
        if entry.has_reserved_bits(host_address_bits) {
            return Err(Danger::ReservedBits);
        }
        let id = entry.domain();
        if u32::from(id) >= self.capability.domains() {
            return Err(Danger::DomainIdTooLarge(id));
        }
        let translation = match entry {
            Entry::Context(entry) => self.context_translation(entry)?,
            Entry::Pasid(entry) => self.pasid_translation(entry)?,
        };
        let width = self.width(entry);
        let top = width.top().filter(|_| self.capability.supports(width));
        let top = top.ok_or(Danger::UnsupportedWidth(width))?;
        Ok(Domain { id, translation, width, top, tables: 0, upper_tables: 0 })
    }

    fn context_translation(self, entry: ContextEntry) -> Result<Translation, Danger> {
        match entry.low.translation() {
            TranslationType::TRANSLATED => Ok(Translation::Tables(entry.table())),
            TranslationType::DEVICE_TLB if self.extended.dt() => Ok(Translation::Tables(entry.table())),
            TranslationType::PASS_THROUGH if self.extended.pt() => Ok(Translation::Identity),
            other => Err(Danger::UnsupportedType(other)),
        }
    }

    fn pasid_translation(self, entry: PasidEntry) -> Result<Translation, Danger> {
        match entry.second.translation() {
            PasidTranslationType::SECOND_STAGE if self.extended.ssts() => {
                Ok(Translation::Tables(entry.second_stage_table()))
            }
            PasidTranslationType::PASS_THROUGH if self.extended.pt() && self.extended.ssts() => {
                Ok(Translation::Identity)
            }
            other => Err(Danger::UnsupportedPasidType(other)),
        }
    }

    /// The width of an entry's tables. A PASID entry that passes through need not say any: its addresses are as
    /// wide as the unit's widest tables.
    fn width(self, entry: Entry) -> AddressWidth {
        let widths = [AddressWidth::BITS_57, AddressWidth::BITS_48, AddressWidth::BITS_39];
        let widest = widths.into_iter().find(|width| self.capability.supports(*width));
        match entry {
            Entry::Context(entry) => entry.high.width(),
            Entry::Pasid(entry) => match (entry.second.translation(), widest) {
                (PasidTranslationType::PASS_THROUGH, Some(widest)) => widest,
                _ => entry.second.width(),
            },
        }
    }
}

impl Entry {
    /// A present entry of this mode for tables that translate all requests of a device.
    pub(crate) fn new(mode: Mode, width: AddressWidth, domain: u16) -> Self {
        match mode {
            Mode::Legacy => Self::Context(ContextEntry {
                low: ContextLow::new().with_present(true).with_translation(TranslationType::TRANSLATED),
                high: ContextHigh::new().with_width(width).with_domain(domain),
            }),
            Mode::Scalable => Self::Pasid(PasidEntry {
                second: PasidSecondStage::new()
                    .with_present(true)
                    .with_width(width)
                    .with_translation(PasidTranslationType::SECOND_STAGE),
                domain: PasidDomain::new().with_domain(domain),
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

    fn has_reserved_bits(&self, host_address_bits: u32) -> bool {
        match self {
            Self::Context(entry) => entry.reserved_bits(host_address_bits) != (0, 0),
            Self::Pasid(entry) => entry.has_reserved_bits(host_address_bits),
        }
    }

    /// The entry with these tables under this id; ignored bits stay, and so does the type unless it was pass-through.
    pub(crate) fn linked(self, root: u64, width: AddressWidth, id: u16) -> Self {
        let frame = root >> PAGE_SHIFT;
        match self {
            Self::Context(ContextEntry { low, high }) => {
                let translation = match low.translation() {
                    TranslationType::PASS_THROUGH => TranslationType::TRANSLATED,
                    other => other,
                };
                let low = low.with_frame(frame).with_translation(translation);
                Self::Context(ContextEntry { low, high: high.with_width(width).with_domain(id) })
            }
            Self::Pasid(entry) => {
                let second = entry.second.with_translation(PasidTranslationType::SECOND_STAGE);
                let second = second.with_frame(frame).with_width(width);
                Self::Pasid(PasidEntry { second, domain: entry.domain.with_domain(id), ..entry })
            }
        }
    }

    /// What is left of an entry that blocks its device: whether that is worth a fault record.
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

    /// The words of the entry, and how many count.
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

    /// Writes the entry where no hardware uses it yet.
    pub(crate) fn fill(&self, slot: Slot, frames: &mut impl Frames) {
        let (words, count) = self.words();
        frames.table_mut(slot.table)[slot.word..slot.word + count].copy_from_slice(&words[..count]);
    }

    /// Writes the entry where there was none, and where hardware may be reading: the word that makes it present last.
    pub(crate) fn store(&self, slot: Slot, frames: &mut impl Frames) {
        let (words, count) = self.words();
        store_words(&words[..count], slot, frames);
    }
}

/// Stores and publishes the words of an entry whose present bit is in its first word: that one last.
pub(crate) fn store_words(words: &[u64], slot: Slot, frames: &mut impl Frames) {
    for (offset, word) in words.iter().enumerate().rev() {
        let at = slot.word + offset;
        if offset == 0 {
            frames.publish(slot.table, at + 1..at + words.len());
        }
        frames.store(slot.table, at, *word);
    }
    frames.publish(slot.table, slot.word..slot.word + 1);
}
