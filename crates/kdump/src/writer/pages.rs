//! Third stage: the kept pages, in one pass or in several.

use alloc::boxed::Box;

use machine::growth::boxed_array;
use machine::{BlockDevice, BlockError, ByteOffset, Range, Unreadable};

use super::kept::{Frame, KeptFrames};
use super::room::{PagePlace, Room};
use super::table::DescriptorTable;
use super::{Ended, File, PageOutcome, Statistics, WriteError, headers};
use crate::codec::{Codec, Content, Encoder};
use crate::layout::{self, Descriptor};
use crate::stream::Stream;
use crate::{BLOCK, Page};

/// Errors of the device that are tolerated at the end in any case: without its descriptors a dump is worthless.
const LAST_COMPLAINTS: usize = 8;

/// Room that calls of [`Pages::save`] may take, beside a 64th of the pages.
const FOR_SAVES: u64 = 1 << 20;

/// Takes the pages, one after the other.
///
/// [`write_next`](Self::write_next) does all there is to do for a page. Several processors share the work like this: one asks for
/// page frames with [`next_frame`](Self::next_frame), each has an [`Encoder`] and writes what that makes to
/// [room of its own](Self::with_room), and then the first says with [`place`](Self::place) where the pages are.
///
/// A dump that is cut short has the pages that were stored first, so the important ones should be: a pass goes through all
/// kept pages in ascending order and stores those that are wanted now; [`next_pass`](Self::next_pass) starts over with those
/// that are left. Each pass beyond the first reads and writes the descriptors once more.
pub struct Pages<'d, D: ?Sized> {
    kept: KeptFrames,
    store: Store<'d, D>,
    encoder: Encoder,
    page: Page,
    /// Buffer for the encoder's output.
    smaller: Box<Page>,
}

impl<'d, D: BlockDevice + ?Sized> Pages<'d, D> {
    pub(super) fn new(file: File<'d, D>, codec: Codec, pages: u64) -> Result<Self, WriteError> {
        let geometry = file.geometry;
        let data = geometry.data(pages);
        if data > file.end {
            return Err(WriteError::Full);
        }
        let store = Store {
            table: DescriptorTable::new(Range::from(geometry.descriptors()..data))?,
            data: Stream::new(Range::from(data..file.end))?,
            file,
            codec,
            zeros: None,
            statistics: Statistics { pages, ..Statistics::default() },
        };
        let (kept, encoder) = (KeptFrames::new(geometry)?, Encoder::new(codec)?);
        Ok(Self { kept, store, encoder, page: [0; BLOCK], smaller: boxed_array(0)? })
    }

    /// Tolerates so many errors of the device from now on (none, if this is not called).
    ///
    /// Blocks with errors may be lost; the rest is written, and the dump stays marked as incomplete.
    pub fn put_up_with(&mut self, complaints: usize) {
        self.store.file.target.patience = complaints;
    }

    /// Writes the next page that [`next_frame`](Self::next_frame) gives; `read` fetches it by its page frame number. `None`
    /// at the end of the pass.
    ///
    /// A page that `read` cannot fetch is counted and named as missing. After an error, [`abandon`](Self::abandon) keeps
    /// what was written before.
    pub fn write_next(
        &mut self,
        wanted: impl FnMut(u64) -> bool,
        read: impl FnOnce(u64, &mut Page) -> Result<(), Unreadable>,
    ) -> Result<Option<PageOutcome>, WriteError> {
        let Some(frame) = self.next_frame(wanted)? else { return Ok(None) };
        let content = match read(frame.pfn(), &mut self.page) {
            Ok(()) => self.encoder.encode(&self.page, &mut self.smaller),
            Err(Unreadable { .. }) => Content::Missing,
        };
        self.store.append(frame, content).map(Some)
    }

