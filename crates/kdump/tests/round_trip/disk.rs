//! A disk in memory that keeps the rules of `BlockDevice`, and dumps written to it.

use kdump::{
    BLOCK, Codec, Ended, Header, NoteSegment, Page, PageOutcome, Pages, Statistics, Utsname, WriteError,
    begin, layout::Name,
};
use machine::{BlockDevice, BlockError};

/// A disk in memory. It begins full of junk, as a used disk does.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) bytes: Vec<u8>,
    /// Its size as it tells it, which may be more than it has.
    pub(crate) claimed: u64,
    /// How many more writes succeed.
    pub(crate) writes_left: usize,
    /// How many more writes and flushes succeed before one fails.
    pub(crate) calls_until_failure: Option<usize>,
    /// Blocks that cannot be written.
    pub(crate) bad: std::ops::Range<usize>,
    /// Blocks that cannot be read.
    pub(crate) unreadable: std::ops::Range<usize>,
    /// How often each block was written.
    pub(crate) written: Vec<u32>,
    /// Lengths of the writes, in order.
    pub(crate) lengths: Vec<usize>,
}

impl Disk {
    pub(crate) fn new(blocks: usize) -> Self {
        Self::holding(vec![0xA5; blocks * BLOCK])
    }

    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        let blocks = bytes.len() / BLOCK;
        Self {
            claimed: bytes.len() as u64,
            bytes,
            writes_left: usize::MAX,
            calls_until_failure: None,
            bad: 0..0,
            unreadable: 0..0,
            written: vec![0; blocks],
            lengths: Vec::new(),
        }
    }

    /// Fails once, when that was asked for.
    fn call(&mut self) -> Result<(), BlockError> {
        match &mut self.calls_until_failure {
            Some(0) => self.calls_until_failure = None,
            Some(left) => {
                *left -= 1;
                return Ok(());
            }
            None => return Ok(()),
        }
        Err(BlockError::Device(7))
    }

    fn range(&self, offset: u64, len: usize, grain: usize) -> Result<std::ops::Range<usize>, BlockError> {
        let offset = usize::try_from(offset).map_err(|_| BlockError::OutOfBounds)?;
        if !offset.is_multiple_of(grain) || !len.is_multiple_of(grain) {
            return Err(BlockError::Misaligned);
        }
        let end = offset.checked_add(len).filter(|end| *end <= self.bytes.len());
        Ok(offset..end.ok_or(BlockError::OutOfBounds)?)
    }
}

impl BlockDevice for Disk {
    fn size(&self) -> u64 {
        self.claimed
    }

    fn block_size(&self) -> u32 {
        512
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let range = self.range(offset, into.len(), 512)?;
        if self.unreadable.contains(&(range.start / BLOCK)) {
            return Err(BlockError::Device(11));
        }
        into.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        let range = self.range(offset, from.len(), BLOCK)?;
        self.call()?;
        self.writes_left = self.writes_left.checked_sub(1).ok_or(BlockError::Device(5))?;
        let blocks = range.start / BLOCK..range.end / BLOCK;
        if blocks.start < self.bad.end && self.bad.start < blocks.end {
            return Err(BlockError::Device(9));
        }
        for block in blocks {
            self.written[block] += 1;
        }
        self.lengths.push(from.len());
        self.bytes[range].copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.call()
    }
}

/// Notes with one VMCOREINFO.
pub(crate) const NOTES: &[u8] = b"\x0b\0\0\0\x0d\0\0\0\0\0\0\0VMCOREINFO\0\0PAGESIZE=4096\0\0\0";

/// The same, as the writer takes them.
pub(crate) fn notes() -> NoteSegment<'static> {
    NoteSegment { bytes: NOTES, vmcoreinfo: Some(24..37), eraseinfo: None }
}

pub(crate) fn header(frames: u64) -> Header {
    let utsname = Utsname {
        sysname: Name::new("Linux"),
        release: Name::new("6.1.0-56-amd64"),
        machine: Name::new("x86_64"),
        ..Utsname::default()
    };
    Header { utsname, crashed_at: 1_700_000_000, cpus: 2, frames, phys_base: 0x1234_5000, dump_level: 31 }
}

