//! Repairs a dump whose writer was interrupted, so that readers can read it.
//!
//! A disk may store descriptors before or after the data that they describe. Some of them may therefore name places without
//! data, or be old in one half and new in the other.

use machine::{BlockDevice, ByteOffset, Range};
use zerocopy::FromBytes;

use crate::layout::{self, DESCRIPTOR_LEN, Descriptor, DiskDumpHeader};
use crate::reader::{ReadError, Reader};
use crate::{BLOCK, Codec, Page};

/// Bytes of the table of descriptors that are examined together: whole blocks of whole descriptors.
const WINDOW: usize = 3 * BLOCK;

const _: () = assert!(WINDOW.is_multiple_of(DESCRIPTOR_LEN));

/// Marks each page as missing whose data is not there according to `is_there`, and marks the dump as incomplete.
///
/// Returns the number of pages that are there.
pub fn name_missing<D: BlockDevice>(
    device: D,
    is_there: impl Fn(Range<ByteOffset>) -> bool,
) -> Result<u64, ReadError> {
    let reader = Reader::open(device)?;
    let (start, end) = (reader.table().start.get(), reader.table().end.get());
    let mut device = reader.into_device();
    mark_incomplete(&mut device)?;
    let mut there = 0;
    let mut window = [0; WINDOW];
    for start in (start..end.min(device.size())).step_by(WINDOW) {
        let part = (end - start).min(WINDOW as u64) as usize;
        // The rest of its last block is padding.
        let blocks = part.next_multiple_of(BLOCK).min((device.size() - start) as usize);
        device.read(start, &mut window[..blocks])?;
        let before = window;
        let inside = &mut window[..part.min(blocks)];
        there +=
            inside.chunks_exact_mut(DESCRIPTOR_LEN).map(|bytes| keep_or_clear(bytes, &is_there)).sum::<u64>();
        if window != before {
            device.write(start, &window[..blocks])?;
        }
    }
    device.flush()?;
    Ok(there)
}

/// Clears a descriptor whose page is not there; returns how many pages are, 1 or 0.
fn keep_or_clear(bytes: &mut [u8], is_there: impl Fn(Range<ByteOffset>) -> bool) -> u64 {
    let descriptor = Descriptor::read_from_bytes(bytes).unwrap_or_default();
    let data = Range::sized(ByteOffset::new(descriptor.offset.get()), descriptor.size.get().into());
    let sound = descriptor.offset != 0
        && (1..=BLOCK as u32).contains(&descriptor.size.get())
        && Codec::named_by(descriptor.flags.get()).is_some();
    let keep = sound && data.is_some_and(is_there);
    if !keep {
        bytes.fill(0);
    }
    keep.into()
}

fn mark_incomplete<D: BlockDevice>(device: &mut D) -> Result<(), ReadError> {
    let mut block: Page = [0; BLOCK];
    device.read(0, &mut block)?;
    let (header, _) = DiskDumpHeader::mut_from_prefix(&mut block).map_err(|_| ReadError::NotADump)?;
    header.status.set(header.status.get() | layout::INCOMPLETE);
    Ok(device.write(0, &block)?)
}
