//! Reads a dump from any device, and checks everything in it before using it.
//!
//! The reader compares every number of the file with the size of the device, or with the page size, before it uses
//! the number as an offset or a length. Hostile bytes give an error, never a panic. The reader allocates memory for
//! one number per block of a bitmap that lies wholly on the device, and for notes of a limited size.

#![cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "dumps are read on hosts, which have memory")
)]

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{BlockDevice, BlockError, ByteOffset, Pfn, Range};
use zerocopy::FromBytes;

use crate::codec::{Codec, Decompressor};
use crate::layout::{self, DESCRIPTOR_LEN, Descriptor, DiskDumpHeader, Geometry, Name, SubHeader};
use crate::{BLOCK, Bitmap, Header, Page};

/// `block_size` of a machine with pages of 4096 bytes.
const BLOCK_SIZE: u32 = BLOCK as u32;

/// Page frames that one block of a bitmap speaks for.
const FRAMES_PER_BLOCK: u64 = 8 * BLOCK as u64;

/// More page frames than a machine can have: physical addresses end at 52 bits (Intel SDM, volume 3, section 5.1.4).
const FRAMES_LIMIT: u64 = 1 << (52 - machine::PAGE_SHIFT);

/// Descriptors that are read together: whole ones in whole blocks.
const DESCRIPTORS: usize = 3 * BLOCK / DESCRIPTOR_LEN;

/// More bytes of notes than any machine leaves: 4096 CPUs take less than two million.
const NOTES_LIMIT: u64 = 16 << 20;

