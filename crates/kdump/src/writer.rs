//! Writes a dump: header and notes, then bitmaps, then pages, then the header again as complete.
//!
//! # A dump that was cut short
//!
//! The header says *incomplete* until [`Pages::finish`]. [`Pages::abandon`] leaves it so and fills the descriptors of all
//! pages that were not written with zeros. An offset of zero means "this page is missing" to the readers: `crash` warns
//! at its start that the dump is incomplete and reports such a page when it is asked for it (or takes it for zeros with
//! `--zero_excluded`); libkdumpfile, and `drgn` with it, refuses it as a page of length 0; makedumpfile takes it for a
//! page without content. All read the pages before it as usual. What opens at all depends on which pages those are. A
//! page of a complete dump whose memory could not be read is left in the same way.

use machine::{BlockDevice, BlockError, Unreadable};
use zerocopy::{FromZeros, IntoBytes};

use crate::codec::{Codec, Compressor};
use crate::layout::{self, Descriptor, DiskDumpHeader, Geometry, SUB_HEADER_LEN, SubHeader};
use crate::stream::{ReadBack, Stream};
use crate::{BLOCK, Bitmap, Header, NoteSegment, Page};

/// Why writing a dump could not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The device refused or failed.
    #[error(transparent)]
    Device(#[from] BlockError),
    /// The dump does not fit on the device. What was written so far can still be abandoned properly.
    #[error("the dump does not fit into its area")]
    Full,
    /// The machine has more page frames, or notes, than the format can number.
    #[error("the machine is too large for the format")]
    TooLarge,
    /// More bits were given than the machine has page frames, or the two bitmaps were given in unequal parts.
    #[error("the bitmaps do not have one bit per page frame")]
    WrongBitmap,
    /// Finished before every kept page was written.
    #[error("not every page was written")]
    Unfinished,
    /// No memory for the buffers.
    #[error("out of memory")]
    OutOfMemory,
}

/// Writes the header, marked incomplete, and the notes, and goes on to the bitmaps.
pub fn begin<'d, D: BlockDevice + ?Sized>(
    device: &'d mut D,
    header: &Header,
    notes: &NoteSegment<'_>,
    codec: Codec,
) -> Result<Bitmaps<'d, D>, WriteError> {
    let geometry = Geometry::new(notes.bytes.len(), header.frames).ok_or(WriteError::TooLarge)?;
    let end = device.size() / BLOCK as u64 * BLOCK as u64;
    if geometry.descriptors() > end {
        return Err(WriteError::Full);
    }
    let first_block = disk_dump_header(header, geometry, codec);
    write_headers(device, &first_block, &sub_header(header, notes), notes.bytes, geometry)?;
    let stream = |which| Stream::new(geometry.bitmap(which), geometry.bitmap(which) + geometry.bitmap_len());
    Ok(Bitmaps {
        existing: stream(Bitmap::Existing)?,
        kept: stream(Bitmap::Kept)?,
        file: File { device, first_block, geometry, end },
        codec,
        frames_left: header.frames,
        pages: 0,
    })
}

fn write_headers<D: BlockDevice + ?Sized>(
    device: &mut D,
    first_block: &DiskDumpHeader,
    sub_header: &SubHeader,
    notes: &[u8],
    geometry: Geometry,
) -> Result<(), WriteError> {
    write_first_block(device, first_block)?;
    let mut stream = Stream::new(BLOCK as u64, geometry.bitmap(Bitmap::Existing))?;
    stream.push(device, sub_header.as_bytes())?;
    stream.push(device, notes)?;
    stream.close(device)
}

fn write_first_block<D: BlockDevice + ?Sized>(
    device: &mut D,
    header: &DiskDumpHeader,
) -> Result<(), WriteError> {
    let mut block = [0; BLOCK];
    block[..size_of::<DiskDumpHeader>()].copy_from_slice(header.as_bytes());
    Ok(device.write(0, &block)?)
}

