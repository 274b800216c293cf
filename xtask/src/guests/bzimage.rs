//! Wraps a position-independent ELF program into a bzImage that kexec loads.
//!
//! A bzImage is a real-mode part, here only its header, and the program as it lies in memory, which starts with the
//! entry points at fixed offsets (Linux: Documentation/arch/x86/boot.rst). It is a PE file too (`pe.rs`), so that it can be signed.

use anyhow::{Context, Result, bail, ensure};
use handoff::setup_header::{
    BOOT_FLAG, CAN_BE_LOADED_ABOVE_4G, CMDLINE_SIZE, CODE32_START, ENTRY_64, FIVE_LEVEL, FIVE_LEVEL_USED,
    INIT_SIZE, INITRD_ADDR_MAX, JUMP, KERNEL_64, KERNEL_ALIGNMENT, LOADED_HIGH, LOADFLAGS, MIN_ALIGNMENT,
    PREF_ADDRESS, RELOCATABLE_KERNEL, SECTOR, SETUP_SECTS, SIGNATURE, SYSSIZE, VERSION, XLOADFLAGS,
};
use object::elf::{PT_LOAD, R_X86_64_RELATIVE, RelocationType};
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _};

use super::pe;

/// Sectors of the real-mode part after the first one: kexec wants the file to have at least 1024 bytes before the
/// program.
const SETUP_SECTORS: u8 = 1;
/// The image is loaded at a multiple of this.
const ALIGNMENT: u32 = 2 << 20;
/// Longest command line; the capture kernel reads as much.
const COMMAND_LINE: u32 = 2048;

/// First byte after the header; the jump instruction says so to kexec.
const HEADER_END: usize = 0x26c;

const PROTOCOL: u16 = 0x020f;

/// Bytes of certificates for which there must be room behind the program in memory: `kexec_file_load` copies a signed file whole,
/// and refuses one that is longer than its memory. One signature takes 2 KiB, with a chain of certificates 18 KiB at most were seen.
const CERTIFICATES: usize = 64 << 10;

/// The program, as it lies in memory.
struct Program {
    /// Its bytes, without those at the end that are zero at its start.
    bytes: Vec<u8>,
    /// All of its bytes.
    memory: u32,
    /// Where firmware enters it.
    efi_entry: u32,
}

/// Makes a bzImage of the ELF program.
pub(crate) fn wrap(elf: &[u8]) -> Result<Vec<u8>> {
    let file = ElfFile64::<LittleEndian>::parse(elf).context("the capture kernel is no ELF program")?;
    check_entry(&file)?;
    check_relocations(&file)?;
    image(Program {
        bytes: flatten(&file)?,
        memory: u32::try_from(symbol(&file, "image_end")?)?,
        efi_entry: u32::try_from(symbol(&file, "efi_entry")?)?,
    })
}

/// Puts the program behind its headers.
fn image(mut program: Program) -> Result<Vec<u8>> {
    let length = program.bytes.len().next_multiple_of(pe::FILE_ALIGNMENT as usize);
    program.bytes.resize(length, 0);
    ensure!(length + CERTIFICATES <= program.memory as usize, "no room for certificates behind the program");
    let mut image = header(length, program.memory);
    let parts = pe::Parts {
        headers: u32::try_from(image.len())?,
        program: u32::try_from(length)?,
        memory: program.memory,
        entry: program.efi_entry,
    };
    pe::write(&mut image[..SETUP_SECTS], parts)?;
    image.extend(program.bytes);
    Ok(image)
}

/// The program as it lies in memory, up to its zero-initialized end.
fn flatten(file: &ElfFile64<LittleEndian>) -> Result<Vec<u8>> {
    let mut program = Vec::new();
    for segment in file.elf_program_headers().iter().filter(|segment| segment.p_type(LittleEndian) == PT_LOAD)
    {
        let bytes = segment.data(LittleEndian, file.data()).ok().context("a segment outside the file")?;
        let start = usize::try_from(segment.p_vaddr(LittleEndian))?;
        program.resize(program.len().max(start + bytes.len()), 0);
        program[start..][..bytes.len()].copy_from_slice(bytes);
    }
    Ok(program)
}

fn check_entry(file: &ElfFile64<LittleEndian>) -> Result<()> {
    ensure!(symbol(file, "image_start")? == 0, "the program is not linked to address 0");
    ensure!(file.entry() == ENTRY_64, "the 64-bit entry is at {:#x}", file.entry());
    Ok(())
}

/// The program's first instructions apply one kind of relocation only.
fn check_relocations(file: &ElfFile64<LittleEndian>) -> Result<()> {
    let section = file.section_by_name(".rela.dyn").context("no relocations")?;
    for entry in section.data()?.chunks(24) {
        let kind = RelocationType(u32::from_le_bytes(entry[8..12].try_into()?));
        ensure!(
            kind == R_X86_64_RELATIVE,
            "relocation of type {kind:?}, which the capture kernel does not apply"
        );
    }
    Ok(())
}

fn symbol(file: &ElfFile64<LittleEndian>, name: &str) -> Result<u64> {
    match file.symbol_by_name(name) {
        Some(symbol) => Ok(symbol.address()),
        None => bail!("the capture kernel has no symbol {name}"),
    }
}

