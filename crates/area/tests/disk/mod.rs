//! A disk that forgets what was not flushed when its power goes.

use std::cell::Cell;
use std::rc::Rc;

use machine::{BlockDevice, BlockError};

/// Bytes that the disk writes wholly or not at all.
pub(crate) const SECTOR: usize = 512;

/// A disk with a write cache and a power switch.
#[derive(Clone)]
pub(crate) struct Disk {
    /// What survives.
    pub(crate) platter: Vec<u8>,
    /// Sectors that were written since the last flush, in order: offset and content.
    cache: Vec<(usize, [u8; SECTOR])>,
    /// Writes and flushes until the power goes; none: it stays.
    pub(crate) power: Option<usize>,
    /// The next access of any kind tells of an error of an earlier write.
    pub(crate) late_error: Rc<Cell<bool>>,
    /// Offsets and lengths of all writes, for the tests that look where they went.
    pub(crate) writes: Vec<(u64, usize)>,
}

impl Disk {
    /// A disk of `size` bytes that hold `fill`.
    pub(crate) fn filled(size: usize, fill: u8) -> Self {
        Self {
            platter: vec![fill; size],
            cache: Vec::new(),
            power: None,
            late_error: Rc::default(),
            writes: Vec::new(),
        }
    }

    /// The disk after the power has gone: of the sectors in the cache, those for which `survives` says so got through.
    pub(crate) fn after_power_loss(mut self, mut survives: impl FnMut(usize) -> bool) -> Self {
        for (number, (at, sector)) in std::mem::take(&mut self.cache).into_iter().enumerate() {
            if survives(number) {
                self.platter[at..at + SECTOR].copy_from_slice(&sector);
            }
        }
        self.power = None;
        self
    }

    fn use_power(&mut self) -> Result<(), BlockError> {
        match &mut self.power {
            Some(0) => return Err(BlockError::TimedOut),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn tell_late_error(&self) -> Result<(), BlockError> {
        if self.late_error.take() { Err(BlockError::Device(5)) } else { Ok(()) }
    }

    fn bounds(&self, offset: u64, len: usize) -> Result<usize, BlockError> {
        let end = offset.checked_add(len as u64).ok_or(BlockError::OutOfBounds)?;
        if end > self.size() { Err(BlockError::OutOfBounds) } else { Ok(offset as usize) }
    }
}

impl BlockDevice for Disk {
    fn size(&self) -> u64 {
        self.platter.len() as u64
    }

    fn block_size(&self) -> u32 {
        SECTOR as u32
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let start = self.bounds(offset, into.len())?;
        self.tell_late_error()?;
        into.copy_from_slice(&self.platter[start..start + into.len()]);
        for (at, sector) in &self.cache {
            if (start..start + into.len()).contains(at) {
                into[at - start..at - start + SECTOR].copy_from_slice(sector);
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        let start = self.bounds(offset, from.len())?;
        self.use_power()?;
        self.tell_late_error()?;
        self.writes.push((offset, from.len()));
        let sectors = from.as_chunks().0.iter().enumerate();
        self.cache.extend(sectors.map(|(number, sector)| (start + number * SECTOR, *sector)));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.use_power()?;
        self.tell_late_error()?;
        for (at, sector) in self.cache.drain(..) {
            self.platter[at..at + SECTOR].copy_from_slice(&sector);
        }
        Ok(())
    }
}
