//! Writes a machine's RAM, from a file, as the ELF core that `/proc/vmcore` would give: `core RAM ELFCOREHDR OUTPUT`.

mod support;

use std::io::Write;

use anyhow::{Context, bail};
use support::{RamFile, number};
use vmcore::{CoreHeader, Notes, Segment};

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const HEADER_BYTES: u64 = 64;
const PROGRAM_HEADER_BYTES: u64 = 56;
const PAGE: u64 = 4096;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ram_path, header, output] = arguments.as_slice() else {
        bail!("usage: core RAM ELFCOREHDR OUTPUT");
    };
    let memory = RamFile::open(ram_path)?;
    let header = CoreHeader::read(&memory, number(header)?)?;
    let notes = Notes::read(&memory, &header)?;
    let mut file = std::fs::File::create(output).with_context(|| output.clone())?;
    file.write_all(&headers(&header, notes.bytes()))?;
    for segment in header.segments() {
        let pages = pages(segment);
        file.write_all(memory.get(pages.start, pages.len() as usize)?)?;
    }
    Ok(())
}

/// All that comes before the first segment, which starts at a page.
fn headers(header: &CoreHeader, notes: &[u8]) -> Vec<u8> {
    let count = header.segments().len() as u64 + 1;
    let notes_offset = HEADER_BYTES + count * PROGRAM_HEADER_BYTES;
    let mut bytes = file_header(count as u16);
    let notes_len = notes.len() as u64;
    bytes.extend(program_header(PT_NOTE, [notes_offset, 0, 0, notes_len]));
    let mut offset = (notes_offset + notes_len).next_multiple_of(PAGE);
    for segment in header.segments() {
        let range = segment.physical;
        let inside = segment.stored_at - pages(segment).start;
        bytes.extend(program_header(
            PT_LOAD,
            [offset + inside, segment.virtual_start, range.start, range.len()],
        ));
        offset += pages(segment).len();
    }
    bytes.extend(notes);
    bytes.resize(bytes.len().next_multiple_of(PAGE as usize), 0);
    bytes
}

/// The pages that a segment touches, where they are stored.
fn pages(segment: &Segment) -> machine::Range {
    let start = segment.stored_at / PAGE * PAGE;
    machine::Range::new(start, (segment.stored_at + segment.physical.len()).next_multiple_of(PAGE))
}

/// `Elf64_Ehdr` of a core for x86-64.
fn file_header(program_headers: u16) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([4u16, 62].map(u16::to_le_bytes).as_flattened());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend([0, HEADER_BYTES, 0].map(u64::to_le_bytes).as_flattened());
    bytes.extend(0u32.to_le_bytes());
    let sizes = [HEADER_BYTES as u16, PROGRAM_HEADER_BYTES as u16, program_headers, 0, 0, 0];
    bytes.extend(sizes.map(u16::to_le_bytes).as_flattened());
    bytes
}

/// `Elf64_Phdr` with its offset, virtual and physical address, and length.
fn program_header(kind: u32, [offset, virtual_address, physical, len]: [u64; 4]) -> Vec<u8> {
    let mut bytes = [kind, 7].map(u32::to_le_bytes).as_flattened().to_vec();
    bytes.extend([offset, virtual_address, physical, len, len, 0].map(u64::to_le_bytes).as_flattened());
    bytes
}
