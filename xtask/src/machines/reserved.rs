//! What `/proc/iomem` of the crashing kernel says: the memory reserved for Holdover, in one piece or, with
//! `crashkernel=…,high`, in two, and persistent memory.

use anyhow::{Result, ensure};
use machine::Range;

use crate::machines::console::Line;

/// What `/proc/iomem` of the crashing kernel calls `Crash kernel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    pieces: Vec<Range<u64>>,
}

impl Reserved {
    /// Reads what the guest's init has said of it.
    pub(crate) fn of(lines: &[Line]) -> Result<Self> {
        let pieces = regions(lines, "reserved");
        ensure!(!pieces.is_empty(), "the guest named no crash reservation");
        Ok(Self { pieces })
    }

    /// Memory that a test calls reserved.
    #[cfg(test)]
    pub(crate) fn at(piece: Range<u64>) -> Self {
        Self { pieces: vec![piece] }
    }

    /// Whether the byte at a physical address is in it.
    pub(crate) fn contains(&self, address: u64) -> bool {
        self.pieces.iter().any(|piece| piece.contains(address))
    }

    /// Its pieces.
    pub(crate) fn pieces(&self) -> &[Range<u64>] {
        &self.pieces
    }
}

/// Where there is persistent memory, as the guest's init has said.
pub(crate) fn persistent_memory(lines: &[Line]) -> Vec<Range<u64>> {
    regions(lines, "persistent")
}

/// The regions that the guest's init has named with this word.
fn regions(lines: &[Line], word: &str) -> Vec<Range<u64>> {
    let said = lines.iter().filter_map(Line::bench).filter(|said| said.starts_with(word));
    said.filter_map(parse_region).collect()
}

/// Parses a line of `/proc/iomem`: `3e000000-3effffff : Crash kernel`, with an inclusive end.
fn parse_region(line: &str) -> Option<Range<u64>> {
    let (start, last) = line.split_whitespace().find_map(|word| word.split_once('-'))?;
    let end = u64::from_str_radix(last, 16).ok()?.checked_add(1)?;
    Some(Range::new(u64::from_str_radix(start, 16).ok()?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_address_of_the_reservation_is_inside() {
        let region = parse_region("reserved 3e000000-3effffff : Crash kernel");
        assert_eq!(region, Some(Range::new(0x3e00_0000, 0x3f00_0000)));
        assert_eq!(parse_region("reserved nothing"), None);
    }

    #[test]
    fn a_reservation_above_4_gib_has_a_second_piece_below() {
        let reserved = Reserved::of(&Line::a_second_apart(&[
            "[ 9.0] bench: reserved 6f000000-6fffffff : Crash kernel",
            "[ 9.0] bench: reserved 1be000000-1beffffff : Crash kernel",
        ]))
        .unwrap();
        assert!(reserved.contains(0x6f00_0000) && reserved.contains(0x1_beff_ffff));
        assert!(!reserved.contains(0x7000_0000));
    }

    #[test]
    fn persistent_memory_is_told_from_the_reservation() {
        let lines = Line::a_second_apart(&[
            "[ 9.0] bench: reserved 6f000000-6fffffff : Crash kernel",
            "[ 9.0] bench: persistent 1040000000-104fffffff : Persistent Memory",
        ]);
        assert_eq!(persistent_memory(&lines), [Range::new(0x10_4000_0000, 0x10_5000_0000)]);
    }

    #[test]
    fn a_guest_that_reserved_nothing_is_an_error() {
        assert!(Reserved::of(&Line::a_second_apart(&["[ 9.0] bench: loaded"])).is_err());
    }
}
