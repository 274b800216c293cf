//! Reads a dump from any device, and checks everything in it before using it.
//!
//! The reader compares every number of the file with the size of the device, or with the page size, before it uses
//! the number as an offset or a length. Hostile bytes give an error, never a panic. The reader allocates memory for
//! one number per block of a bitmap that lies wholly on the device, and for notes of a limited size.

#![cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "dumps are read on hosts, which have memory")
)]

mod bitmaps;
mod descriptors;
mod error;
mod headers;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{BlockDevice, Range};

use self::bitmaps::CachedBlock;
use self::descriptors::CachedDescriptors;
pub use self::error::ReadError;
use self::headers::{check_geometry, header, read_headers};
use crate::codec::{Codec, Decompressor};
use crate::layout::{self, Geometry};
use crate::{BLOCK, Bitmap, Header, Page};

/// `block_size` of a machine with pages of 4096 bytes.
const BLOCK_SIZE: u32 = BLOCK as u32;

/// More bytes of notes than any machine leaves: 4096 CPUs take less than two million.
const NOTES_LIMIT: u64 = 16 << 20;

/// An open dump. Clones, on clones of the device, share its tables, so each thread can have one.
pub struct Reader<D> {
    device: D,
    header: Header,
    complete: bool,
    geometry: Geometry,
    notes: Extent,
    vmcoreinfo: Extent,
    eraseinfo: Extent,
    /// For each block of the second bitmap, how many pages are kept before it.
    kept_before: Arc<Vec<u64>>,
    /// How many pages are kept altogether.
    kept: u64,
    /// First page frame of which the second bitmap is not there.
    known_kept: u64,
    /// The blocks of the bitmaps that were read last.
    cached: [CachedBlock; 2],
    /// The descriptors that were read last.
    descriptors: Box<CachedDescriptors>,
    decompressor: Decompressor,
}

/// A stretch of bytes in the file.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u64,
    len: u64,
}

impl<D: Clone> Clone for Reader<D> {
    fn clone(&self) -> Self {
        Self {
            device: self.device.clone(),
            header: self.header.clone(),
            complete: self.complete,
            geometry: self.geometry,
            notes: self.notes,
            vmcoreinfo: self.vmcoreinfo,
            eraseinfo: self.eraseinfo,
            kept_before: Arc::clone(&self.kept_before),
            kept: self.kept,
            known_kept: self.known_kept,
            cached: [CachedBlock::EMPTY; 2],
            descriptors: Box::new(CachedDescriptors::EMPTY),
            decompressor: Decompressor::new(),
        }
    }
}

impl<D: BlockDevice> Reader<D> {
    /// Opens a dump: checks its headers and counts its pages.
    ///
    /// If the second bitmap ends early, so does the list of pages, and the dump counts as incomplete.
    pub fn open(mut device: D) -> Result<Self, ReadError> {
        let (first, sub) = read_headers(&mut device)?;
        let frames = sub.max_mapnr_64.get();
        let geometry = check_geometry(&first, frames, device.size())?;
        let mut reader = Self {
            device,
            header: header(&first, &sub),
            complete: first.status.get() & layout::INCOMPLETE == 0,
            geometry,
            notes: Extent { start: sub.offset_note.get(), len: sub.size_note.get() },
            vmcoreinfo: Extent { start: sub.offset_vmcoreinfo.get(), len: sub.size_vmcoreinfo.get() },
            eraseinfo: Extent { start: sub.offset_eraseinfo.get(), len: sub.size_eraseinfo.get() },
            kept_before: Arc::default(),
            kept: 0,
            known_kept: u64::MAX,
            cached: [CachedBlock::EMPTY; 2],
            descriptors: Box::new(CachedDescriptors::EMPTY),
            decompressor: Decompressor::new(),
        };
        reader.count_pages()?;
        Ok(reader)
    }

    /// The facts of the machine that the dump was taken from.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether the dump was finished; if not, some of its pages may be missing.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Number of pages that the dump keeps, including those that may be missing.
    pub fn pages(&self) -> u64 {
        self.kept
    }

