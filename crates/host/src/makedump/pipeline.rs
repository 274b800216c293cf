//! Brings pages from memory to the dump, on one or on several processors.
//!
//! The calling thread takes batches of pages and hands them to workers. It gets them back in the same order, and
//! notes where their pages are in the file. Workers read and compress pages, each into its own pieces of the file.
//! The order of the data therefore differs from run to run; readers find the data by the descriptors. While the first
//! batch of the queue is not done, the calling thread does a worker's work: there are as many threads as processors,
//! and no thread waits while there is work.

use std::collections::VecDeque;
use std::num::NonZero;
use std::thread::{self, Scope};

use crossbeam_channel::{Receiver, Sender, unbounded};
use engine::Wanted;
use kdump::{Pages, Room, WriteError};
use machine::{BlockDevice, ByteOffset, OldMemory, OutOfMemory, Range};
use vmcore::Vital;

use super::aside;
use super::batch::Batch;
use super::chunk;
use super::job::{Job, WrittenBatch};
use super::output::Output;
use super::worker::{Route, Worker};

/// Batches that wait in the queue for each thread.
const WAITING: usize = 24;
/// Most batches under way for each thread. A finished batch may have to wait for a slow earlier one, and until its piece of
/// the file is full.
const UNDER_WAY: usize = 128;
/// Pieces of the file that a thread usually begins while another thread fills one.
const AHEAD: u64 = 4;

/// Bytes before the last written byte within which other threads may still fill pieces: while one thread fills a piece,
/// others begin new ones.
pub(super) fn open_bytes(threads: NonZero<usize>) -> u64 {
    (threads.get() - 1) as u64 * AHEAD * chunk::SIZE as u64
}

/// Writes all pages, the vital ones first; calls `progress` with the number of those done.
///
/// `pages` are those of a dump in the route's output.
pub(super) fn write_pages<D: BlockDevice, M: OldMemory + Sync>(
    pages: &mut Pages<'_, D>,
    vital: Option<Vital<'_, M>>,
    route: &Route<'_, M>,
    threads: NonZero<usize>,
    progress: impl Fn(u64),
) -> Result<(), WriteError> {
    pages.with_room(|pages, room| {
        thread::scope(|scope| {
            let mut line = Line::start(scope, route, room, threads.get(), pages.statistics().pages)?;
            engine::in_passes(pages, vital, |pages, wanted| line.write_pass(pages, wanted, &progress))
        })
    })
}

/// The batches under way.
struct Line<'e, M> {
    threads: usize,
    /// Pages that were not handed out yet.
    left: u64,
    /// Where jobs are handed out, to whichever worker is free.
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    /// The channels through which batches come back, in the order in which they were handed out. A thread that has ended
    /// sends nothing.
    results: VecDeque<Receiver<WrittenBatch>>,
    /// Batches for reuse.
    spare: Vec<Batch>,
    /// The calling thread's own.
    worker: Worker<'e, M>,
    output: &'e Output<'e>,
    /// The part of the table of descriptors whose room was taken last.
    reserved: Range<ByteOffset>,
}

