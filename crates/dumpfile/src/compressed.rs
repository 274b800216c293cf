//! A kdump-compressed dump as the dead kernel's memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kdump::{Bitmap, Page, ReadError, Reader};
use machine::{OldMemory, PAGE_SHIFT, PAGE_SIZE, PhysicalAddress, Unreadable};
use vmcore::Ram;

use crate::{DumpError, FileView};

/// Pages that are kept uncompressed for each thread: tables are read again and again. A power of two.
const CACHED: usize = 1024;
/// More ranges of RAM than any machine has.
const MOST_RANGES: usize = 1 << 20;

/// The memory in a dump. Several threads may read it at once.
pub(crate) struct Compressed {
    reader: Reader<FileView>,
    /// The sessions that no thread uses at the moment.
    idle: Mutex<Vec<Session>>,
}

impl Compressed {
    pub(crate) fn open(file: FileView) -> Result<Self, ReadError> {
        Ok(Self { reader: Reader::open(file)?, idle: Mutex::default() })
    }

    /// The reader of the dump.
    pub(crate) fn reader(&self) -> &Reader<FileView> {
        &self.reader
    }

    /// The dead kernel's RAM.
    pub(crate) fn ram(&self) -> Result<Ram, DumpError> {
        let (mut reader, mut ranges, mut next) = (self.reader.clone(), Vec::new(), 0);
        while let Some(run) = reader.next_run(Bitmap::Existing, next)? {
            if ranges.len() == MOST_RANGES {
                return Err(DumpError::Scattered);
            }
            ranges.try_reserve(1)?;
            ranges.push(run.memory());
            next = run.end.get();
        }
        Ok(Ram::from_ranges(ranges.into_iter())?)
    }

    /// Why a page cannot be read, if so.
    pub(crate) fn check(&self, pfn: u64) -> Result<(), ReadError> {
        self.with(|session| session.cached(pfn).map(|_| ()))
    }

    pub(crate) fn next_page(&self, pfn: u64) -> Result<Option<u64>, ReadError> {
        self.with(|session| session.reader.next_set(Bitmap::Kept, pfn))
    }

    /// Runs `work` with a session that no other thread uses meanwhile.
    fn with<T>(&self, work: impl FnOnce(&mut Session) -> T) -> T {
        let idle = self.idle().pop();
        let mut session = idle.unwrap_or_else(|| Session::new(self.reader.clone()));
        let done = work(&mut session);
        self.idle().push(session);
        done
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OldMemory for Compressed {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        let unreadable = Unreadable { address, len: into.len() as u64 };
        self.with(|session| session.read(address.get(), into)).map_err(|_| unreadable)
    }

    /// If a part of the bitmap cannot be read, its bits are not cleared: its pages count as missing.
    fn keep_saved(&self, first_pfn: u64, bits: &mut [u8]) {
        let _ = self.with(|session| session.reader.retain(Bitmap::Kept, first_pfn, bits));
    }
}

/// The buffers with which one thread reads.
struct Session {
    reader: Reader<FileView>,
    /// Which page each of `pages` is.
    numbers: Box<[Option<u64>]>,
    pages: Box<[Page]>,
}

impl Session {
    fn new(reader: Reader<FileView>) -> Self {
        let (numbers, pages) = (vec![None; CACHED], vec![[0; kdump::BLOCK]; CACHED]);
        Self { reader, numbers: numbers.into(), pages: pages.into() }
    }

    /// Reads from one page after the other; whole pages are not remembered.
    fn read(&mut self, mut address: u64, mut into: &mut [u8]) -> Result<(), ReadError> {
        while !into.is_empty() {
            let (pfn, start) = (address >> PAGE_SHIFT, (address % PAGE_SIZE) as usize);
            let (now, later) = into.split_at_mut(into.len().min(kdump::BLOCK - start));
            match now.try_into() {
                Ok(page) => self.reader.read_page(pfn, page)?,
                Err(_) => now.copy_from_slice(&self.cached(pfn)?[start..start + now.len()]),
            }
            (address, into) = (address.wrapping_add(now.len() as u64), later);
        }
        Ok(())
    }

    fn cached(&mut self, pfn: u64) -> Result<&Page, ReadError> {
        let slot = pfn as usize % CACHED;
        let (number, page) = (&mut self.numbers[slot], &mut self.pages[slot]);
        if *number != Some(pfn) {
            *number = None;
            self.reader.read_page(pfn, page)?;
            *number = Some(pfn);
        }
        Ok(page)
    }
}