    /// The next page frame that is kept, was not stored in an earlier pass, and is wanted by its number; `None` at the end of
    /// the pass.
    pub fn next_frame(&mut self, mut wanted: impl FnMut(u64) -> bool) -> Result<Option<Frame>, WriteError> {
        while let Some(frame) = self.kept.next(self.store.file.target.device)? {
            if wanted(frame.pfn()) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Hands the rest of the file to `write`, which writes data there by itself. [`write_next`](Self::write_next) finds no room
    /// meanwhile.
    ///
    /// Afterwards the data ends with a whole block, whose last bytes may never have been written.
    pub fn with_room(
        &mut self,
        write: impl FnOnce(&mut Self, &Room) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        // Later there would be no room for it.
        self.store.zeros()?;
        let Store { data, file, .. } = &mut self.store;
        data.close(&mut file.target)?;
        let room = Room::new(data.take_rest());
        let written = write(self, &room);
        self.store.data.give_back(room.free());
        written
    }

    /// Records where a page is. Pages come in the order in which [`next_frame`](Self::next_frame) returned them, all of
    /// them before the next pass, and after their data was written. A dump that is cut short therefore never names a place
    /// that holds nothing.
    pub fn place(&mut self, frame: Frame, place: PagePlace) -> Result<PageOutcome, WriteError> {
        self.store.put(frame, place)
    }

    /// Makes the pages stored so far durable, with everything needed to find them, so that they survive whatever comes
    /// later. Each call costs a flush, and up to a block of room.
    pub fn save(&mut self) -> Result<(), WriteError> {
        self.store.save()
    }

    /// Starts another pass over the pages that were not wanted. Pages that were stored stay stored; missing ones get
    /// another chance.
    pub fn next_pass(&mut self) -> Result<(), WriteError> {
        self.store.table.end_pass(&mut self.store.file.target)?;
        self.store.save()?;
        let Store { table, statistics, .. } = &mut self.store;
        table.restart();
        self.kept.restart(table.place());
        statistics.done -= core::mem::take(&mut statistics.missing);
        Ok(())
    }

    /// Where the descriptors of all pages are in the file, in whole blocks: behind headers and bitmaps.
    pub fn table(&self) -> Range<ByteOffset> {
        self.store.table.place()
    }

    /// The part of the table that is written with the descriptor of a page frame, later than the page's data.
    pub fn part_of_table(&self, frame: &Frame) -> Range<ByteOffset> {
        self.store.table.window_of(frame.index)
    }

    /// Whether there is room for all pages that are left, even if none can be compressed.
    pub fn are_sure_to_fit(&self) -> bool {
        let Statistics { done, pages, .. } = self.statistics();
        let needed = (pages - done).saturating_mul(BLOCK as u64);
        needed.saturating_add(needed / 64).saturating_add(FOR_SAVES) <= self.store.data.remaining()
    }

    /// The first error of the device that was tolerated: blocks may be missing.
    pub fn complaint(&self) -> Option<BlockError> {
        self.store.file.target.complaint
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

/// The store for pages.
struct Store<'d, D: ?Sized> {
    file: File<'d, D>,
    table: DescriptorTable,
    data: Stream,
    codec: Codec,
    /// The descriptor that all pages of zeros share, once there is one.
    zeros: Option<Descriptor>,
    statistics: Statistics,
}

impl<D: BlockDevice + ?Sized> Store<'_, D> {
    /// Stores a page after the earlier ones.
    fn append(&mut self, frame: Frame, content: Content<'_>) -> Result<PageOutcome, WriteError> {
        let place = content.at(self.data.position());
        if let Content::Data { data, .. } = content {
            self.data.push(&mut self.file.target, data)?;
        }
        self.put(frame, place)
    }

    /// Makes the descriptor of a page.
    fn put(&mut self, Frame { index, .. }: Frame, place: PagePlace) -> Result<PageOutcome, WriteError> {
        let (outcome, descriptor) = match place {
            PagePlace::Missing => (PageOutcome::Missing, Descriptor::default()),
            PagePlace::Zero => (PageOutcome::Zero, self.zeros()?),
            PagePlace::Data { codec, offset, len } => {
                self.statistics.data_bytes += len as u64;
                let outcome = if codec == Codec::None { PageOutcome::Raw } else { PageOutcome::Compressed };
                (outcome, descriptor(codec, offset, len))
            }
        };
        self.table.put(&mut self.file.target, index, descriptor)?;
        self.statistics.count(outcome);
        Ok(outcome)
    }

    /// The descriptor of pages of zeros; stores the first such page.
    fn zeros(&mut self) -> Result<Descriptor, WriteError> {
        if let Some(zeros) = self.zeros {
            return Ok(zeros);
        }
        let mut smaller = boxed_array(0)?;
        let (codec, data) = Encoder::new(self.codec)?.compress(&[0; BLOCK], &mut smaller);
        let zeros = descriptor(codec, self.data.position(), data.len());
        self.data.push(&mut self.file.target, data)?;
        self.statistics.data_bytes += data.len() as u64;
        self.zeros = Some(zeros);
        Ok(zeros)
    }

    fn save(&mut self) -> Result<(), WriteError> {
        let target = &mut self.file.target;
        self.table.save(target)?;
        self.data.close(target)?;
        Ok(target.flush()?)
    }

    /// Writes all buffered data and makes it durable; continues after an error and returns the first.
    fn close(&mut self) -> Result<(), WriteError> {
        let target = &mut self.file.target;
        target.patience = target.patience.max(LAST_COMPLAINTS);
        let descriptors = self.table.end_pass(target);
        let data = self.data.close(target);
        self.statistics.file_bytes = self.data.position().get();
        let flushed = target.flush();
        descriptors.and(data).and(flushed.map_err(WriteError::Device))
    }
}

fn descriptor(codec: Codec, offset: ByteOffset, len: usize) -> Descriptor {
    Descriptor {
        offset: offset.get().into(),
        size: (len as u32).into(),
        flags: codec.flag().into(),
        page_flags: 0.into(),
    }
}

impl<D: BlockDevice + ?Sized> File<'_, D> {
    /// Writes block 0 once more, without the mark of an incomplete dump.
    fn mark_complete(&mut self) -> Result<(), WriteError> {
        let incomplete = self.first_block;
        let status = incomplete.status.get() & !layout::INCOMPLETE;
        self.first_block.status.set(status);
        // From here on any error counts: it may concern block 0.
        self.target.patience = 0;
        let marked = headers::write_first_block(&mut self.target, &self.first_block);
        marked.and_then(|()| Ok(self.target.flush()?)).inspect_err(|_| {
            let _ = headers::write_first_block(&mut self.target, &incomplete);
        })
    }
}
