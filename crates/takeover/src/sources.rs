//! A set of source-ids.

use alloc::vec::Vec;

use machine::SourceId;
use machine::growth::{OutOfMemory, collected, filled};

/// A set of source-ids: a bit for each, once there is one.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    bits: Vec<u64>,
}

/// Words that hold a bit for each source-id.
const WORDS: usize = (1 << 16) / 64;

impl Sources {
    pub(crate) fn insert(&mut self, source: SourceId) -> Result<(), OutOfMemory> {
        if self.bits.is_empty() {
            self.bits = filled(0, WORDS)?;
        }
        if let Some(word) = self.bits.get_mut(usize::from(source.0) / 64) {
            *word |= 1 << (source.0 % 64);
        }
        Ok(())
    }

    /// The same set, for another unit.
    pub(crate) fn lent(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { bits: collected(self.bits.iter().copied())? })
    }

    pub(crate) fn contains(&self, source: SourceId) -> bool {
        self.bits.get(usize::from(source.0) / 64).is_some_and(|word| word >> (source.0 % 64) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_there_and_nothing_else() {
        let mut sources = Sources::default();
        assert!(!sources.contains(SourceId(0)));
        [0, 63, 64, 0xFFFF].into_iter().try_for_each(|id| sources.insert(SourceId(id))).unwrap();
        let found: Vec<u16> = (0..=u16::MAX).filter(|id| sources.contains(SourceId(*id))).collect();
        assert_eq!(found, [0, 63, 64, 0xFFFF]);
    }
}
