//! Selects pages from an ELF core: `select CORE LEVEL [BITMAP]`.
//!
//! Prints counts and the time it took; writes the bitmap of kept pages to the file BITMAP.

use std::time::Instant;

use anyhow::{Context, bail};
use machine::Unreadable;
use vmcore::{CoreFile, CoreHeader, Counts, Kernel, Level, Medium, Notes, Selection};

/// Bytes of bitmap that are made at a time; one stands for eight page frames.
const CHUNK: usize = 32 << 10;

/// A file in memory: reading it takes no time that should count.
struct Loaded(Vec<u8>);

impl Medium for Loaded {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let found = self.0.get(offset as usize..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(found.ok_or(Unreadable { address: offset.into(), len: into.len() as u64 })?);
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, level, output @ ..] = arguments.as_slice() else {
        bail!("usage: select CORE LEVEL [BITMAP]");
    };
    let level = level.parse().ok().and_then(Level::new).context("levels go from 0 to 31")?;
    let file = Loaded(std::fs::read(path).with_context(|| path.clone())?);
    let header = CoreHeader::read(&file, 0)?;
    let notes = Notes::read(&file, &header)?;
    let memory = CoreFile::new(file, &header)?;
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

fn describe(memory: &CoreFile<Loaded>, header: &CoreHeader, notes: &Notes, kernel: &Kernel) {
    println!("RAM: {:?}", header.ram().ranges().collect::<Vec<_>>());
    println!("notes: {} processors, {} damaged", notes.processors(), notes.damaged());
    println!("release: {:?}", kernel.utsname(memory).as_ref().and_then(|names| names.release()));
    for unknown in kernel.unknown() {
        println!("kept because {unknown}");
    }
}

fn select(
    memory: &CoreFile<Loaded>,
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
