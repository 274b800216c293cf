//! What a PE file says of its signatures, and the file without them (Microsoft, PE Format, "The Attribute Certificate Table").
//!
//! Each entry of the table is a length in 4 bytes, which counts these too; a revision and a type of 2 bytes each; and a signature. It is
//! padded to 8 bytes.

use std::mem::offset_of;

use object::LittleEndian as LE;
use object::pe::{
    IMAGE_DIRECTORY_ENTRY_SECURITY, ImageDataDirectory, ImageDosHeader, ImageNtHeaders64,
    ImageOptionalHeader64,
};
use object::pod::from_bytes;
use object::read::pe::PeFile64;

/// Bytes before the signature in an entry of the table.
const ENTRY_HEADER: usize = 8;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`: the only type that Linux reads.
const PKCS_SIGNED_DATA: [u8; 2] = [2, 0];

/// The file is no PE file of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotPe;

/// The certificate table; empty if the file has none.
pub(super) fn certificates(file: &[u8]) -> Result<&[u8], NotPe> {
    let (start, end) = place(file)?;
    Ok(&file[start..end])
}

/// The signature of the table's first entry, if it is of the type that Linux reads.
pub(super) fn first_signature(table: &[u8]) -> Option<&[u8]> {
    let length = u32::from_le_bytes(table.get(..4)?.try_into().ok()?) as usize;
    let entry = table.get(..length)?;
    (entry.get(6..8)? == PKCS_SIGNED_DATA).then_some(entry.get(ENTRY_HEADER..)?)
}

/// The file as it was before it was signed: without the table, and without what signing writes into the headers.
pub(super) fn unsigned(file: &[u8]) -> Result<Vec<u8>, NotPe> {
    let (start, _) = place(file)?;
    let mut unsigned = file[..start].to_vec();
    let headers = headers(file)?;
    let checksum = headers + offset_of!(ImageNtHeaders64, optional_header.check_sum);
    for (at, length) in [(checksum, 4), (entry_of_table(headers), size_of::<ImageDataDirectory>())] {
        unsigned.get_mut(at..at + length).ok_or(NotPe)?.fill(0);
    }
    Ok(unsigned)
}

/// Where the table is: its first byte and the one after its last; both are the file's end if there is none.
fn place(file: &[u8]) -> Result<(usize, usize), NotPe> {
    let read = PeFile64::parse(file).map_err(|_| NotPe)?;
    let entry = read.data_directory(IMAGE_DIRECTORY_ENTRY_SECURITY);
    let Some(entry) = entry.filter(|entry| entry.size.get(LE) != 0) else {
        return Ok((file.len(), file.len()));
    };
    let (start, size) = (entry.virtual_address.get(LE) as usize, entry.size.get(LE) as usize);
    let end = start.checked_add(size).filter(|end| *end <= file.len()).ok_or(NotPe)?;
    Ok((start, end))
}

/// Where the headers begin that follow the one of DOS.
fn headers(file: &[u8]) -> Result<usize, NotPe> {
    let (dos, _) = from_bytes::<ImageDosHeader>(file).map_err(|()| NotPe)?;
    Ok(dos.e_lfanew.get(LE) as usize)
}

/// Where the headers have the table's place.
fn entry_of_table(headers: usize) -> usize {
    let directories = offset_of!(ImageNtHeaders64, optional_header) + size_of::<ImageOptionalHeader64>();
    headers + directories + IMAGE_DIRECTORY_ENTRY_SECURITY * size_of::<ImageDataDirectory>()
}