impl<'e, M: OldMemory + Sync> Line<'e, M> {
    /// Starts threads with a worker each, besides the calling thread: as many as the host allows.
    fn start<'s>(
        scope: &'s Scope<'s, 'e>,
        route: &'e Route<'e, M>,
        room: &'e Room,
        threads: usize,
        left: u64,
    ) -> Result<Self, OutOfMemory> {
        let (jobs, waiting) = unbounded();
        let mut started = 1;
        while started < threads {
            // The worker's memory is made here: a new thread's first use of memory would wait for threads that map some.
            let (waiting, mut worker) = (waiting.clone(), Worker::new(route, room)?);
            let spawned = aside::spawn(scope, move || {
                while let Some(job) = next(&waiting, &mut worker) {
                    worker.work(job);
                }
            });
            // The threads that there are do the work of those that the host refuses.
            if spawned.is_err() {
                break;
            }
            started += 1;
        }
        let (results, spare, worker) = (VecDeque::new(), Vec::new(), Worker::new(route, room)?);
        let (output, reserved) = (route.output, Range::default());
        Ok(Self { threads: started, left, jobs, waiting, results, spare, worker, output, reserved })
    }

    /// Writes the pages that are wanted now. After an error, those that were written nevertheless are in the dump.
    fn write_pass<D: BlockDevice>(
        &mut self,
        pages: &mut Pages<'_, D>,
        wanted: Wanted<'_>,
        progress: impl Fn(u64),
    ) -> Result<(), WriteError> {
        self.write_all(pages, wanted, progress).inspect_err(|_| self.place_rest(pages))
    }

    fn write_all<D: BlockDevice>(
        &mut self,
        pages: &mut Pages<'_, D>,
        wanted: Wanted<'_>,
        progress: impl Fn(u64),
    ) -> Result<(), WriteError> {
        while self.hand_out(pages, wanted)? {
            if let Some(mut batch) = self.next_done()? {
                batch.place(pages)?;
                self.spare.push(batch);
                progress(pages.statistics().done);
            }
        }
        Ok(())
    }

    /// Ends what is under way, and tells the dump where the batches are that could be written.
    fn place_rest<D: BlockDevice>(&mut self, pages: &mut Pages<'_, D>) {
        // Nobody begins a job anew.
        self.waiting.try_iter().for_each(drop);
        self.worker.rest();
        let written = self.results.drain(..).filter_map(|result| result.recv().ok()?.ok());
        for mut batch in written {
            // The first error says more than another would.
            let _ = batch.place(pages);
        }
    }

    /// Takes the next pages, as many batches as may wait; returns whether any are under way.
    fn hand_out<D: BlockDevice>(
        &mut self,
        pages: &mut Pages<'_, D>,
        wanted: Wanted<'_>,
    ) -> Result<bool, WriteError> {
        while self.jobs.len() < self.threads * WAITING && self.results.len() < self.threads * UNDER_WAY {
            let mut batch = self.spare.pop().unwrap_or_else(Batch::new);
            if !batch.take(pages, wanted)? {
                self.spare.push(batch);
                break;
            }
            self.reserve(pages, &batch);
            self.left = self.left.saturating_sub(batch.frames.len() as u64);
            if self.left == 0 {
                self.output.bring_rest();
            }
            let (job, result) = Job::new(batch);
            self.jobs.send(job).map_err(|_| WriteError::Unfinished)?;
            self.results.push_back(result);
        }
        Ok(!self.results.is_empty())
    }

    /// Takes the room of the batch's descriptors, before its data takes the last.
    fn reserve<D: BlockDevice>(&mut self, pages: &Pages<'_, D>, batch: &Batch) {
        for frame in &batch.frames {
            let part = pages.part_of_table(frame);
            if self.reserved != part {
                self.output.reserve(part);
                self.reserved = part;
            }
        }
    }

    /// Returns the first batch of the queue, if it is done. If not, does the job of another batch, or waits if there is
    /// none.
    fn next_done(&mut self) -> Result<Option<Batch>, WriteError> {
        let Some(first) = self.results.front() else { return Ok(None) };
        if first.is_empty() {
            if let Ok(job) = self.waiting.try_recv() {
                self.worker.work(job);
                return Ok(None);
            }
            self.worker.rest();
        }
        let outcome = first.recv().map_err(|_| WriteError::Unfinished)?;
        self.results.pop_front();
        outcome.map(Some)
    }
}

/// Returns the next job for a worker, which rests while there is none; `None` when no more will come.
fn next(waiting: &Receiver<Job>, worker: &mut Worker<'_, impl OldMemory>) -> Option<Job> {
    waiting.try_recv().ok().or_else(|| {
        worker.rest();
        waiting.recv().ok()
    })
}

#[cfg(test)]
mod tests {
    use kdump::{Codec, Header, NoteSegment, Utsname};
    use machine::{PhysicalAddress, Table, Unreadable};

    use super::*;

    /// Memory with one page frame that nobody may read.
    struct Trap {
        address: u64,
    }

    impl OldMemory for Trap {
        fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
            let read = address.get()..address.get() + into.len() as u64;
            assert!(!read.contains(&self.address), "this read is a mistake");
            Ok(())
        }

        fn read_table(&self, address: PhysicalAddress, _: &mut Table) -> Result<(), Unreadable> {
            Err(Unreadable { address, len: 4096 })
        }
    }

    /// Writes a dump of 800 pages of memory of which one is a trap.
    fn write_with_trap(threads: usize) -> Result<(), WriteError> {
        let file = tempfile::tempfile().unwrap();
        let output = Output::new(&file, 0);
        let utsname = Utsname::default();
        let header = Header { utsname, crashed_at: 0, cpus: 1, frames: 800, phys_base: 0, dump_level: 0 };
        let mut device = &output;
        let mut bitmaps = kdump::begin(&mut device, &header, &NoteSegment::default(), Codec::Zlib)?;
        bitmaps.push(&[0xFF; 100], &[0xFF; 100])?;
        let route = Route { memory: &Trap { address: 99 * 4096 }, codec: Codec::Zlib, output: &output };
        let threads = NonZero::new(threads).unwrap();
        write_pages(&mut bitmaps.finish()?, None, &route, threads, |_| ())
    }

    #[test]
    fn a_thread_that_panics_leaves_nobody_waiting() {
        for threads in [1, 2, 3, 8] {
            assert!(std::panic::catch_unwind(|| write_with_trap(threads)).is_err(), "{threads} threads");
        }
    }
}
