//! The PE header of the image, by which Secure Boot's tools sign it and the kernel checks the signature.
//!
//! It says what Linux' own images say: an EFI application (Microsoft, PE Format; UEFI specification, section 2.1.1). A signature is
//! over the headers, each section and what follows them (Microsoft, Windows Authenticode Portable Executable Signature Format), so
//! the one section begins where the headers end and goes to the end of the file: no byte is outside. When Linux 6.1 and 6.12 check
//! the signature of an image without sections, they read memory that is not there.

use anyhow::{Context as _, Result, ensure};
use object::LittleEndian as LE;
use object::pe::{
    IMAGE_DLLCHARACTERISTICS_NX_COMPAT, IMAGE_DOS_SIGNATURE, IMAGE_FILE_DEBUG_STRIPPED,
    IMAGE_FILE_EXECUTABLE_IMAGE, IMAGE_FILE_LINE_NUMS_STRIPPED, IMAGE_FILE_MACHINE_AMD64,
    IMAGE_NT_OPTIONAL_HDR64_MAGIC, IMAGE_NT_SIGNATURE, IMAGE_SCN_CNT_CODE, IMAGE_SCN_MEM_EXECUTE,
    IMAGE_SCN_MEM_READ, IMAGE_SUBSYSTEM_EFI_APPLICATION, ImageDataDirectory, ImageDosHeader, ImageFileHeader,
    ImageNtHeaders64, ImageOptionalHeader64, ImageSectionHeader,
};
use object::pod::{Pod, from_bytes_mut};

/// The file's headers and its section begin at multiples of this in the file, and end there.
pub(super) const FILE_ALIGNMENT: u32 = 512;
/// The section begins at this address; the headers lie below it. It is also the alignment in memory.
const SECTION: u32 = 0x1000;
/// The fifth data directory is the certificate table; `sbsign` refuses fewer than five.
const DIRECTORIES: u32 = 6;

/// What the image consists of; sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// The file's first part, which holds the headers.
    pub(super) headers: u32,
    /// The program in the file, which follows.
    pub(super) program: u32,
    /// The program in memory.
    pub(super) memory: u32,
    /// Where in the program firmware enters it.
    pub(super) entry: u32,
}

/// Writes the header of an image at the start of `bytes`.
pub(super) fn write(bytes: &mut [u8], parts: Parts) -> Result<()> {
    let is_whole = |size: u32| size.is_multiple_of(FILE_ALIGNMENT);
    ensure!(
        is_whole(parts.headers) && is_whole(parts.program),
        "{parts:?} are no multiples of {FILE_ALIGNMENT}"
    );
    let (dos, rest): (&mut ImageDosHeader, _) = part(bytes)?;
    dos.e_magic.set(LE, IMAGE_DOS_SIGNATURE);
    dos.e_lfanew.set(LE, size_of::<ImageDosHeader>() as u32);
    let (nt, mut rest): (&mut ImageNtHeaders64, _) = part(rest)?;
    nt.signature.set(LE, IMAGE_NT_SIGNATURE);
    fill_file_header(&mut nt.file_header);
    fill_optional_header(&mut nt.optional_header, parts);
    // All of them are empty.
    for _ in 0..DIRECTORIES {
        (_, rest) = part::<ImageDataDirectory>(rest)?;
    }
    fill_section(part(rest)?.0, parts);
    Ok(())
}

fn part<T: Pod>(bytes: &mut [u8]) -> Result<(&mut T, &mut [u8])> {
    from_bytes_mut(bytes).ok().context("the PE header is too long")
}

fn fill_file_header(header: &mut ImageFileHeader) {
    let optional =
        size_of::<ImageOptionalHeader64>() + DIRECTORIES as usize * size_of::<ImageDataDirectory>();
    header.machine.set(LE, IMAGE_FILE_MACHINE_AMD64);
    header.number_of_sections.set(LE, 1);
    header.size_of_optional_header.set(LE, optional as u16);
    header
        .characteristics
        .set(LE, IMAGE_FILE_EXECUTABLE_IMAGE | IMAGE_FILE_LINE_NUMS_STRIPPED | IMAGE_FILE_DEBUG_STRIPPED);
}

fn fill_optional_header(header: &mut ImageOptionalHeader64, parts: Parts) {
    header.magic.set(LE, IMAGE_NT_OPTIONAL_HDR64_MAGIC);
    header.size_of_code.set(LE, parts.program);
    header.address_of_entry_point.set(LE, SECTION + parts.entry);
    header.base_of_code.set(LE, SECTION);
    header.section_alignment.set(LE, SECTION);
    header.file_alignment.set(LE, FILE_ALIGNMENT);
    // Firmware loads no image that tells less than its sections take.
    header.size_of_image.set(LE, SECTION + parts.memory.next_multiple_of(SECTION));
    header.size_of_headers.set(LE, parts.headers);
    header.subsystem.set(LE, IMAGE_SUBSYSTEM_EFI_APPLICATION);
    header.dll_characteristics.set(LE, IMAGE_DLLCHARACTERISTICS_NX_COMPAT);
    header.number_of_rva_and_sizes.set(LE, DIRECTORIES);
}

fn fill_section(section: &mut ImageSectionHeader, parts: Parts) {
    section.name[..5].copy_from_slice(b".text");
    section.virtual_size.set(LE, parts.memory);
    section.virtual_address.set(LE, SECTION);
    section.size_of_raw_data.set(LE, parts.program);
    section.pointer_to_raw_data.set(LE, parts.headers);
    section.characteristics.set(LE, IMAGE_SCN_CNT_CODE | IMAGE_SCN_MEM_EXECUTE | IMAGE_SCN_MEM_READ);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_ends_within_a_block_of_the_file_is_refused() {
        let parts = Parts { headers: 1024, program: 4096, memory: 4096, entry: 0 };
        assert!(write(&mut [0; 0x120], parts).is_ok());
        assert!(write(&mut [0; 0x11f], parts).is_err(), "the header is 0x120 bytes long");
        assert!(write(&mut [0; 0x120], Parts { headers: 1000, ..parts }).is_err());
        assert!(write(&mut [0; 0x120], Parts { program: 4095, ..parts }).is_err());
    }
}
