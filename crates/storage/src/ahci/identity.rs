//! What a disk says of itself: the answer to IDENTIFY DEVICE (ACS-3, 7.12.7). Words are numbered as there.

use crate::disk::{Durability, Geometry};
use crate::error::StartError;

/// Bytes in the answer.
pub(super) const SIZE: usize = 512;

/// Bytes in the unit of words 60 to 103, if word 106 does not say otherwise.
const DEFAULT_BLOCK_SIZE: u64 = 512;

/// The name of a disk, which no other has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name([u16; 34]);

impl Default for Name {
    fn default() -> Self {
        Self([0; 34])
    }
}

/// The answer.
pub(super) struct Identity([u16; SIZE / 2]);

impl Identity {
    /// Reads the answer's bytes. `None` if they are damaged, or not those of a disk.
    pub(super) fn read(bytes: &[u8; SIZE]) -> Option<Self> {
        /// Word 255: the low byte if the high byte makes the sum of all bytes zero.
        const HAS_CHECKSUM: u8 = 0xa5;
        /// Word 0: the device is no disk.
        const OTHER: u16 = 1 << 15;
        let (pairs, _) = bytes.as_chunks();
        let mut words = [0; SIZE / 2];
        words.iter_mut().zip(pairs).for_each(|(word, pair)| *word = u16::from_le_bytes(*pair));
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let is_whole = bytes[SIZE - 2] != HAS_CHECKSUM || sum == 0;
        (is_whole && words[0] & OTHER == 0).then_some(Self(words))
    }

    /// How the disk can be used, with pieces of up to `most` bytes, or why it cannot.
    pub(super) fn geometry(&self, most: usize) -> Result<Geometry, StartError> {
        if self.is_locked() {
            return Err(StartError::Locked);
        }
        if !self.has_long_addresses() {
            return Err(StartError::Unsupported("48-bit addresses"));
        }
        let block_size = self.block_size().ok_or(StartError::Geometry)?;
        let size = self.blocks().checked_mul(block_size.into()).ok_or(StartError::Geometry)?;
        let piece = most - most % block_size as usize;
        if size == 0 || piece == 0 {
            return Err(StartError::Geometry);
        }
        // Each disk can flush its cache, and most have one (ACS-3, 4.2).
        Ok(Geometry { size, block_size, piece, durability: Durability::OnFlush })
    }

    /// What tells the disk from all others (words 10 to 19, 27 to 46, and 108 to 111): serial number, model, World Wide Name.
    pub(super) fn name(&self) -> Name {
        let parts = [&self.0[10..20], &self.0[27..47], &self.0[108..112]];
        let mut name = Name::default();
        name.0.iter_mut().zip(parts.into_iter().flatten()).for_each(|(word, named)| *word = *named);
        name
    }

    /// Whether a password must be given before the disk can be used (word 128, the security feature set).
    fn is_locked(&self) -> bool {
        const SUPPORTED_AND_LOCKED: u16 = 0b101;
        self.0[128] & SUPPORTED_AND_LOCKED == SUPPORTED_AND_LOCKED
    }

    /// Whether the disk has the 48-bit Address feature set (word 83).
    fn has_long_addresses(&self) -> bool {
        self.supported() & 1 << 10 != 0
    }

    /// Whether the disk has the command FLUSH CACHE EXT (word 83).
    pub(super) fn has_long_flush(&self) -> bool {
        self.supported() & 1 << 13 != 0
    }

    /// Whether the disk has a cache that loses its content without power, and uses it (word 85). One that does not say so may.
    pub(super) fn has_volatile_cache(&self) -> bool {
        const ENABLED: u16 = 1 << 5;
        // Word 87 has the marks of validity of words 85 to 87.
        !is_valid(self.0[87]) || self.0[85] & ENABLED != 0
    }