/// The real-mode part: a header, and no code, since kexec never runs it.
fn header(program: usize, init_size: u32) -> Vec<u8> {
    let mut bytes = vec![0; (usize::from(SETUP_SECTORS) + 1) * SECTOR];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..][..value.len()].copy_from_slice(value);
    put(SETUP_SECTS, &[SETUP_SECTORS]);
    put(SYSSIZE, &(program.div_ceil(16) as u32).to_le_bytes());
    put(BOOT_FLAG, &[0x55, 0xAA]);
    put(JUMP, &[0xEB, (HEADER_END - JUMP - 2) as u8]);
    put(SIGNATURE, b"HdrS");
    put(VERSION, &PROTOCOL.to_le_bytes());
    put(LOADFLAGS, &[LOADED_HIGH]);
    put(CODE32_START, &0x10_0000u32.to_le_bytes());
    put(INITRD_ADDR_MAX, &0x7FFF_FFFFu32.to_le_bytes());
    put(KERNEL_ALIGNMENT, &ALIGNMENT.to_le_bytes());
    put(RELOCATABLE_KERNEL, &[1]);
    put(MIN_ALIGNMENT, &[ALIGNMENT.trailing_zeros() as u8]);
    // It finds out by itself whether paging has four or five levels: it can be entered with either.
    let flags = KERNEL_64 | CAN_BE_LOADED_ABOVE_4G | FIVE_LEVEL | FIVE_LEVEL_USED;
    put(XLOADFLAGS, &flags.to_le_bytes());
    put(CMDLINE_SIZE, &(COMMAND_LINE - 1).to_le_bytes());
    put(PREF_ADDRESS, &u64::from(ALIGNMENT).to_le_bytes());
    put(INIT_SIZE, &init_size.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use goblin::pe::PE;

    use super::*;

    #[test]
    fn the_header_says_what_kexec_looks_at() {
        let bytes = header(100_000, 0x12_3456);
        assert_eq!(bytes.len(), 1024);
        assert_eq!(bytes[0x1f1], 1, "one sector follows the first");
        assert_eq!(bytes[0x1fe..0x202], [0x55, 0xAA, 0xEB, 0x6A], "signature, and a jump over the header");
        assert_eq!(&bytes[0x202..0x206], b"HdrS");
        assert_eq!(bytes[0x206..0x208], [0x0F, 0x02], "protocol 2.15");
        assert_eq!(bytes[0x211] & 1, 1, "loaded high");
        assert_eq!(bytes[0x230..0x236], [0, 0, 0x20, 0, 1, 21], "relocatable by 2 MiB");
        assert_eq!(bytes[0x236..0x238], [0x63, 0], "64 bits, anywhere, with 4 or 5 levels of paging");
        assert_eq!(bytes[0x260..0x264], [0x56, 0x34, 0x12, 0]);
    }

    /// An image of a program whose firmware entry is at 0x40.
    fn sample() -> Vec<u8> {
        image(Program { bytes: vec![0x90; 100_001], memory: 0x12_3456, efi_entry: 0x40 }).unwrap()
    }

    #[test]
    fn the_image_is_a_pe_file_that_can_be_signed_and_verified() {
        let image = sample();
        let read = PE::parse(&image).unwrap();
        assert!(read.is_64 && !read.is_lib);
        assert_eq!(read.header.dos_header.pe_pointer, 0x40);
        assert_eq!(read.header.coff_header.machine, 0x8664);
        let optional = read.header.optional_header.unwrap();
        let windows = optional.windows_fields;
        assert_eq!(windows.subsystem, 10, "an EFI application");
        assert_eq!(windows.dll_characteristics, 0x100, "NX");
        assert_eq!(windows.number_of_rva_and_sizes, 6, "the fifth is the certificate table");
        assert!(optional.data_directories.data_directories[4].is_none(), "no certificate yet");
        assert_eq!(windows.size_of_headers, 1024);
        assert_eq!((windows.section_alignment, windows.file_alignment), (0x1000, 512));
        assert_eq!(windows.size_of_image, 0x1000 + 0x12_4000, "the headers' page and the program in memory");
        assert_eq!(read.entry, 0x1040);
    }

    #[test]
    fn the_one_section_goes_from_the_headers_to_the_end_of_the_file() {
        let image = sample();
        let read = PE::parse(&image).unwrap();
        let [section] = &read.sections[..] else { panic!("{} sections", read.sections.len()) };
        assert_eq!(section.name().unwrap(), ".text");
        assert_eq!((section.virtual_address, section.virtual_size), (0x1000, 0x12_3456));
        assert_eq!(section.pointer_to_raw_data, 1024);
        assert_eq!((section.pointer_to_raw_data + section.size_of_raw_data) as usize, image.len());
        assert_eq!(section.characteristics, 0x6000_0020, "code that is read and executed");
        assert!(image.len().is_multiple_of(8), "`sbsign` would pad it");
    }

    /// All but the checksum and the entry of the certificate table.
    #[test]
    fn a_signature_is_over_every_other_byte_of_the_file() {
        let image = sample();
        let signed: usize = PE::parse(&image).unwrap().authenticode_ranges().map(<[u8]>::len).sum();
        assert_eq!(signed, image.len() - 4 - 8);
    }

    #[test]
    fn the_pe_header_and_the_boot_protocols_are_apart() {
        let image = sample();
        assert_eq!(image[0x120..0x1f1], [0; 0xd1], "nothing between them");
        assert_eq!((image[0x1f1], &image[0x202..0x206]), (1, &b"HdrS"[..]));
    }

    #[test]
    fn a_program_without_room_for_certificates_is_refused() {
        let program = |memory| Program { bytes: vec![0; 100_000], memory, efi_entry: 0 };
        assert!(image(program(100_000 + (64 << 10))).is_err(), "100,000 is no whole number of blocks");
        assert!(image(program(100_352 + (64 << 10))).is_ok());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(wrap(b"no program").is_err());
    }
}
