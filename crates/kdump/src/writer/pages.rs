//! Third stage: the kept pages, in ascending order.

use machine::{BlockDevice, Unreadable};
use zerocopy::IntoBytes;

use super::{Ended, File, Outcome, Statistics, WriteError, headers};
use crate::codec::{Codec, Content, Encoder};
use crate::layout::{self, Descriptor, Geometry};
use crate::stream::{ReadBack, Stream};
use crate::{BLOCK, Bitmap, Page};

/// Complaints of the device that are put up with at the end in any case: without its descriptors a dump is worth nothing.
const LAST_COMPLAINTS: usize = 8;

/// Takes the pages, one after the other.
///
/// [`write_next`](Self::write_next) does all there is to do for a page. Whoever compresses on several processors asks for
/// page frame numbers with [`next_frame`](Self::next_frame), gives each processor an [`Encoder`], and hands the results over
/// with [`store`](Self::store).
pub struct Pages<'d, D: ?Sized> {
    kept: KeptFrames,
    store: Store<'d, D>,
    encoder: Encoder,
    page: Page,
}

impl<'d, D: BlockDevice + ?Sized> Pages<'d, D> {
    pub(super) fn new(file: File<'d, D>, codec: Codec, pages: u64) -> Result<Self, WriteError> {
        let geometry = file.geometry;
        let data = geometry.data(pages);
        if data > file.end {
            return Err(WriteError::Full);
        }
        let store = Store {
            descriptors: Stream::new(geometry.descriptors(), data)?,
            data: Stream::new(data, file.end)?,
            file,
            codec,
            zeros: None,
            statistics: Statistics { pages, ..Statistics::default() },
        };
        Ok(Self { kept: KeptFrames::new(geometry)?, store, encoder: Encoder::new(codec), page: [0; BLOCK] })
    }

    /// From now on, so many complaints of the device do not end the dump (none, if this is not called).
    ///
    /// Blocks that it complains of may be lost; the rest is written, and the dump stays marked as incomplete.
    pub fn put_up_with(&mut self, complaints: usize) {
        self.store.file.target.patience = complaints;
    }

    /// Writes the next kept page, which `read` fetches by its page frame number; `None` after the last.
    ///
    /// A page that `read` cannot fetch is counted and named as missing. After an error, [`abandon`](Self::abandon) keeps
    /// what was written before.
    pub fn write_next(
        &mut self,
        read: impl FnOnce(u64, &mut Page) -> Result<(), Unreadable>,
    ) -> Result<Option<Outcome>, WriteError> {
        let Some(pfn) = self.next_frame()? else { return Ok(None) };
        let content = match read(pfn, &mut self.page) {
            Ok(()) => self.encoder.encode(&self.page),
            Err(Unreadable { .. }) => Content::Missing,
        };
        self.store.append(content).map(Some)
    }

    /// Page frame number of the next kept page; `None` after the last.
    pub fn next_frame(&mut self) -> Result<Option<u64>, WriteError> {
        self.kept.next(self.store.file.target.device)
    }

    /// Stores the content of the first page that [`next_frame`](Self::next_frame) named and that was not stored yet.
    pub fn store(&mut self, content: Content<'_>) -> Result<Outcome, WriteError> {
        self.store.append(content)
    }

    /// Counts so far.
    pub fn statistics(&self) -> Statistics {
        self.store.statistics
    }

    /// Ends the dump as complete, and makes it durable. If that fails it is marked as incomplete.
    pub fn finish(mut self) -> Ended {
        let Statistics { done, pages, .. } = self.statistics();
        let unfinished = (done < pages).then_some(WriteError::Unfinished);
        // The disk must have everything before the header says so.
        let closed = self.store.close();
        let complaint = self.store.file.target.complaint.map(WriteError::Device);
        let error = complaint.or(closed.err()).or(unfinished);
        let error = error.or_else(|| self.store.file.mark_complete().err());
        Ended { statistics: self.statistics(), error }
    }

    /// Ends the dump as incomplete: the pages written so far stay readable, the others are named as missing.
    pub fn abandon(mut self) -> Ended {
        let closed = self.store.close();
        let complaint = self.store.file.target.complaint.map(WriteError::Device);
        Ended { statistics: self.statistics(), error: complaint.or(closed.err()) }
    }
}

/// Where pages go.
struct Store<'d, D: ?Sized> {
    file: File<'d, D>,
    descriptors: Stream,
    data: Stream,
    codec: Codec,
    /// The descriptor that all pages of zeros share, once there is one.
    zeros: Option<Descriptor>,
    statistics: Statistics,
}

impl<D: BlockDevice + ?Sized> Store<'_, D> {
    fn append(&mut self, content: Content<'_>) -> Result<Outcome, WriteError> {
        let (outcome, descriptor) = match content {
            Content::Missing => (Outcome::Missing, Descriptor::default()),
            Content::Zero => (Outcome::Zero, self.zeros()?),
            Content::Data { codec, data } => {
                let outcome = if codec == Codec::None { Outcome::Raw } else { Outcome::Compressed };
                (outcome, self.append_data(codec, data)?)
            }
        };
        self.descriptors.push(&mut self.file.target, descriptor.as_bytes())?;
        self.statistics.count(outcome);
        Ok(outcome)
    }

    /// The descriptor of pages of zeros; stores the first such page.
    fn zeros(&mut self) -> Result<Descriptor, WriteError> {
        if let Some(zeros) = self.zeros {
            return Ok(zeros);
        }
        let mut encoder = Encoder::new(self.codec);
        let (codec, data) = encoder.compress(&[0; BLOCK]);
        let zeros = self.append_data(codec, data)?;
        self.zeros = Some(zeros);
        Ok(zeros)
    }

    fn append_data(&mut self, codec: Codec, data: &[u8]) -> Result<Descriptor, WriteError> {
        let offset = self.data.position();
        self.data.push(&mut self.file.target, data)?;
        self.statistics.data_bytes += data.len() as u64;
        Ok(Descriptor {
            offset: offset.into(),
            size: (data.len() as u32).into(),
            flags: codec.flag().into(),
            page_flags: 0.into(),
        })
    }

    /// Writes out what is in hand and makes it durable; goes on after an error and returns the first.
    fn close(&mut self) -> Result<(), WriteError> {
        let target = &mut self.file.target;
        target.patience = target.patience.max(LAST_COMPLAINTS);
        let descriptors = self.descriptors.fill(target);
        let data = self.data.close(target);
        self.statistics.file_bytes = self.data.position();
        let flushed = target.flush();
        descriptors.and(data).and(flushed.map_err(WriteError::Device))
    }
}

impl<D: BlockDevice + ?Sized> File<'_, D> {
    /// Writes block 0 once more, without the mark of an incomplete dump.
    fn mark_complete(&mut self) -> Result<(), WriteError> {
        let incomplete = self.first_block;
        let status = incomplete.status.get() & !layout::INCOMPLETE;
        self.first_block.status.set(status);
        // From here on a complaint counts: what it is about may be block 0.
        self.target.patience = 0;
        let marked = headers::write_first_block(&mut self.target, &self.first_block);
        marked.and_then(|()| Ok(self.target.flush()?)).inspect_err(|_| {
            let _ = headers::write_first_block(&mut self.target, &incomplete);
        })
    }
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