fn disk_dump_header(header: &Header, geometry: Geometry, codec: Codec) -> DiskDumpHeader {
    DiskDumpHeader {
        signature: layout::SIGNATURE,
        header_version: layout::VERSION.into(),
        utsname: header.utsname,
        timestamp_sec: header.crashed_at.into(),
        status: (layout::INCOMPLETE | codec.flag()).into(),
        block_size: (BLOCK as u32).into(),
        sub_hdr_size: geometry.sub_header_blocks.into(),
        bitmap_blocks: (geometry.bitmap_blocks * 2).into(),
        max_mapnr: u32::try_from(header.frames).unwrap_or(u32::MAX).into(),
        nr_cpus: header.cpus.into(),
        ..DiskDumpHeader::new_zeroed()
    }
}

fn sub_header(header: &Header, notes: &NoteSegment<'_>) -> SubHeader {
    let notes_start = BLOCK + SUB_HEADER_LEN;
    let (vmcoreinfo_start, vmcoreinfo_len) =
        notes.vmcoreinfo.as_ref().map_or((0, 0), |text| (notes_start + text.start, text.len()));
    SubHeader {
        phys_base: header.phys_base.into(),
        dump_level: u32::from(header.dump_level).into(),
        offset_vmcoreinfo: (vmcoreinfo_start as u64).into(),
        size_vmcoreinfo: (vmcoreinfo_len as u64).into(),
        offset_note: (notes_start as u64).into(),
        size_note: (notes.bytes.len() as u64).into(),
        max_mapnr_64: header.frames.into(),
        ..SubHeader::new_zeroed()
    }
}

/// What all stages have in hand.
struct File<'d, D: ?Sized> {
    device: &'d mut D,
    first_block: DiskDumpHeader,
    geometry: Geometry,
    /// End of the device, rounded down to a block.
    end: u64,
}

/// Second stage: which page frames exist, and which of them are kept.
pub struct Bitmaps<'d, D: ?Sized> {
    file: File<'d, D>,
    codec: Codec,
    existing: Stream,
    kept: Stream,
    /// Page frames that no bit was given for yet.
    frames_left: u64,
    /// Bits set in `kept`.
    pages: u64,
}

impl<'d, D: BlockDevice + ?Sized> Bitmaps<'d, D> {
    /// Appends the bits of the next page frames, eight in a byte, the lowest in bit 0.
    ///
    /// Both parts cover the same frames; bits past the last frame are ignored.
    pub fn push(&mut self, existing: &[u8], kept: &[u8]) -> Result<(), WriteError> {
        if existing.len() != kept.len() || kept.len() as u64 > self.frames_left.div_ceil(8) {
            return Err(WriteError::WrongBitmap);
        }
        self.file.push_bits(&mut self.existing, existing, self.frames_left)?;
        self.pages += self.file.push_bits(&mut self.kept, kept, self.frames_left)?;
        self.frames_left = self.frames_left.saturating_sub(kept.len() as u64 * 8);
        Ok(())
    }

    /// Goes on to the pages. Frames that no bits were given for neither exist nor are kept.
    pub fn finish(mut self) -> Result<Pages<'d, D>, WriteError> {
        self.existing.fill(self.file.device)?;
        self.kept.fill(self.file.device)?;
        let geometry = self.file.geometry;
        let data = geometry.data(self.pages);
        if data > self.file.end {
            return Err(WriteError::Full);
        }
        Ok(Pages {
            kept: KeptFrames::new(geometry)?,
            descriptors: Stream::new(geometry.descriptors(), data)?,
            data: Stream::new(data, self.file.end)?,
            compressor: Compressor::new(self.codec),
            file: self.file,
            page: [0; BLOCK],
            zeros: None,
            statistics: Statistics { pages: self.pages, ..Statistics::default() },
        })
    }
}

