//! Writes a dump: header and notes, then bitmaps, then pages, then the header again as complete.
//!
//! # A dump that was cut short
//!
//! The header says *incomplete* until [`Pages::finish`]. [`Pages::abandon`] leaves it so and fills the descriptors of
//! all pages that were not written with zeros. Readers take an offset of zero for "this page is missing": `crash`
//! warns at its start that the dump is incomplete and reports such a page when a user asks for it (or reads it as
//! zeros with `--zero_excluded`); libkdumpfile, and `drgn` with it, refuses it as a page of length 0; makedumpfile
//! treats it as a page without content. All of them read the other pages as usual. A reader opens the dump only if
//! certain pages are there: the kernel's image, its page tables and the per-CPU areas. The engine therefore writes
//! these in a pass before all others. A page of a complete dump whose memory could not be read gets the same
//! descriptor.

mod bitmaps;
mod headers;
mod kept;
mod pages;
mod room;
mod statistics;
mod table;

use machine::{BlockDevice, BlockError, OutOfMemory, Range};

pub use self::bitmaps::Bitmaps;
pub use self::kept::Frame;
pub use self::pages::Pages;
pub use self::room::{PagePlace, Room};
pub use self::statistics::{Ended, PageOutcome, Statistics};
use crate::codec::Codec;
use crate::layout::{DiskDumpHeader, Geometry};
use crate::stream::Stream;
use crate::target::Target;
use crate::{BLOCK, Bitmap, Header, NoteSegment};

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
    /// Pages were not stored in the order in which they were handed out.
    #[error("pages were stored out of order")]
    WrongOrder,
    /// Finished before every kept page was written.
    #[error("not every page was written")]
    Unfinished,
    /// No memory for the buffers.
    #[error("out of memory")]
    OutOfMemory,
}

impl From<OutOfMemory> for WriteError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// The state that all stages share.
struct File<'d, D: ?Sized> {
    target: Target<'d, D>,
    first_block: DiskDumpHeader,
    geometry: Geometry,
    /// End of the device, rounded down to a block.
    end: u64,
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
    let first_block = headers::disk_dump_header(header, geometry, codec);
    let mut target = Target::new(device);
    headers::write(&mut target, &first_block, &headers::sub_header(header, notes), notes.bytes, geometry)?;
    let bitmap = |which| geometry.bitmap(which)..geometry.bitmap(which) + geometry.bitmap_len();
    let stream = |which| Stream::new(Range::from(bitmap(which)));
    Ok(Bitmaps {
        existing: stream(Bitmap::Existing)?,
        kept: stream(Bitmap::Kept)?,
        file: File { target, first_block, geometry, end },
        codec,
        frames_left: header.frames,
        pages: 0,
    })
}
