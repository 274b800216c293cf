//! SCSI commands that a disk needs, and their answers (SCSI Primary Commands 4 and SCSI Block Commands 3). How commands
//! get to a disk is the business of the controllers.
//!
//! Numbers are big-endian.

/// A command descriptor block; shorter commands end in zeros.
pub(crate) type Cdb = [u8; 16];

/// Bytes of the answers that are asked for; those to REPORT LUNS (SPC-4, 6.33) may be longer than a list of this length.
pub(crate) mod length {
    pub(crate) const INQUIRY: usize = 36;
    pub(crate) const CAPACITY: usize = 32;
    pub(crate) const MODE: usize = 192;
    pub(crate) const UNITS: usize = 4096;
}

/// INQUIRY (SPC-4, 6.6): what kind of device a logical unit is.
pub(crate) const INQUIRY: Cdb = with_length([0x12], 4, length::INQUIRY as u8);
/// REPORT LUNS (SPC-4, 6.33): the logical units of a target.
pub(crate) const REPORT_UNITS: Cdb = with_long_length([0xa0, 0], 6, length::UNITS as u32);
/// READ CAPACITY (16) (SBC-3, 5.16): number and size of the blocks.
pub(crate) const READ_CAPACITY: Cdb = with_long_length([0x9e, 0x10], 10, length::CAPACITY as u32);
/// MODE SENSE (6) (SPC-4, 6.13), of all pages: whether the disk can be written.
pub(crate) const MODE_SENSE: Cdb = with_length([0x1a, 0, 0x3f], 4, length::MODE as u8);
/// SYNCHRONIZE CACHE (10) (SBC-3, 5.22), of all blocks.
pub(crate) const SYNCHRONIZE_CACHE: Cdb = begun([0x35]);

/// READ (16) (SBC-3, 5.11).
pub(crate) fn read(block: u64, count: u32) -> Cdb {
    transfer(0x88, block, count)
}

/// WRITE (16) (SBC-3, 5.34).
pub(crate) fn write(block: u64, count: u32) -> Cdb {
    transfer(0x8a, block, count)
}

fn transfer(code: u8, block: u64, count: u32) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = code;
    cdb[2..10].copy_from_slice(&block.to_be_bytes());
    cdb[10..14].copy_from_slice(&count.to_be_bytes());
    cdb
}

const fn with_length<const N: usize>(start: [u8; N], at: usize, length: u8) -> Cdb {
    let mut cdb = begun(start);
    cdb[at] = length;
    cdb
}

const fn with_long_length<const N: usize>(start: [u8; N], at: usize, length: u32) -> Cdb {
    let mut cdb = begun(start);
    let bytes = length.to_be_bytes();
    (cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]) = (bytes[0], bytes[1], bytes[2], bytes[3]);
    cdb
}

const fn begun<const N: usize>(start: [u8; N]) -> Cdb {
    let mut cdb = [0; 16];
    let mut at = 0;
    while at < N {
        cdb[at] = start[at];
        at += 1;
    }
    cdb
}

/// Status codes (SAM-5, 5.3.1).
pub(crate) mod status {
    pub(crate) const GOOD: u8 = 0x00;
    pub(crate) const CHECK_CONDITION: u8 = 0x02;
    pub(crate) const BUSY: u8 = 0x08;
    pub(crate) const TASK_SET_FULL: u8 = 0x28;
}

/// Why a command failed: sense data (SPC-4, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sense {
    /// The sense key: the kind of failure.
    pub(crate) key: u8,
    /// Additional sense code, and its qualifier.
    pub(crate) code: [u8; 2],
}

/// Sense keys (SPC-4, 4.5.6).
mod key {
    pub(super) const NOT_READY: u8 = 0x2;
    pub(super) const ILLEGAL_REQUEST: u8 = 0x5;
    pub(super) const UNIT_ATTENTION: u8 = 0x6;
    pub(super) const ABORTED: u8 = 0xb;
}

impl Sense {
    /// Reads sense data in one of its two formats; `None` if it is neither.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let at = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let (key, code) = match at(0) & 0x7f {
            0x70 | 0x71 => (at(2), [at(12), at(13)]),
            0x72 | 0x73 => (at(1), [at(2), at(3)]),
            _ => return None,
        };
        Some(Self { key: key & 0xf, code })
    }

    /// Whether the command was not done for a reason that has nothing to do with it, such as a reset before it.
    pub(crate) fn is_passing(self) -> bool {
        matches!(self.key, key::UNIT_ATTENTION | key::ABORTED)
    }

    /// Whether the disk is about to become ready.
    pub(crate) fn is_becoming_ready(self) -> bool {
        self.key == key::NOT_READY && self.code == [0x04, 0x01]
    }

    /// Whether the disk does not know the command.
    pub(crate) fn is_unknown_command(self) -> bool {
        self.key == key::ILLEGAL_REQUEST && self.code[0] == 0x20
    }

    /// Key, additional sense code and qualifier in one number.
    pub(crate) fn number(self) -> u32 {
        u32::from_be_bytes([0, self.key, self.code[0], self.code[1]])
    }
}

/// What kind of device a logical unit is, by the answer to INQUIRY; `None` if there is none.
pub(crate) fn device_kind(answer: &[u8; length::INQUIRY]) -> Option<u8> {
    let [first, ..] = *answer;
    // The peripheral qualifier is 0 for a device that is there.
    (first >> 5 == 0).then_some(first & 0x1f)
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

/// Whether a disk cannot be written, by the answer to MODE SENSE (6) (SBC-3, 6.4.1).
pub(crate) fn is_write_protected(answer: &[u8; length::MODE]) -> bool {
    answer[2] & 0x80 != 0
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
    fn commands_are_laid_out_as_linux_has_them() {
        assert_eq!(INQUIRY[..6], [0x12, 0, 0, 0, 36, 0]);
        assert_eq!(MODE_SENSE[..6], [0x1a, 0, 0x3f, 0, 192, 0]);
        assert_eq!(REPORT_UNITS[..12], [0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
        assert_eq!(READ_CAPACITY, [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
        assert_eq!(SYNCHRONIZE_CACHE[..10], [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let bytes = [0x8a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 1, 0, 0, 0];
        assert_eq!(write(0x0102_0304_0506_0708, 256), bytes);
        assert_eq!(read(0, 0)[0], 0x88);
    }

    #[test]
    fn sense_data_has_two_formats() {
        let sense = Sense { key: 6, code: [0x29, 1] };
        assert_eq!(Sense::read(&[0x70, 0, 0xf6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 1]), Some(sense));
        assert_eq!(Sense::read(&[0xf2, 6, 0x29, 1]), Some(sense));
        assert_eq!(Sense::read(&[]), None);
        assert!(sense.is_passing() && !sense.is_becoming_ready());
        assert_eq!(sense.number(), 0x0006_2901);
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
}
