//! Pages on their way from memory to the dump, on one or on several processors.
//!
//! Whoever called hands out batches of page frame numbers and stores what comes back. Workers read and compress. Each
//! worker has a lane of its own, and lanes are served in turn, so batches come back in the order in which they left
//! without being sorted. A lane holds a few batches at most: memory is bounded, and neither side waits while the other
//! has work.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

use engine::Wanted;
use kdump::{Codec, Encoder, Pages, WriteError};
use machine::{BlockDevice, OldMemory};
use vmcore::CoreFile;

use super::batch::Batch;

/// Batches in a lane.
const DEPTH: usize = 4;

/// Writes the pages that are wanted now; calls `progress` with the number of all those done.
pub(crate) fn write_pages<D: BlockDevice>(
    pages: &mut Pages<'_, D>,
    wanted: Wanted<'_>,
    memory: &CoreFile<impl OldMemory + Sync>,
    codec: Codec,
    threads: NonZero<usize>,
    progress: impl Fn(u64),
) -> Result<(), WriteError> {
    if threads.get() == 1 {
        return write_alone(pages, wanted, memory, codec, progress);
    }
    thread::scope(|scope| {
        let lanes = (0..threads.get()).map(|_| Lane::start(scope, memory, codec)).collect();
        Lanes { lanes, busy: VecDeque::new() }.write(pages, wanted, progress)
    })
}

fn write_alone<D: BlockDevice>(
    pages: &mut Pages<'_, D>,
    wanted: Wanted<'_>,
    memory: &CoreFile<impl OldMemory>,
    codec: Codec,
    progress: impl Fn(u64),
) -> Result<(), WriteError> {
    let (mut batch, mut encoder) = (Batch::new(), Encoder::new(codec));
    while batch.take(pages, wanted)? {
        batch.encode(memory, &mut encoder);
        batch.store(pages)?;
        progress(pages.statistics().done);
    }
    Ok(())
}

/// The way to a worker and back.
struct Lane {
    to: SyncSender<Batch>,
    from: Receiver<Batch>,
}

impl Lane {
    fn start<'s, 'e, M: OldMemory + Sync>(
        scope: &'s Scope<'s, 'e>,
        memory: &'e CoreFile<M>,
        codec: Codec,
    ) -> Self {
        let (to, jobs) = sync_channel::<Batch>(DEPTH);
        let (results, from) = sync_channel(DEPTH);
        scope.spawn(move || {
            let mut encoder = Encoder::new(codec);
            for mut batch in jobs {
                batch.encode(memory, &mut encoder);
                if results.send(batch).is_err() {
                    return;
                }
            }
        });
        Self { to, from }
    }
}

/// All workers, and where the batches are.
struct Lanes {
    lanes: Vec<Lane>,
    /// Which lanes hold a batch, in the order in which they got it.
    busy: VecDeque<usize>,
}

impl Lanes {
    fn write<D: BlockDevice>(
        &mut self,
        pages: &mut Pages<'_, D>,
        wanted: Wanted<'_>,
        progress: impl Fn(u64),
    ) -> Result<(), WriteError> {
        for slot in 0..self.lanes.len() * DEPTH {
            self.send(slot % self.lanes.len(), Batch::new(), pages, wanted)?;
        }
        while let Some(lane) = self.busy.pop_front() {
            let Ok(mut batch) = self.lanes[lane].from.recv() else { return Err(WriteError::Unfinished) };
            batch.store(pages)?;
            progress(pages.statistics().done);
            self.send(lane, batch, pages, wanted)?;
        }
        Ok(())
    }

    /// Sends the next pages down a lane, if there are any left.
    fn send<D: BlockDevice>(
        &mut self,
        lane: usize,
        mut batch: Batch,
        pages: &mut Pages<'_, D>,
        wanted: Wanted<'_>,
    ) -> Result<(), WriteError> {
        if batch.take(pages, wanted)? && self.lanes[lane].to.send(batch).is_ok() {
            self.busy.push_back(lane);
        }
        Ok(())
    }
}