/// Why something could not be read from a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The device refused or failed.
    #[error(transparent)]
    Device(#[from] BlockError),
    /// The file does not begin like a kdump-compressed dump.
    #[error("not a kdump-compressed dump")]
    NotADump,
    /// The file is a dump of a kind that this reader does not support.
    #[error("kdump-compressed dump with {what} {value}, which is not supported")]
    Unsupported {
        /// Which property.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// It is of a machine whose pages this library does not understand.
    #[error("a dump of an {} machine; only those of x86_64 are read", .0.as_str().escape_debug())]
    ForeignMachine(Name),
    /// It is one of several.
    #[error("one of the files of a split dump: `makedumpfile --reassemble` joins them to one")]
    Split,
    /// A part of the file lies outside it.
    #[error("the {0} lie outside the file")]
    OutOfBounds(&'static str),
    /// The page is not among those that were kept.
    #[error("page frame {0:#x} is not in the dump")]
    NotKept(u64),
    /// The page belongs in the dump, but the dump was cut short before it, or its memory could not be read.
    #[error("page frame {0:#x} is missing from the dump")]
    Missing(u64),
    /// The page is there and is damaged.
    #[error("the data of page frame {0:#x} is damaged")]
    Damaged(u64),
    /// No memory for tables or notes.
    #[error("out of memory")]
    OutOfMemory,
}

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

/// A block of a bitmap.
struct CachedBlock {
    index: Option<u64>,
    bits: Page,
}

impl CachedBlock {
    const EMPTY: Self = Self { index: None, bits: [0; BLOCK] };
}

/// Descriptors that follow each other in the file.
struct CachedDescriptors {
    /// Number of the first one, among those of all kept pages.
    first: u64,
    bytes: [u8; DESCRIPTORS * DESCRIPTOR_LEN],
    /// How many of the bytes are from the file.
    len: usize,
}

impl CachedDescriptors {
    const EMPTY: Self = Self { first: 0, bytes: [0; DESCRIPTORS * DESCRIPTOR_LEN], len: 0 };

    fn get(&self, index: u64) -> Option<Descriptor> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?.checked_mul(DESCRIPTOR_LEN)?;
        let bytes = self.bytes[..self.len].get(at..)?;
        Descriptor::read_from_prefix(bytes).ok().map(|(descriptor, _)| descriptor)
    }
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

    /// The first page frame at or after `pfn` whose bit is set; `None` if there is none.
    pub fn next_set(&mut self, bitmap: Bitmap, pfn: u64) -> Result<Option<u64>, ReadError> {
        self.find(bitmap, pfn, |byte| byte)
    }

    /// The first run of page frames at or after `pfn` whose bits are set; `None` if there is none.
    pub fn next_run(&mut self, bitmap: Bitmap, pfn: u64) -> Result<Option<Range<Pfn>>, ReadError> {
        let Some(start) = self.next_set(bitmap, pfn)? else { return Ok(None) };
        let end = self.find(bitmap, start, |byte| !byte)?;
        Ok(Some(Range::from(start..end.unwrap_or(self.end(bitmap)))))
    }

    /// Clears those of `bits` that are not set in a bitmap; the first is page frame `first_pfn`'s, a multiple of 8.
    pub fn retain(&mut self, bitmap: Bitmap, first_pfn: u64, bits: &mut [u8]) -> Result<(), ReadError> {
        let (mut pfn, mut rest) = (first_pfn, bits);
        while !rest.is_empty() && pfn < self.end(bitmap) {
            let from = (pfn % FRAMES_PER_BLOCK / 8) as usize;
            let (now, later) = rest.split_at_mut(rest.len().min(BLOCK - from));
            let block = self.bits(bitmap, pfn / FRAMES_PER_BLOCK)?;
            now.iter_mut().zip(&block[from..]).for_each(|(bits, set)| *bits &= set);
            pfn = (pfn / FRAMES_PER_BLOCK + 1) * FRAMES_PER_BLOCK;
            rest = later;
        }
        rest.fill(0);
        Ok(())
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

    /// How many bytes are missing at the end of the file, by its descriptors; 0 of a dump that was not finished. What
    /// cannot be read, or makes no sense, does not count: whoever reads the pages will notice.
    pub fn lacking(&mut self) -> u64 {
        if !self.complete {
            return 0;
        }
        let (table, size) = (self.table(), self.device.size());
        let mut needed = table.end.get();
        let mut at = table.start.get();
        let mut window = [0; DESCRIPTORS * DESCRIPTOR_LEN];
        while at < table.end.get().min(size) {
            let len = (size - at).min(window.len() as u64) as usize;
            if self.device.read(at, &mut window[..len]).is_ok() {
                let inside = (table.end.get() - at).min(len as u64) as usize;
                needed = needed.max(needed_by(&window[..inside]));
            }
            at += window.len() as u64;
        }
        needed.saturating_sub(size)
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

    /// The place of the descriptors of all kept pages; the file may end before.
    pub(crate) fn table(&self) -> Range<ByteOffset> {
        let start = ByteOffset::new(self.geometry.descriptors());
        Range::new(start, start.saturating_add(self.kept.saturating_mul(DESCRIPTOR_LEN as u64)))
    }

    /// Hands the device back.
    pub fn into_device(self) -> D {
        self.device
    }

    /// Fills `kept_before`.
    fn count_pages(&mut self) -> Result<(), ReadError> {
        let blocks = self.header.frames.div_ceil(FRAMES_PER_BLOCK);
        let mut kept_before = Vec::new();
        kept_before.try_reserve_exact(blocks as usize).map_err(|_| ReadError::OutOfMemory)?;
        while kept_before.len() < blocks as usize {
            let block = kept_before.len() as u64;
            let frames = (self.header.frames - block * FRAMES_PER_BLOCK).min(FRAMES_PER_BLOCK) as usize;
            let Ok(bits) = self.bits(Bitmap::Kept, block) else {
                // Descriptors are found by counting, so nothing is known of the pages behind.
                self.complete = false;
                break;
            };
            let ones = u64::from(count_ones(bits, frames));
            kept_before.push(self.kept);
            self.kept += ones;
            if ones == 0 {
                let next = self.next_block(Bitmap::Kept, block).min(blocks);
                kept_before.resize(next as usize, self.kept);
            }
        }
        self.known_kept = kept_before.len() as u64 * FRAMES_PER_BLOCK;
        self.kept_before = Arc::new(kept_before);
        Ok(())
    }

    /// The first page frame at or after `pfn` whose bit `seen` turns into a set one.
    fn find(&mut self, bitmap: Bitmap, pfn: u64, seen: impl Fn(u8) -> u8) -> Result<Option<u64>, ReadError> {
        let mut at = pfn;
        let end = self.end(bitmap);
        while at < end {
            let bits = self.bits(bitmap, at / FRAMES_PER_BLOCK)?;
            let found = first_set(bits, (at % FRAMES_PER_BLOCK) as u32, &seen);
            let block_start = at / FRAMES_PER_BLOCK * FRAMES_PER_BLOCK;
            if let Some(bit) = found {
                return Ok(Some(block_start + u64::from(bit)).filter(|pfn| *pfn < end));
            }
            at = block_start + FRAMES_PER_BLOCK;
            if seen(0) == 0 {
                at = self.next_block(bitmap, at / FRAMES_PER_BLOCK - 1) * FRAMES_PER_BLOCK;
            }
        }
        Ok(None)
    }

    /// The next block of a bitmap, without those of zeros that are a hole of the file. It may be behind the bitmap.
    fn next_block(&mut self, bitmap: Bitmap, index: u64) -> u64 {
        let (start, next) = (self.geometry.bitmap(bitmap), index + 1);
        let data = self.device.next_data(start + next * BLOCK as u64);
        next.max(data.saturating_sub(start) / BLOCK as u64)
    }

    /// Where the page frames end of which a bitmap speaks, as far as it is there.
    fn end(&self, bitmap: Bitmap) -> u64 {
        match bitmap {
            Bitmap::Existing => self.header.frames,
            Bitmap::Kept => self.header.frames.min(self.known_kept),
        }
    }

    /// The descriptor of a kept page.
    fn descriptor(&mut self, pfn: u64) -> Result<Descriptor, ReadError> {
        let not_kept = ReadError::NotKept(pfn);
        let block = pfn / FRAMES_PER_BLOCK;
        let before = *self.kept_before.get(block as usize).ok_or(not_kept)?;
        let frames = self.header.frames;
        let bits = self.bits(Bitmap::Kept, block)?;
        let bit = (pfn % FRAMES_PER_BLOCK) as usize;
        if pfn >= frames || bits[bit / 8] & (1 << (bit % 8)) == 0 {
            return Err(not_kept);
        }
        let index = before + u64::from(count_ones(bits, bit));
        if let Some(descriptor) = self.descriptors.get(index) {
            return Ok(descriptor);
        }
        if self.geometry.descriptors() + (index + 1) * DESCRIPTOR_LEN as u64 > self.device.size() {
            return Err(self.beyond_the_end(pfn));
        }
        self.load_descriptors(index)?;
        self.descriptors.get(index).ok_or(ReadError::OutOfBounds("descriptors"))
    }

    /// Why there is no descriptor behind the end of the file: a dump that was cut short ends anywhere.
    fn beyond_the_end(&self, pfn: u64) -> ReadError {
        if self.is_complete() { ReadError::OutOfBounds("descriptors") } else { ReadError::Missing(pfn) }
    }

    /// Reads the descriptors around one, or that one alone, if others cannot be read.
    fn load_descriptors(&mut self, index: u64) -> Result<(), ReadError> {
        let together = index - index % DESCRIPTORS as u64;
        self.descriptors.len = 0;
        let start = self.geometry.descriptors() + together * DESCRIPTOR_LEN as u64;
        let len = self.device.size().saturating_sub(start).min(self.descriptors.bytes.len() as u64) as usize;
        if self.device.read(start, &mut self.descriptors.bytes[..len]).is_ok() {
            (self.descriptors.first, self.descriptors.len) = (together, len);
            return Ok(());
        }
        let mut buffer = [0; 2 * BLOCK];
        let at = self.geometry.descriptors() + index * DESCRIPTOR_LEN as u64;
        let bytes = self.read_small(at, DESCRIPTOR_LEN, &mut buffer)?;
        let bytes = bytes.ok_or(ReadError::OutOfBounds("descriptors"))?;
        self.descriptors.bytes[..DESCRIPTOR_LEN].copy_from_slice(bytes);
        (self.descriptors.first, self.descriptors.len) = (index, DESCRIPTOR_LEN);
        Ok(())
    }

    /// A block of a bitmap; `index` is below the number of its blocks.
    fn bits(&mut self, which: Bitmap, index: u64) -> Result<&Page, ReadError> {
        let cached = &mut self.cached[which as usize];
        if cached.index != Some(index) {
            cached.index = None;
            self.device.read(self.geometry.bitmap(which) + index * BLOCK as u64, &mut cached.bits)?;
            cached.index = Some(index);
        }
        Ok(&cached.bits)
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

fn read_headers<D: BlockDevice>(device: &mut D) -> Result<(DiskDumpHeader, SubHeader), ReadError> {
    if device.size() < 2 * BLOCK as u64 {
        return Err(ReadError::NotADump);
    }
    let mut blocks = [0; 2 * BLOCK];
    device.read(0, &mut blocks)?;
    let (first, second) = blocks.split_at(BLOCK);
    let (first, _) = DiskDumpHeader::read_from_prefix(first).map_err(|_| ReadError::NotADump)?;
    let (second, _) = SubHeader::read_from_prefix(second).map_err(|_| ReadError::NotADump)?;
    if first.signature != layout::SIGNATURE {
        return Err(ReadError::NotADump);
    }
    let machine = first.utsname.machine;
    if !matches!(machine.as_str(), "" | "x86_64") {
        return Err(ReadError::ForeignMachine(machine));
    }
    let unsupported = |what, value| Err(ReadError::Unsupported { what, value });
    match (first.header_version.get(), first.block_size.get()) {
        (1..=layout::VERSION, BLOCK_SIZE) => {}
        (1..=layout::VERSION, size) => return unsupported("block size", size),
        (version, _) => return unsupported("version", version),
    }
    let second = second.of_version(&first);
    if second.split.get() != 0 {
        return Err(ReadError::Split);
    }
    Ok((first, second))
}

/// Checks that the bitmaps cover the page frames and lie within the device.
fn check_geometry(first: &DiskDumpHeader, frames: u64, size: u64) -> Result<Geometry, ReadError> {
    let geometry = Geometry {
        sub_header_blocks: first.sub_hdr_size.get(),
        bitmap_blocks: first.bitmap_blocks.get() / 2,
    };
    let covered = u64::from(geometry.bitmap_blocks) * FRAMES_PER_BLOCK;
    if frames > covered || frames > FRAMES_LIMIT || geometry.descriptors() > size {
        return Err(ReadError::OutOfBounds("bitmaps"));
    }
    Ok(geometry)
}

fn header(first: &DiskDumpHeader, sub: &SubHeader) -> Header {
    Header {
        utsname: first.utsname,
        crashed_at: first.timestamp_sec.get(),
        cpus: first.nr_cpus.get(),
        frames: sub.max_mapnr_64.get(),
        phys_base: sub.phys_base.get(),
        dump_level: u8::try_from(sub.dump_level.get()).unwrap_or(u8::MAX),
    }
}

/// The end of the data that these descriptors name.
fn needed_by(descriptors: &[u8]) -> u64 {
    let descriptors =
        descriptors.chunks_exact(DESCRIPTOR_LEN).filter_map(|bytes| Descriptor::read_from_bytes(bytes).ok());
    let sound = descriptors.filter(|descriptor| descriptor.size.get() <= BLOCK_SIZE);
    sound.filter_map(|sound| sound.offset.get().checked_add(sound.size.get().into())).max().unwrap_or(0)
}

/// The lowest bit at or after `from` that is set in what `seen` makes of the bytes.
fn first_set(bits: &Page, from: u32, seen: impl Fn(u8) -> u8) -> Option<u32> {
    let first_byte = from / 8;
    let masked = seen(*bits.get(first_byte as usize)?) & (0xFF << (from % 8));
    let rest =
        bits.iter().enumerate().skip(first_byte as usize + 1).map(|(at, byte)| (at as u32, seen(*byte)));
    let mut bytes = core::iter::once((first_byte, masked)).chain(rest);
    bytes.find(|(_, byte)| *byte != 0).map(|(at, byte)| at * 8 + byte.trailing_zeros())
}

/// How many of the first `len` bits are set.
fn count_ones(bits: &Page, len: usize) -> u32 {
    let (whole, rest) = bits.split_at(len / 8);
    let partial = rest.first().map_or(0, |byte| (byte & ((1 << (len % 8)) - 1)).count_ones());
    let words = whole.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word).count_ones()
    });
    words.sum::<u32>() + partial
}
