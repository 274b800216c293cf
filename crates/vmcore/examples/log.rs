//! Prints the dead kernel's log from an ELF core: `log CORE`.

use std::io::Write;

use anyhow::{Context, bail};
use machine::Unreadable;
use vmcore::{CoreFile, CoreHeader, Kernel, Medium, Notes};

/// A file in memory.
struct Loaded(Vec<u8>);

impl Medium for Loaded {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let found = self.0.get(offset as usize..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(found.ok_or(Unreadable { address: offset.into(), len: into.len() as u64 })?);
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let Some(path) = std::env::args().nth(1) else { bail!("usage: log CORE") };
    let file = Loaded(std::fs::read(&path).context(path)?);
    let header = CoreHeader::read(&file, 0)?;
    let notes = Notes::read(&file, &header)?;
    let memory = CoreFile::new(file, &header)?;
    let kernel = Kernel::new(notes.vmcoreinfo());
    let mut out = std::io::stdout();
    Ok(kernel.log(&memory, || true)?.print(|text| out.write_all(text))?)
}
