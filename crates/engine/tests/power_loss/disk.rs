//! A disk that remembers in which order it was asked for what, so that its power can go at any time afterwards.

use std::cell::Cell;
use std::rc::Rc;

use machine::{BlockDevice, BlockError};

/// Bytes that a disk writes wholly or not at all.
const SECTOR: usize = 512;

/// What a disk was asked to do.
enum Step {
    Write { at: usize, bytes: Vec<u8> },
    Flush,
}

/// A disk with a volatile cache.
pub(crate) struct Disk {
    /// What was on it at first.
    before: Vec<u8>,
    /// What is read from it.
    now: Vec<u8>,
    steps: Vec<Step>,
    /// How many there are, for those who have lent the disk to others.
    pub(crate) count: Rc<Cell<usize>>,
}

impl Disk {
    /// A disk that holds these bytes.
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), before: bytes, steps: Vec::new(), count: Rc::default() }
    }

    fn remember(&mut self, step: Step) {
        self.steps.push(step);
        self.count.set(self.steps.len());
    }

    /// What is found on it when the power goes after `steps` of them: all that was flushed, and of what was not, in whatever
    /// order, the sectors that `survives`.
    pub(crate) fn after_power_loss(&self, steps: usize, mut survives: impl FnMut() -> bool) -> Vec<u8> {
        let mut platter = self.before.clone();
        let done = &self.steps[..steps];
        let flushed = done.iter().rposition(|step| matches!(step, Step::Flush)).unwrap_or(0);
        for (number, step) in done.iter().enumerate() {
            let Step::Write { at, bytes } = step else { continue };
            for (start, sector) in (*at..).step_by(SECTOR).zip(bytes.chunks(SECTOR)) {
                if number < flushed || survives() {
                    platter[start..start + SECTOR].copy_from_slice(sector);
                }
            }
        }
        platter
    }
}

impl BlockDevice for Disk {
    fn size(&self) -> u64 {
        self.now.len() as u64
    }

    fn block_size(&self) -> u32 {
        SECTOR as u32
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        into.copy_from_slice(&self.now[offset as usize..][..into.len()]);
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        let at = offset as usize;
        self.now[at..at + from.len()].copy_from_slice(from);
        self.remember(Step::Write { at, bytes: from.to_vec() });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.remember(Step::Flush);
        Ok(())
    }
}
