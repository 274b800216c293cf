//! Selects pages from a file of a machine's RAM: `select RAM ELFCOREHDR LEVEL [BITMAP]`.
//!
//! Prints counts and the time it took; writes the bitmap of kept pages to the file BITMAP.

mod support;

use std::time::Instant;

use anyhow::{Context, bail};
use support::{RamFile, number};
use vmcore::{CoreHeader, Counts, Kernel, Level, Notes, Selection};

/// Bytes of bitmap that are made at a time; one stands for eight page frames.
const CHUNK: usize = 32 << 10;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ram_path, header, level, output @ ..] = arguments.as_slice() else {
        bail!("usage: select RAM ELFCOREHDR LEVEL [BITMAP]");
    };
    let memory = RamFile::open(ram_path)?;
    let level = u8::try_from(number(level)?).ok().and_then(Level::new).context("levels go from 0 to 31")?;
    let header = CoreHeader::read(&memory, number(header)?)?;
    let notes = Notes::read(&memory, &header)?;
    let kernel = Kernel::new(notes.vmcoreinfo());
    describe(&memory, &header, &notes, &kernel);

    let start = Instant::now();
    let (bitmap, counts) = select(&memory, &header, &kernel, level)?;
    println!("{counts:?} kept: {} in {:?}", counts.kept(), start.elapsed());
    if let [path] = output {
        std::fs::write(path, bitmap).with_context(|| path.clone())?;
    }
    Ok(())
}

fn describe(memory: &RamFile, header: &CoreHeader, notes: &Notes, kernel: &Kernel) {
    println!("RAM: {:?}", header.ram().ranges().collect::<Vec<_>>());
    println!("notes: {} processors, {} damaged", notes.processors(), notes.damaged());
    println!("release: {:?}", kernel.utsname(memory).as_ref().and_then(|names| names.release()));
    for unknown in kernel.unknown() {
        println!("kept because {unknown}");
    }
}

fn select(
    memory: &RamFile,
    header: &CoreHeader,
    kernel: &Kernel,
    level: Level,
) -> anyhow::Result<(Vec<u8>, Counts)> {
    let mut bitmap = vec![0; header.ram().end_pfn().div_ceil(8) as usize];
    let mut selection = Selection::new(memory, kernel, header.ram(), level)?;
    let (mut counts, mut first_pfn) = (Counts::default(), 0);
    for chunk in bitmap.chunks_mut(CHUNK) {
        counts += selection.fill(first_pfn, chunk);
        first_pfn += chunk.len() as u64 * 8;
    }
    Ok((bitmap, counts))
}
