//! Legacy and scalable mode: where root and context tables hold the entries of a device (3.4.2, 3.4.3).

use machine::{Registers, SourceId};
use vtd::control::TableMode;

use crate::vtd::unit::Unit;

/// How root and context tables are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One context table per bus: 256 entries of two words.
    Legacy,
    /// Two context tables per bus: 128 entries each, of four words, which name PASID directories.
    Scalable,
}

impl Mode {
    /// The mode of the tables that take the place of the unit's, if those can be taken over.
    ///
    /// In abort-DMA mode there are none. Their place take tables of legacy mode, or of scalable mode on units that have no
    /// legacy tables.
    pub(crate) fn of<R: Registers, C>(unit: &Unit<'_, R, C>) -> Option<Self> {
        let has_legacy = unit.capability().sagaw() != 0 || !unit.extended_capability().smts();
        match unit.root_table().mode() {
            TableMode::ABORT_DMA if has_legacy => Some(Self::Legacy),
            TableMode::ABORT_DMA | TableMode::SCALABLE => Some(Self::Scalable),
            TableMode::LEGACY => Some(Self::Legacy),
            _ => None,
        }
    }

    /// The RTADDR value of this mode.
    pub(crate) fn table_mode(self) -> TableMode {
        match self {
            Self::Legacy => TableMode::LEGACY,
            Self::Scalable => TableMode::SCALABLE,
        }
    }

    /// Words of a context entry.
    pub(crate) fn context_words(self) -> usize {
        match self {
            Self::Legacy => 2,
            Self::Scalable => 4,
        }
    }

    /// The words of a root table that point to context tables.
    pub(crate) fn root_words(self) -> impl Iterator<Item = usize> {
        (0..512).step_by(match self {
            Self::Legacy => 2,
            Self::Scalable => 1,
        })
    }

    /// The word of the same root entry that must be zero (9.1).
    pub(crate) fn reserved_root_word(self, word: usize) -> Option<usize> {
        match self {
            Self::Legacy => Some(word | 1),
            Self::Scalable => None,
        }
    }

    /// The word of the root table that points to a device's context table.
    pub(crate) fn root_word(self, source: SourceId) -> usize {
        let upper_half = match self {
            Self::Legacy => 0,
            Self::Scalable => usize::from(source.devfn() >> 7),
        };
        usize::from(source.bus()) * 2 + upper_half
    }

    /// The first word of a device's context entry in its table.
    pub(crate) fn context_word(self, source: SourceId) -> usize {
        usize::from(source.devfn()) * self.context_words() % 512
    }

    /// The device whose context entry starts at `word` of the table that `root_word` points to.
    pub(crate) fn source(self, root_word: usize, word: usize) -> SourceId {
        let upper_half = match self {
            Self::Legacy => 0,
            Self::Scalable => root_word % 2 * 128,
        };
        SourceId::new((root_word / 2) as u8, (upper_half + word / self.context_words()) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3.4.3: in scalable mode devices 16 to 31 have a context table of their own.
    #[test]
    fn the_upper_half_of_a_bus_has_its_own_table_in_scalable_mode() {
        let source = SourceId::at(3, 31, 2);
        assert_eq!((Mode::Scalable.root_word(source), Mode::Scalable.context_word(source)), (7, 0x7A * 4));
        assert_eq!((Mode::Legacy.root_word(source), Mode::Legacy.context_word(source)), (6, 0xFA * 2));
    }

    #[test]
    fn places_and_devices_correspond() {
        for mode in [Mode::Legacy, Mode::Scalable] {
            for source in (0..=u16::MAX).map(SourceId) {
                assert_eq!(mode.source(mode.root_word(source), mode.context_word(source)), source);
            }
        }
    }
}
