//! Answers of SCSI disks to questions about themselves. Numbers are big-endian.

use super::command::length;

/// What kind of device a logical unit is, by the answer to INQUIRY; `None` if there is none.
pub(crate) fn device_kind(answer: &[u8; length::INQUIRY]) -> Option<u8> {
    let [first, _, _, _, more, ..] = *answer;
    // The peripheral qualifier is 0 for a device that is there. An answer of nothing but zeros is none: the length of the rest is
    // never 0.
    (first >> 5 == 0 && more > 0).then_some(first & 0x1f)
}

/// [`device_kind`] of a disk.
pub(crate) const DISK: u8 = 0x00;

/// What a device that is no disk is, by its [`device_kind`] (SPC-4, 6.6.2).
pub(crate) fn kind_name(kind: u8) -> &'static str {
    match kind {
        0x01 => "a tape drive",
        0x05 => "an optical drive",
        0x0c => "an array's controller",
        0x0d => "an enclosure",
        0x14 => "a disk whose zones are written in order",
        _ => "a device of another kind",
    }
}

/// Number and size of the blocks, by the answer to READ CAPACITY (16); `None` if the size is impossible.
pub(crate) fn capacity(answer: &[u8; length::CAPACITY]) -> Option<(u64, u32)> {
    let (last, rest) = answer.split_first_chunk()?;
    let size = u32::from_be_bytes(*rest.first_chunk()?);
    let blocks = u64::from_be_bytes(*last).checked_add(1)?;
    (size.is_power_of_two() && (512..=4096).contains(&size)).then_some((blocks, size))
}

/// The same by the answer to READ CAPACITY (10) (SBC-3, 5.15.2). A disk that has more blocks than it can tell there is told as
/// `None`: the other command is for it.
pub(crate) fn short_capacity(answer: [u8; length::SHORT_CAPACITY]) -> Option<(u64, u32)> {
    let [last @ .., _, _, _, _] = answer;
    let mut long = [0; length::CAPACITY];
    long[4..12].copy_from_slice(&answer);
    capacity(&long).filter(|_| last != [0xff; 4])
}

/// Whether a disk cannot be written, by the answer to MODE SENSE (6) (SBC-3, 6.4.1).
pub(crate) fn is_write_protected(answer: &[u8; length::MODE]) -> bool {
    answer[2] & 0x80 != 0
}

/// Whether completed writes may be in a cache that loses them without power, by the answer to MODE SENSE (6): the bit WCE of the
/// caching mode page (SBC-3, 6.4.5). `None` if the page is not there.
pub(crate) fn has_volatile_cache(answer: &[u8; length::MODE]) -> Option<bool> {
    const CACHING: u8 = 0x08;
    /// The page is of the format with subpages.
    const SUBPAGE: u8 = 0x40;
    // The length counts what follows it; block descriptors come before the pages.
    let (end, mut at) = (1 + usize::from(answer[0]), 4 + usize::from(answer[3]));
    while let Some(&[code, low, value, next]) = answer.get(at..).and_then(|page| page.first_chunk()) {
        if at >= end {
            return None;
        }
        let long = code & SUBPAGE != 0;
        if !long && code & 0x3f == CACHING {
            return (low > 0).then_some(value & 0x04 != 0);
        }
        at += if long { 4 + usize::from(u16::from_be_bytes([value, next])) } else { 2 + usize::from(low) };
    }
    None
}

/// The numbers of the logical units, by the answer to REPORT LUNS (SAM-5, 4.7). Units of a hierarchy are left out.
pub(crate) fn units(answer: &[u8; length::UNITS]) -> impl Iterator<Item = u16> + '_ {
    let (length, entries) = answer.split_at(8);
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let (entries, _) = entries.as_chunks::<8>();
    entries.iter().take(length / 8).filter_map(|entry| match entry[0] >> 6 {
        0 if entry[0] == 0 => Some(entry[1].into()),
        1 => Some(u16::from_be_bytes([entry[0] & 0x3f, entry[1]])),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_disk() {
        let kind = |first, more| {
            let mut answer = [0; length::INQUIRY];
            (answer[0], answer[4]) = (first, more);
            device_kind(&answer)
        };
        assert_eq!((kind(0, 31), kind(5, 31)), (Some(DISK), Some(5)));
        assert_eq!((kind(0, 0), kind(0x7f, 31)), (None, None));
    }

    #[test]
    fn units_are_listed_by_two_methods() {
        let mut answer = [0; length::UNITS];
        answer[3] = 32;
        answer[9] = 3;
        answer[16..18].copy_from_slice(&[0x41, 0x02]);
        answer[24] = 0x80;
        answer[40 - 8 + 1] = 7;
        let listed = || units(&answer).fold((0, 0), |(count, sum), unit| (count + 1, sum + u32::from(unit)));
        assert_eq!(listed(), (3, 3 + 0x102 + 7));
        let endless = [0xff; length::UNITS];
        assert_eq!(units(&endless).count(), 0, "no entry makes sense");
    }

    #[test]
    fn impossible_blocks_are_refused() {
        let answer = |last: u64, size: u32| {
            let mut answer = [0; length::CAPACITY];
            answer[..8].copy_from_slice(&last.to_be_bytes());
            answer[8..12].copy_from_slice(&size.to_be_bytes());
            answer
        };
        assert_eq!(capacity(&answer(511, 4096)), Some((512, 4096)));
        assert_eq!(capacity(&answer(u64::MAX, 512)), None);
        assert_eq!(capacity(&answer(511, 520)), None);
    }

    #[test]
    fn a_short_capacity_is_told_unless_it_is_too_short() {
        assert_eq!(short_capacity([0, 0, 1, 255, 0, 0, 2, 0]), Some((512, 512)));
        assert_eq!(short_capacity([255, 255, 255, 255, 0, 0, 2, 0]), None);
        assert_eq!(short_capacity([0, 0, 1, 255, 0, 0, 2, 8]), None);
    }

    /// An answer with these pages, behind a block descriptor.
    fn modes(pages: &[u8]) -> [u8; length::MODE] {
        let mut answer = [0; length::MODE];
        answer[..4].copy_from_slice(&[11 + pages.len() as u8, 0, 0x10, 8]);
        answer[12..12 + pages.len()].copy_from_slice(pages);
        answer
    }

    #[test]
    fn the_cache_is_found_among_other_pages() {
        let caching =
            |bits| [&[0x01, 2, 0, 0, 0x4a, 1, 0, 1, 9, 0x88, 4, bits, 0, 0, 0][..], &[0; 4]].concat();
        assert_eq!(has_volatile_cache(&modes(&caching(4))), Some(true));
        assert_eq!(has_volatile_cache(&modes(&caching(1))), Some(false));
        assert_eq!(has_volatile_cache(&modes(&[0x01, 2, 0, 0])), None);
        assert_eq!(has_volatile_cache(&[0; length::MODE]), None);
        assert_eq!(has_volatile_cache(&[0xff; length::MODE]), None, "no page makes sense");
    }
}