    /// Reads the ELF notes.
    pub fn notes(&mut self) -> Result<Vec<u8>, ReadError> {
        self.read_extent(self.notes).ok_or(ReadError::OutOfBounds("notes"))?
    }

    /// Reads the text of VMCOREINFO; empty if the dump has none.
    pub fn vmcoreinfo(&mut self) -> Result<Vec<u8>, ReadError> {
        self.read_extent(self.vmcoreinfo).ok_or(ReadError::OutOfBounds("lines of VMCOREINFO"))?
    }

    /// Reads the list of data that was erased; empty if nothing was.
    pub fn eraseinfo(&mut self) -> Result<Vec<u8>, ReadError> {
        self.read_extent(self.eraseinfo).ok_or(ReadError::OutOfBounds("lists of erased data"))?
    }

    /// Reads the page with that page frame number.
    pub fn read_page(&mut self, pfn: u64, page: &mut Page) -> Result<(), ReadError> {
        let descriptor = self.descriptor(pfn)?;
        if descriptor.offset == 0 {
            return Err(ReadError::Missing(pfn));
        }
        let flags = descriptor.flags.get();
        let codec =
            Codec::named_by(flags).ok_or(ReadError::Unsupported { what: "page flags", value: flags })?;
        let len = descriptor.size.get() as usize;
        let mut buffer = [0; 2 * BLOCK];
        let data =
            self.read_small(descriptor.offset.get(), len, &mut buffer)?.ok_or(ReadError::Damaged(pfn))?;
        if self.decompressor.decompress(codec, data, page) { Ok(()) } else { Err(ReadError::Damaged(pfn)) }
    }

    /// Replaces the device by another with the same content.
    pub fn change_device(&mut self, change: impl FnOnce(D) -> D)
    where
        D: Clone,
    {
        self.device = change(self.device.clone());
    }

    /// The parts of the file where zeros mean that something is not there, and never that something else is: all before the
    /// second bitmap, and the descriptors.
    pub fn tables(&self) -> [Range<u64>; 2] {
        let Range { start, end } = self.table();
        [Range::from(0..self.geometry.bitmap(Bitmap::Kept)), Range::from(start.get()..end.get())]
    }

    /// Hands the device back.
    pub fn into_device(self) -> D {
        self.device
    }

    /// Reads up to a block of bytes from anywhere; `None` if they are more, or lie outside the device.
    fn read_small<'b>(
        &mut self,
        offset: u64,
        len: usize,
        buffer: &'b mut [u8; 2 * BLOCK],
    ) -> Result<Option<&'b [u8]>, ReadError> {
        let size = self.device.size();
        let inside = offset.checked_add(len as u64).is_some_and(|end| end <= size);
        if len > BLOCK || !inside {
            return Ok(None);
        }
        let grain = u64::from(self.device.block_size());
        let start = offset / grain * grain;
        let skip = (offset - start) as usize;
        let end = (skip + len).next_multiple_of(grain as usize);
        self.device.read(start, &mut buffer[..end])?;
        Ok(buffer.get(skip..skip + len))
    }

    /// Reads a stretch of the file into memory; `None` if it lies outside the device.
    fn read_extent(&mut self, extent: Extent) -> Option<Result<Vec<u8>, ReadError>> {
        let end = extent.start.checked_add(extent.len)?;
        if end > self.device.size() || extent.len > NOTES_LIMIT {
            return None;
        }
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(extent.len as usize).is_err() {
            return Some(Err(ReadError::OutOfMemory));
        }
        Some(self.append_bytes(extent.start, end, &mut bytes).map(|()| bytes))
    }

    fn append_bytes(&mut self, start: u64, end: u64, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
        let mut buffer = [0; 2 * BLOCK];
        let mut at = start;
        while at < end {
            let len = (end - at).min(BLOCK as u64);
            let part = self.read_small(at, len as usize, &mut buffer)?;
            bytes.extend_from_slice(part.ok_or(ReadError::OutOfBounds("notes"))?);
            at += len;
        }
        Ok(())
    }
}
