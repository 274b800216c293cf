//! Pages on their way from memory to the dump, on one or on several processors.
//!
//! Whoever called takes batches of pages, hands them out, and notes where they are in the order in which they left. Workers
//! read, compress and write them, each to pieces of the file of its own: data lies in another order with each run, which no reader
//! minds, for descriptors say where it is. As long as the first batch of the line is not done, the caller does a worker's
//! work: there are as many threads as processors, and none waits while there is work.

use std::collections::VecDeque;
use std::num::NonZero;
use std::thread::{self, Scope};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use engine::Wanted;
use kdump::{Pages, Room, WriteError};
use machine::{BlockDevice, OldMemory};

use super::batch::Batch;
use super::worker::{Route, Worker};

/// Batches that wait for each processor to take them on.
const WAITING: usize = 2;
/// Most batches under way for each processor: what is done may have to wait for one that takes long.
const UNDER_WAY: usize = 8;

/// Writes the pages that are wanted now; calls `progress` with the number of all those done.
///
/// `pages` are those of a dump in the route's output.
pub(super) fn write_pages<D: BlockDevice>(
    pages: &mut Pages<'_, D>,
    wanted: Wanted<'_>,
    route: &Route<'_, impl OldMemory + Sync>,
    threads: NonZero<usize>,
    progress: impl Fn(u64),
) -> Result<(), WriteError> {
    pages.with_room(|pages, room| {
        thread::scope(|scope| {
            let mut line = Line::start(scope, route, room, threads.get());
            let mut worker = Worker::new(route, room);
            while line.hand_out(pages, wanted)? {
                if let Some(mut batch) = line.next_done(&mut worker)? {
                    batch.place(pages)?;
                    line.spare.push(batch);
                    progress(pages.statistics().done);
                }
            }
            Ok(())
        })
    })
}

/// The batches under way.
struct Line {
    threads: usize,
    /// For whoever is free.
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    /// What comes of each, in the order in which they left. Nothing comes if the thread that had it is gone.
    results: VecDeque<Receiver<Outcome>>,
    /// Batches for reuse.
    spare: Vec<Batch>,
}

/// A batch to be written, and where to tell that it is.
struct Job {
    batch: Batch,
    done: Sender<Outcome>,
}

type Outcome = Result<Batch, WriteError>;

impl Job {
    fn run(mut self, worker: &mut Worker<'_, impl OldMemory>) {
        let written = worker.work(&mut self.batch).map(|()| self.batch);
        // After an error somewhere else nobody listens.
        let _ = self.done.send(written);
    }
}

impl Line {
    /// Starts a worker for each thread but the caller.
    fn start<'s, 'e, M: OldMemory + Sync>(
        scope: &'s Scope<'s, 'e>,
        route: &'e Route<'e, M>,
        room: &'e Room,
        threads: usize,
    ) -> Self {
        let (jobs, waiting) = unbounded::<Job>();
        for _ in 1..threads {
            let waiting = waiting.clone();
            scope.spawn(move || {
                let mut worker = Worker::new(route, room);
                waiting.iter().for_each(|job| job.run(&mut worker));
            });
        }
        Self { threads, jobs, waiting, results: VecDeque::new(), spare: Vec::new() }
    }

    /// Takes the next pages, as many batches as may wait; says whether any are under way.
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
            let (done, result) = bounded(1);
            self.jobs.send(Job { batch, done }).map_err(|_| WriteError::Unfinished)?;
            self.results.push_back(result);
        }
        Ok(!self.results.is_empty())
    }

    /// The first batch of the line, if it is done. If not, does the work of another; waits if there is none.
    fn next_done(&mut self, worker: &mut Worker<'_, impl OldMemory>) -> Result<Option<Batch>, WriteError> {
        let Some(first) = self.results.front() else { return Ok(None) };
        if first.is_empty()
            && let Ok(job) = self.waiting.try_recv()
        {
            job.run(worker);
            return Ok(None);
        }
        let outcome = first.recv().map_err(|_| WriteError::Unfinished)?;
        self.results.pop_front();
        outcome.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use kdump::{Codec, Header, NoteSegment, Utsname};
    use machine::{Table, Unreadable};

    use super::super::output::Output;
    use super::*;

    /// Memory with one page frame that nobody may read.
    struct Trap {
        address: u64,
    }

    impl OldMemory for Trap {
        fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
            let read = address..address + into.len() as u64;
            assert!(!read.contains(&self.address), "this read is a mistake");
            Ok(())
        }

        fn read_table(&self, address: u64, _: &mut Table) -> Result<(), Unreadable> {
            Err(Unreadable { address, len: 4096 })
        }
    }

    /// Writes a dump of 800 pages of memory of which one is a trap.
    fn write_with_trap(threads: usize) -> Result<(), WriteError> {
        let file = tempfile::tempfile().unwrap();
        let output = Output::new(&file);
        let utsname = Utsname::default();
        let header = Header { utsname, crashed_at: 0, cpus: 1, frames: 800, phys_base: 0, dump_level: 0 };
        let mut device = &output;
        let mut bitmaps = kdump::begin(&mut device, &header, &NoteSegment::default(), Codec::Zlib)?;
        bitmaps.push(&[0xFF; 100], &[0xFF; 100])?;
        let route = Route { memory: &Trap { address: 99 * 4096 }, codec: Codec::Zlib, output: &output };
        let threads = NonZero::new(threads).unwrap();
        write_pages(&mut bitmaps.finish()?, &mut |_| true, &route, threads, |_| ())
    }

    #[test]
    fn a_thread_that_panics_leaves_nobody_waiting() {
        for threads in [1, 2, 3, 8] {
            assert!(std::panic::catch_unwind(|| write_with_trap(threads)).is_err(), "{threads} threads");
        }
    }
}
