//! Commands of SCSI disks (SCSI Primary Commands 4 and SCSI Block Commands 3). Numbers are big-endian.

/// A command descriptor block; shorter commands end in zeros.
pub(crate) type Cdb = [u8; 16];

/// Bytes of the answers that are asked for; those to REPORT LUNS (SPC-4, 6.33) may be longer than a list of this length.
pub(crate) mod length {
    pub(crate) const INQUIRY: usize = 36;
    pub(crate) const CAPACITY: usize = 32;
    pub(crate) const SHORT_CAPACITY: usize = 8;
    pub(crate) const MODE: usize = 192;
    pub(crate) const UNITS: usize = 4096;
}

/// INQUIRY (SPC-4, 6.6): what kind of device a logical unit is.
pub(crate) const INQUIRY: Cdb = with_length([0x12], 4, length::INQUIRY as u8);
/// TEST UNIT READY (SPC-4, 6.47): whether blocks can be read and written.
pub(crate) const TEST_READY: Cdb = begun([0x00]);
/// START STOP UNIT (SBC-3, 5.25): has the disk start, and answer at once (IMMED); it says that it becomes ready until it is.
pub(crate) const START: Cdb = begun([0x1b, 0x01, 0, 0, 0x01]);
/// REPORT LUNS (SPC-4, 6.33): the logical units of a target.
pub(crate) const REPORT_UNITS: Cdb = with_long_length([0xa0, 0], 6, length::UNITS as u32);
/// READ CAPACITY (16) (SBC-3, 5.16): number and size of the blocks.
pub(crate) const READ_CAPACITY: Cdb = with_long_length([0x9e, 0x10], 10, length::CAPACITY as u32);
/// READ CAPACITY (10) (SBC-3, 5.15), for disks that do not know the longer command.
pub(crate) const READ_SHORT_CAPACITY: Cdb = begun([0x25]);
/// MODE SENSE (6) (SPC-4, 6.13), of all pages: whether the disk can be written, and has a cache.
pub(crate) const MODE_SENSE: Cdb = with_length([0x1a, 0, 0x3f], 4, length::MODE as u8);
/// SYNCHRONIZE CACHE (10) (SBC-3, 5.22), of all blocks.
pub(crate) const SYNCHRONIZE_CACHE: Cdb = begun([0x35]);

/// Reads blocks: READ (10) or READ (16) (SBC-3, 5.9 and 5.11).
pub(crate) fn read(block: u64, count: u32) -> Cdb {
    transfer(0x28, 0x88, block, count)
}

/// Writes blocks: WRITE (10) or WRITE (16) (SBC-3, 5.32 and 5.34).
pub(crate) fn write(block: u64, count: u32) -> Cdb {
    transfer(0x2a, 0x8a, block, count)
}

/// The short command where it fits: disks of old do not know the other.
fn transfer(short: u8, long: u8, block: u64, count: u32) -> Cdb {
    let mut cdb = [0; 16];
    if let (Ok(block), Ok(count)) = (u32::try_from(block), u16::try_from(count)) {
        cdb[0] = short;
        cdb[2..6].copy_from_slice(&block.to_be_bytes());
        cdb[7..9].copy_from_slice(&count.to_be_bytes());
    } else {
        cdb[0] = long;
        cdb[2..10].copy_from_slice(&block.to_be_bytes());
        cdb[10..14].copy_from_slice(&count.to_be_bytes());
    }
    cdb
}

/// Bytes of a command, by the group of its code (SPC-4, 4.2.5.1).
pub(crate) fn cdb_len(cdb: Cdb) -> u8 {
    match cdb[0] >> 5 {
        0 => 6,
        1 | 2 => 10,
        5 => 12,
        _ => 16,
    }
}

/// Whether a command moves blocks of the disk.
pub(crate) fn is_transfer(cdb: Cdb) -> bool {
    matches!(cdb[0], 0x28 | 0x2a | 0x88 | 0x8a)
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
    pub(crate) const RESERVATION_CONFLICT: u8 = 0x18;
    pub(crate) const TASK_SET_FULL: u8 = 0x28;
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
        assert_eq!(READ_SHORT_CAPACITY[..10], [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn transfers_are_short_where_they_fit() {
        let bytes = [0x8a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 1, 0, 0, 0];
        assert_eq!(write(0x0102_0304_0506_0708, 256), bytes);
        assert_eq!(write(0xffff_ffff, 256), [0x2a, 0, 255, 255, 255, 255, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((read(1 << 32, 1)[0], read(0, 1 << 16)[0], read(0, 1)[0]), (0x88, 0x88, 0x28));
        assert!([read(0, 1), write(1 << 40, 1)].into_iter().all(is_transfer) && !is_transfer(INQUIRY));
    }

    #[test]
    fn a_commands_code_tells_its_length() {
        let commands = [INQUIRY, SYNCHRONIZE_CACHE, REPORT_UNITS, READ_CAPACITY];
        assert_eq!(commands.map(cdb_len), [6, 10, 12, 16]);
    }
}
