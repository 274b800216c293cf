//! The record and the memory in a dump.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dumpfile::DumpError;
use kdump::Page;
use machine::{ENTRIES, OldMemory, PAGE_SHIFT, PAGE_SIZE, Table, Unreadable};
use record::Record;

/// Pages that are kept uncompressed: tables are shared, and read again for each device.
const CACHED: usize = 1024;

/// An open dump.
pub(crate) struct Dump {
    /// Its file.
    pub(crate) path: PathBuf,
    /// Release of the kernel that died.
    pub(crate) release: String,
    /// Whether it was finished.
    pub(crate) is_complete: bool,
    /// What the capture kernel found and did.
    pub(crate) record: Record,
    /// The dead kernel's memory, as far as it was dumped.
    pub(crate) memory: DumpedMemory,
}

/// Memory by physical address.
pub(crate) struct DumpedMemory {
    pages: RefCell<Pages>,
}

/// Reads pages, and remembers some.
struct Pages {
    file: dumpfile::Dump,
    cache: Vec<Option<(u64, Box<Page>)>>,
}

impl Dump {
    /// Opens a dump and reads the record in it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = dumpfile::Dump::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::read(path, file).with_context(|| format!("cannot inspect {}", path.display()))
    }

    fn read(path: &Path, file: dumpfile::Dump) -> Result<Self> {
        let Some(record) = find_record(file.notes())? else {
            bail!(
                "no record of a takeover is in it; only dumps that Holdover's capture kernel wrote have one"
            );
        };
        Ok(Self {
            path: path.to_owned(),
            release: file.release().escape_debug().to_string(),
            is_complete: file.is_complete(),
            record,
            memory: DumpedMemory::new(file),
        })
    }
}

/// Finds the record among a dump's notes.
pub(crate) fn find_record(notes: &[u8]) -> Result<Option<Record>, record::DecodeError> {
    let mut notes = vmcore::notes_in(notes);
    let note = notes.find(|note| note.name == record::NOTE_NAME && note.kind == record::NOTE_TYPE);
    note.map(|note| Record::decode(note.content)).transpose()
}

impl DumpedMemory {
    fn new(file: dumpfile::Dump) -> Self {
        let cache = std::iter::repeat_with(|| None).take(CACHED).collect();
        Self { pages: RefCell::new(Pages { file, cache }) }
    }

    /// Why the page at this address cannot be read, if so.
    pub(crate) fn why_not(&self, address: u64) -> Option<DumpError> {
        self.pages.borrow_mut().page(address >> PAGE_SHIFT).err()
    }
}

impl Pages {
    fn page(&mut self, pfn: u64) -> Result<&Page, DumpError> {
        let slot = &mut self.cache[pfn as usize % CACHED];
        if slot.as_ref().is_some_and(|(cached, _)| *cached != pfn) {
            *slot = None;
        }
        if let Some((_, page)) = slot {
            return Ok(page);
        }
        let mut page = Box::new([0; kdump::BLOCK]);
        self.file.read_page(pfn, &mut page)?;
        Ok(&slot.insert((pfn, page)).1)
    }
}

impl OldMemory for DumpedMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let unreadable = Unreadable { address, len: into.len() as u64 };
        let mut pages = self.pages.borrow_mut();
        let mut done = 0;
        while done < into.len() {
            let at = address.checked_add(done as u64).ok_or(unreadable)?;
            let offset = (at % PAGE_SIZE) as usize;
            let len = (into.len() - done).min(kdump::BLOCK - offset);
            let page = pages.page(at >> PAGE_SHIFT).map_err(|_| unreadable)?;
            into[done..done + len].copy_from_slice(&page[offset..offset + len]);
            done += len;
        }
        Ok(())
    }

    fn read_table(&self, address: u64, into: &mut Table) -> Result<(), Unreadable> {
        let mut bytes = [0; 8 * ENTRIES];
        self.read(address, &mut bytes)?;
        for (entry, bytes) in into.iter_mut().zip(bytes.as_chunks().0) {
            *entry = u64::from_le_bytes(*bytes);
        }
        Ok(())
    }
}