/// One page frame of a made-up machine.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Hole,
    Excluded,
    Kept(Box<Page>),
    Unreadable,
}

/// Bitmaps of a made-up machine: existing, kept.
pub(crate) fn bitmaps(frames: &[Frame]) -> (Vec<u8>, Vec<u8>) {
    let pack = |test: fn(&Frame) -> bool| {
        let byte =
            |eight: &[Frame]| eight.iter().rev().fold(0, |byte, frame| byte << 1 | u8::from(test(frame)));
        frames.chunks(8).map(byte).collect()
    };
    let existing = pack(|frame| !matches!(frame, Frame::Hole));
    (existing, pack(|frame| matches!(frame, Frame::Kept(_) | Frame::Unreadable)))
}

/// Complaints of the disk that do not end a dump here.
pub(crate) const PATIENCE: usize = 10;

/// Writes a dump of a made-up machine, page by page until `stop` pages were written or the disk is full.
pub(crate) fn write(
    disk: &mut Disk,
    frames: &[Frame],
    codec: Codec,
    stop: usize,
) -> Result<Statistics, WriteError> {
    let Ended { statistics, error } = try_write(disk, frames, codec, stop)?;
    match error {
        None | Some(WriteError::Full) => Ok(statistics),
        Some(error) => Err(error),
    }
}

/// The same; tells also how far it came.
pub(crate) fn try_write(
    disk: &mut Disk,
    frames: &[Frame],
    codec: Codec,
    stop: usize,
) -> Result<Ended, WriteError> {
    write_in_passes(disk, frames, codec, stop, |_| true)
}

/// The same in two passes, the first of which takes the pages that are wanted.
pub(crate) fn write_in_passes(
    disk: &mut Disk,
    frames: &[Frame],
    codec: Codec,
    stop: usize,
    wanted: impl Fn(u64) -> bool,
) -> Result<Ended, WriteError> {
    let mut pages = begin_pages(disk, frames, codec)?;
    let mut left = stop;
    let written = write_pass(&mut pages, frames, &mut left, wanted)
        .and_then(|()| if left > 0 { pages.next_pass() } else { Ok(()) })
        .and_then(|()| write_pass(&mut pages, frames, &mut left, |_| true));
    Ok(match written {
        Err(error) => Ended { error: Some(error), ..pages.abandon() },
        Ok(()) if left == 0 => pages.abandon(),
        Ok(()) => pages.finish(),
    })
}

/// Writes all that comes before the pages.
pub(crate) fn begin_pages<'d>(
    disk: &'d mut Disk,
    frames: &[Frame],
    codec: Codec,
) -> Result<Pages<'d, Disk>, WriteError> {
    let (existing, kept) = bitmaps(frames);
    let mut stage = begin(disk, &header(frames.len() as u64), &notes(), codec)?;
    for (existing, kept) in existing.chunks(3).zip(kept.chunks(3)) {
        stage.push(existing, kept)?;
    }
    let mut pages = stage.finish()?;
    pages.put_up_with(PATIENCE);
    Ok(pages)
}

/// Writes the wanted pages, at most `left` of them.
fn write_pass(
    pages: &mut Pages<'_, Disk>,
    frames: &[Frame],
    left: &mut usize,
    wanted: impl Fn(u64) -> bool,
) -> Result<(), WriteError> {
    while *left > 0
        && let Some(PageOutcome::Zero | PageOutcome::Compressed | PageOutcome::Raw | PageOutcome::Missing) =
            pages.write_next(&wanted, |pfn, page| fetch(&frames[pfn as usize], pfn, page))?
    {
        *left -= 1;
    }
    Ok(())
}

pub(crate) fn fetch(frame: &Frame, pfn: u64, page: &mut Page) -> Result<(), machine::Unreadable> {
    match frame {
        Frame::Kept(content) => page.copy_from_slice(&content[..]),
        Frame::Unreadable => return Err(machine::Unreadable { address: (pfn * 4096).into(), len: 4096 }),
        Frame::Hole | Frame::Excluded => unreachable!("page frame {pfn} was not to be read"),
    }
    Ok(())
}
