//! Tells whether a device looks used, so that nothing on it is overwritten by accident.

use machine::{BlockDevice, BlockError};

/// Bytes that are searched at the beginning and at the end of a device.
const LOOK: u64 = 1 << 20;

/// The marks that owners write at fixed places: name, byte offset from the start, bytes.
const SIGNATURES: &[(&str, usize, &[u8])] = &[
    ("a Holdover dump area", 0, b"HOLDAREA"),
    ("a kdump-compressed dump", 0, b"KDUMP   "),
    ("an XFS file system", 0, b"XFSB"),
    ("a LUKS volume", 0, b"LUKS\xba\xbe"),
    ("an NTFS file system", 3, b"NTFS    "),
    ("a FAT file system", 54, b"FAT"),
    ("a FAT file system", 82, b"FAT32"),
    ("a GUID partition table", 512, b"EFI PART"),
    ("a GUID partition table", 4096, b"EFI PART"),
    ("an LVM physical volume", 512, b"LABELONE"),
    ("an F2FS file system", 1024, b"\x10\x20\xf5\xf2"),
    ("an ext2, ext3 or ext4 file system", 1080, b"\x53\xef"),
    ("a member of a RAID", 4096, b"\xfc\x4e\x2b\xa9"),
    ("a swap area", 4086, b"SWAPSPACE2"),
    ("an ISO 9660 file system", 32769, b"CD001"),
    ("a btrfs file system", 65600, b"_BHRfS_M"),
    // Last: file systems have it in their boot sectors too.
    ("a partition table", 510, b"\x55\xaa"),
];

/// What a device seems to hold; `None` if its beginning and its end are zeros.
pub(super) fn find(device: &mut impl BlockDevice) -> Result<Option<String>, BlockError> {
    let size = device.size();
    let len = size.min(LOOK);
    let first = read(device, 0, len)?;
    if let Some((name, ..)) = SIGNATURES.iter().find(|(_, offset, bytes)| has(&first, *offset, bytes)) {
        return Ok(Some((*name).to_owned()));
    }
    let last_start = size - len;
    let last = read(device, last_start, len)?;
    let used = position(&first).or_else(|| position(&last).map(|at| last_start + at));
    Ok(used.map(|at| format!("data of an unknown kind at byte {at}")))
}

fn has(device: &[u8], offset: usize, bytes: &[u8]) -> bool {
    device.get(offset..).is_some_and(|rest| rest.starts_with(bytes))
}

/// Where the first byte is that is not zero.
fn position(bytes: &[u8]) -> Option<u64> {
    bytes.iter().position(|byte| *byte != 0).map(|at| at as u64)
}

fn read(device: &mut impl BlockDevice, offset: u64, len: u64) -> Result<Vec<u8>, BlockError> {
    let mut bytes = vec![0; len as usize];
    device.read(offset, &mut bytes)?;
    Ok(bytes)
}