    /// Queued commands that the disk takes at a time; 0 if none (words 75 and 76).
    pub(super) fn queue_depth(&self) -> usize {
        const NONE: u16 = 0xffff;
        const QUEUING: u16 = 1 << 8;
        let has_queue = self.0[76] != NONE && self.0[76] & QUEUING != 0;
        if has_queue { usize::from(self.0[75] & 0x1f) + 1 } else { 0 }
    }

    /// Word 83, or 0 if it is not valid.
    fn supported(&self) -> u16 {
        if is_valid(self.0[83]) { self.0[83] } else { 0 }
    }

    /// The number of blocks (words 100 to 103).
    fn blocks(&self) -> u64 {
        self.0[100..104].iter().rev().fold(0, |number, word| number << 16 | u64::from(*word))
    }

    /// Bytes in a block (words 106, 117 and 118); `None` if no disk can have such blocks.
    fn block_size(&self) -> Option<u32> {
        const LONG_BLOCKS: u16 = 1 << 12;
        let is_long = is_valid(self.0[106]) && self.0[106] & LONG_BLOCKS != 0;
        let words = u64::from(self.0[117]) | u64::from(self.0[118]) << 16;
        let size = if is_long { words * 2 } else { DEFAULT_BLOCK_SIZE };
        let is_usual = size.is_power_of_two() && (512..=4096).contains(&size);
        is_usual.then_some(size as u32)
    }
}

/// Whether a word that has marks of validity, in its two highest bits, is valid.
fn is_valid(word: u16) -> bool {
    word >> 14 == 0b01
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(fields: &[(usize, u16)]) -> Option<Identity> {
        let mut words = [0_u16; SIZE / 2];
        words[83] = 0x4400;
        words[100] = 8;
        for (word, value) in fields {
            words[*word] = *value;
        }
        let mut bytes = [0; SIZE];
        bytes
            .chunks_exact_mut(2)
            .zip(words)
            .for_each(|(pair, word)| pair.copy_from_slice(&word.to_le_bytes()));
        Identity::read(&bytes)
    }

    #[test]
    fn a_checksum_is_checked_if_there_is_one() {
        assert!(identity(&[]).is_some());
        assert!(identity(&[(255, 0x00a5)]).is_none());
        // 0x00, 0x44, 0x08 and 0xa5 leave 0x0f.
        assert!(identity(&[(255, 0x0fa5)]).is_some());
    }

    #[test]
    fn what_no_disk_can_be_is_refused() {
        assert!(identity(&[(0, 0x8000)]).is_none(), "a packet device");
        let endless = identity(&[(100, u16::MAX), (101, u16::MAX), (102, u16::MAX), (103, u16::MAX)]);
        assert_eq!(endless.unwrap().geometry(4096), Err(StartError::Geometry));
        let large_blocks = identity(&[(106, 0x5000), (117, 0), (118, 1)]);
        assert_eq!(large_blocks.unwrap().geometry(4096), Err(StartError::Geometry));
        let unmarked = identity(&[(83, 0x0400)]);
        assert_eq!(unmarked.unwrap().geometry(4096), Err(StartError::Unsupported("48-bit addresses")));
        assert_eq!(identity(&[]).unwrap().geometry(4096).map(|geometry| geometry.size), Ok(8 * 512));
    }

    #[test]
    fn a_disk_that_does_not_say_that_its_cache_is_off_may_have_one() {
        let has_cache = |fields: &[_]| identity(fields).unwrap().has_volatile_cache();
        assert!(has_cache(&[]) && has_cache(&[(85, 1 << 5), (87, 0x4000)]));
        assert!(!has_cache(&[(87, 0x4000)]));
    }

    #[test]
    fn a_word_of_ones_tells_of_no_queue() {
        assert_eq!(identity(&[(75, 31), (76, u16::MAX)]).unwrap().queue_depth(), 0);
        assert_eq!(identity(&[(75, 31), (76, 0x0100)]).unwrap().queue_depth(), 32);
    }
}