impl<D: BlockDevice + ?Sized> File<'_, D> {
    /// Appends `bits` without those from the `limit`th on; returns how many were set.
    fn push_bits(&mut self, stream: &mut Stream, bits: &[u8], limit: u64) -> Result<u64, WriteError> {
        let whole = bits.len().min((limit / 8) as usize);
        let (whole, cut) = bits.split_at(whole);
        stream.push(self.device, whole)?;
        let mut count = ones(whole);
        if let Some(last) = cut.first() {
            let last = last & ((1 << (limit % 8)) - 1);
            stream.push(self.device, &[last])?;
            count += ones(&[last]);
        }
        Ok(count)
    }
}

fn ones(bits: &[u8]) -> u64 {
    bits.iter().map(|byte| u64::from(byte.count_ones())).sum()
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds zeros only; all such pages share one place in the file.
    Zero,
    /// It was stored compressed.
    Compressed,
    /// It was stored as it is.
    Raw,
    /// Its memory could not be read; the dump names it as missing.
    Missing,
}

/// Counts of a dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Pages that the second bitmap keeps.
    pub pages: u64,
    /// Of these, how many were dealt with so far: the sum of the four that follow.
    pub done: u64,
    /// Pages of zeros.
    pub zero: u64,
    /// Pages stored compressed.
    pub compressed: u64,
    /// Pages stored as they are.
    pub raw: u64,
    /// Pages whose memory could not be read.
    pub missing: u64,
    /// Bytes of page data in the file.
    pub data_bytes: u64,
    /// Length of the file in bytes, a multiple of [`BLOCK`]; 0 until it is finished or abandoned.
    pub file_bytes: u64,
}

impl Statistics {
    fn count(&mut self, outcome: Outcome) {
        self.done += 1;
        match outcome {
            Outcome::Zero => self.zero += 1,
            Outcome::Compressed => self.compressed += 1,
            Outcome::Raw => self.raw += 1,
            Outcome::Missing => self.missing += 1,
        }
    }
}

/// How often the last blocks are offered to a disk that complains.
const TRIES: usize = 8;

/// How the writing of pages ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What is in the file, whatever went wrong.
    pub statistics: Statistics,
    /// What went wrong first, if anything did.
    pub error: Option<WriteError>,
}

/// Third stage: the kept pages, in ascending order.
pub struct Pages<'d, D: ?Sized> {
    file: File<'d, D>,
    kept: KeptFrames,
    descriptors: Stream,
    data: Stream,
    compressor: Compressor,
    page: Page,
    /// The descriptor that all pages of zeros share, once there is one.
    zeros: Option<Descriptor>,
    statistics: Statistics,
}

