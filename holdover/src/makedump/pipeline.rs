//! Pages on their way from memory to the dump, on one or on several processors.
//!
//! Whoever called takes batches of pages, hands them out, and stores what comes back in the order in which they left.
//! Workers read and compress. As long as the batch to be stored next is not ready, the caller does a worker's work: there are
//! as many threads as processors, and none waits while there is work. Few batches are under way at a time, so memory is
//! bounded.

use std::collections::VecDeque;
use std::num::NonZero;
use std::thread::{self, Scope};

use crossbeam_channel::{Receiver, Sender, unbounded};
use engine::Wanted;
use kdump::{Codec, Encoder, Pages, WriteError};
use machine::{BlockDevice, OldMemory};

use super::batch::Batch;

/// Batches that wait for each processor to take them on.
const WAITING: usize = 2;
/// Most batches under way for each processor: what is ready may have to wait for one that takes long.
const UNDER_WAY: usize = 8;

/// Writes the pages that are wanted now; calls `progress` with the number of all those done.
pub(crate) fn write_pages<D: BlockDevice>(
    pages: &mut Pages<'_, D>,
    wanted: Wanted<'_>,
    memory: &(impl OldMemory + Sync),
    codec: Codec,
    threads: NonZero<usize>,
    progress: impl Fn(u64),
) -> Result<(), WriteError> {
    thread::scope(|scope| {
        let mut pipeline = Pipeline::start(scope, memory, codec, threads.get());
        let mut encoder = Encoder::new(codec);
        loop {
            pipeline.hand_out(pages, wanted)?;
            pipeline.collect();
            if let Some(mut batch) = pipeline.first_ready() {
                batch.store(pages)?;
                pipeline.spare.push(batch);
                progress(pages.statistics().done);
            } else if let Ok(mut job) = pipeline.waiting.try_recv() {
                job.batch.encode(memory, &mut encoder);
                pipeline.put(job);
            } else if !pipeline.wait()? {
                return Ok(());
            }
        }
    })
}

/// Where the batches are.
struct Pipeline {
    threads: usize,
    /// For whoever is free.
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    results: Receiver<Job>,
    /// The batches under way in the order in which they are to be stored; those that are ready.
    line: VecDeque<Option<Batch>>,
    /// Number of the first batch in the line.
    first: usize,
    /// Batches for reuse.
    spare: Vec<Batch>,
}

/// A batch and its number.
struct Job {
    number: usize,
    batch: Batch,
}

impl Pipeline {
    /// Starts a worker for each thread but the caller.
    fn start<'s, 'e, M: OldMemory + Sync>(
        scope: &'s Scope<'s, 'e>,
        memory: &'e M,
        codec: Codec,
        threads: usize,
    ) -> Self {
        let ((jobs, waiting), (done, results)) = (unbounded::<Job>(), unbounded());
        for _ in 1..threads {
            let (waiting, done) = (waiting.clone(), done.clone());
            scope.spawn(move || {
                let mut encoder = Encoder::new(codec);
                for mut job in waiting {
                    job.batch.encode(memory, &mut encoder);
                    if done.send(job).is_err() {
                        return;
                    }
                }
            });
        }
        Self { threads, jobs, waiting, results, line: VecDeque::new(), first: 0, spare: Vec::new() }
    }

    /// Takes the next pages, as many batches as may wait.
    fn hand_out<D: BlockDevice>(
        &mut self,
        pages: &mut Pages<'_, D>,
        wanted: Wanted<'_>,
    ) -> Result<(), WriteError> {
        while self.jobs.len() < self.threads * WAITING && self.line.len() < self.threads * UNDER_WAY {
            let mut batch = self.spare.pop().unwrap_or_else(Batch::new);
            if !batch.take(pages, wanted)? {
                self.spare.push(batch);
                break;
            }
            let job = Job { number: self.first + self.line.len(), batch };
            self.jobs.send(job).map_err(|_| WriteError::Unfinished)?;
            self.line.push_back(None);
        }
        Ok(())
    }

    /// Puts what came back in its place.
    fn collect(&mut self) {
        while let Ok(job) = self.results.try_recv() {
            self.put(job);
        }
    }

    fn put(&mut self, Job { number, batch }: Job) {
        if let Some(place) = self.line.get_mut(number - self.first) {
            *place = Some(batch);
        }
    }

    /// The first batch of the line, if it is ready.
    fn first_ready(&mut self) -> Option<Batch> {
        let batch = self.line.front_mut()?.take()?;
        self.line.pop_front();
        self.first += 1;
        Some(batch)
    }

    /// Waits for a batch; says whether one is under way.
    fn wait(&mut self) -> Result<bool, WriteError> {
        if self.line.is_empty() {
            return Ok(false);
        }
        let job = self.results.recv().map_err(|_| WriteError::Unfinished)?;
        self.put(job);
        Ok(true)
    }
}
