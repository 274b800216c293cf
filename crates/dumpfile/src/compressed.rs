//! A kdump-compressed dump as the dead kernel's memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kdump::{Bitmap, Page, ReadError, Reader};
use machine::{OldMemory, PAGE_SHIFT, PAGE_SIZE, PhysicalAddress, Range, Unreadable};
use vmcore::{Level, Ram};

use crate::{DumpError, FileView};

/// Pages that are kept uncompressed for each thread: tables are read again and again. A power of two.
const CACHED: usize = 1024;
/// Bytes of the two blocks that begin with headers.
const HEADERS: u64 = 2 * kdump::BLOCK as u64;
/// More ranges of RAM, or of pages that were kept, than there are.
const MOST_RANGES: usize = 1 << 24;

/// The memory in a dump. Several threads may read it at once.
pub(crate) struct Compressed {
    reader: Reader<FileView>,
    ram: Ram,
    /// Pages that the dump keeps and does not list as RAM.
    unlisted: u64,
    /// Bytes that are missing at the end.
    lacking: u64,
    /// The list of erased data; `None` if it is not where the header says.
    erased: Option<Vec<u8>>,
    /// The sessions that no thread uses at the moment.
    idle: Mutex<Vec<Session>>,
}

impl Compressed {
    pub(crate) fn open(file: FileView) -> Result<Self, DumpError> {
        let (len, lacks_records) = (file.len(), file.lacks_records());
        if len < HEADERS {
            return Err(DumpError::HeaderCut { len });
        }
        // Parts of the headers' blocks are never written. The second bitmap tells which page is which, so none of it is made up.
        let file = file.with_gaps_as_zeros([Range::from(0..HEADERS), Range::default()]);
        let mut reader = Reader::open(file)?;
        if lacks_records && reader.pages() == 0 {
            return Err(ReadError::OutOfBounds("bitmaps").into());
        }
        let tables = reader.tables();
        reader.change_device(|file| file.with_gaps_as_zeros(tables));
        let listed = ram(&reader, &[Bitmap::Existing])?;
        let ram = ram(&reader, &[Bitmap::Existing, Bitmap::Kept])?;
        // Missing records say more.
        let lacking = if lacks_records { 0 } else { reader.lacking() };
        let (unlisted, erased) = (ram.pages() - listed.pages(), reader.eraseinfo().ok());
        Ok(Self { reader, unlisted, ram, lacking, erased, idle: Mutex::default() })
    }

    /// The reader of the dump.
    pub(crate) fn reader(&self) -> &Reader<FileView> {
        &self.reader
    }

    /// The dead kernel's RAM.
    pub(crate) fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Number of pages that are in the dump, although they are in no memory that it lists.
    pub(crate) fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// Number of bytes that are missing at the end, as far as the descriptors tell.
    pub(crate) fn lacking(&self) -> u64 {
        self.lacking
    }

    /// Number of values in the header that make no sense.
    pub(crate) fn clipped(&self) -> usize {
        let level = Level::new(self.reader.header().dump_level);
        usize::from(level.is_none()) + usize::from(self.erased.is_none())
    }

    /// The list of data that was erased; empty if there is none.
    pub(crate) fn erased(&self) -> &[u8] {
        self.erased.as_deref().unwrap_or_default()
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

/// The page frames in any of these bitmaps.
fn ram(reader: &Reader<FileView>, bitmaps: &[Bitmap]) -> Result<Ram, DumpError> {
    let (mut reader, mut ranges) = (reader.clone(), Vec::new());
    for bitmap in bitmaps {
        let mut next = 0;
        while let Some(run) = reader.next_run(*bitmap, next)? {
            if ranges.len() == MOST_RANGES {
                return Err(DumpError::Scattered);
            }
            ranges.try_reserve(1)?;
            ranges.push(run.memory());
            next = run.end.get();
        }
    }
    Ok(Ram::from_ranges(ranges.into_iter())?)
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