impl<D: BlockDevice + ?Sized> Pages<'_, D> {
    /// Writes the next kept page, which `read` fetches by its page frame number; `None` after the last.
    ///
    /// A page that `read` cannot fetch is counted and named as missing. After an error, [`abandon`](Self::abandon) keeps
    /// what was written before.
    pub fn write_next(
        &mut self,
        read: impl FnOnce(u64, &mut Page) -> Result<(), Unreadable>,
    ) -> Result<Option<Outcome>, WriteError> {
        let Some(pfn) = self.kept.next(self.file.device)? else { return Ok(None) };
        let (outcome, descriptor) = match read(pfn, &mut self.page) {
            Ok(()) => self.write_data()?,
            Err(Unreadable { .. }) => (Outcome::Missing, Descriptor::default()),
        };
        self.descriptors.push(self.file.device, descriptor.as_bytes())?;
        self.statistics.count(outcome);
        Ok(Some(outcome))
    }

    /// Counts so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Ends the dump as complete, and makes it durable. If that fails it is marked as incomplete.
    pub fn finish(mut self) -> Ended {
        let unfinished = self.statistics.done < self.statistics.pages;
        let unfinished = unfinished.then_some(WriteError::Unfinished);
        // The disk must have everything before the header says so.
        let error = self.close().or(unfinished).or_else(|| self.mark_complete().err());
        Ended { statistics: self.statistics, error }
    }

    /// Ends the dump as incomplete: the pages written so far stay readable, the others are named as missing.
    pub fn abandon(mut self) -> Ended {
        let error = self.close();
        Ended { statistics: self.statistics, error }
    }

    fn mark_complete(&mut self) -> Result<(), WriteError> {
        let incomplete = self.file.first_block;
        let status = incomplete.status.get() & !layout::INCOMPLETE;
        self.file.first_block.status.set(status);
        let marked = write_first_block(self.file.device, &self.file.first_block);
        marked.and_then(|()| Ok(self.file.device.flush()?)).inspect_err(|_| {
            let _ = write_first_block(self.file.device, &incomplete);
        })
    }

    /// Stores the page in hand, and says where.
    fn write_data(&mut self) -> Result<(Outcome, Descriptor), WriteError> {
        if !is_zero(&self.page) {
            return self.append();
        }
        let shared = match self.zeros {
            Some(shared) => shared,
            None => self.append()?.1,
        };
        self.zeros = Some(shared);
        Ok((Outcome::Zero, shared))
    }

    /// Compresses the page in hand and appends it to the data.
    fn append(&mut self) -> Result<(Outcome, Descriptor), WriteError> {
        let (codec, data) = self.compressor.compress(&self.page);
        let offset = self.data.position();
        self.data.push(self.file.device, data)?;
        self.statistics.data_bytes += data.len() as u64;
        let outcome = if codec == Codec::None { Outcome::Raw } else { Outcome::Compressed };
        let descriptor = Descriptor {
            offset: offset.into(),
            size: (data.len() as u32).into(),
            flags: codec.flag().into(),
            page_flags: 0.into(),
        };
        Ok((outcome, descriptor))
    }

    /// Writes out what is in hand and makes it durable; returns the first error.
    fn close(&mut self) -> Option<WriteError> {
        let device = &mut *self.file.device;
        let closed = [
            insist(|| self.descriptors.fill(device)),
            insist(|| self.data.close(device)),
            insist(|| Ok(device.flush()?)),
        ];
        self.statistics.file_bytes = self.data.position();
        closed.into_iter().flatten().next()
    }
}

/// Does `step` until it succeeds, a few times at most; returns the first error.
///
/// A disk may complain late, of a block that was queued long before: that is no reason not to write the others.
fn insist(mut step: impl FnMut() -> Result<(), WriteError>) -> Option<WriteError> {
    let error = step().err()?;
    let _ = (1..TRIES).find(|_| step().is_ok());
    Some(error)
}

/// Whether a page holds zeros only.
fn is_zero(page: &Page) -> bool {
    // Most pages that are not zero show it early, so the look goes in small steps.
    page.chunks_exact(64).all(|line| line.iter().fold(0, |or, byte| or | byte) == 0)
}

/// The kept page frames, read back from the second bitmap.
struct KeptFrames {
    bits: ReadBack,
    /// Bits of the current word that were not yet returned.
    word: u64,
    /// Page frame number of the first bit after the current word.
    next_word: u64,
}

impl KeptFrames {
    fn new(geometry: Geometry) -> Result<Self, WriteError> {
        let start = geometry.bitmap(Bitmap::Kept);
        Ok(Self { bits: ReadBack::new(start, start + geometry.bitmap_len())?, word: 0, next_word: 0 })
    }

    /// Page frame number of the next page; `None` after the last.
    fn next<D: BlockDevice + ?Sized>(&mut self, device: &mut D) -> Result<Option<u64>, WriteError> {
        while self.word == 0 {
            let Some(word) = self.bits.next_word(device)? else { return Ok(None) };
            self.word = word;
            self.next_word += 64;
        }
        let bit = u64::from(self.word.trailing_zeros());
        self.word &= self.word - 1;
        Ok(Some(self.next_word - 64 + bit))
    }
}
