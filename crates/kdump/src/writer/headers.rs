//! The first block, the sub header and the notes.

use machine::{BlockDevice, Range};
use zerocopy::{FromZeros, IntoBytes};

use super::WriteError;
use crate::codec::Codec;
use crate::layout::{self, DiskDumpHeader, Geometry, SUB_HEADER_LEN, SubHeader};
use crate::stream::Stream;
use crate::target::Target;
use crate::{BLOCK, Bitmap, Header, NoteSegment};

/// Writes everything before the bitmaps.
pub(super) fn write<D: BlockDevice + ?Sized>(
    target: &mut Target<'_, D>,
    first_block: &DiskDumpHeader,
    sub_header: &SubHeader,
    notes: &[u8],
    geometry: Geometry,
) -> Result<(), WriteError> {
    write_first_block(target, first_block)?;
    let mut stream = Stream::new(Range::from(BLOCK as u64..geometry.bitmap(Bitmap::Existing)))?;
    stream.push(target, sub_header.as_bytes())?;
    stream.push(target, notes)?;
    stream.close(target)
}

/// Writes block 0.
pub(super) fn write_first_block<D: BlockDevice + ?Sized>(
    target: &mut Target<'_, D>,
    header: &DiskDumpHeader,
) -> Result<(), WriteError> {
    let mut block = [0; BLOCK];
    block[..size_of::<DiskDumpHeader>()].copy_from_slice(header.as_bytes());
    Ok(target.write(0, &block)?)
}

/// The first block of an incomplete dump.
pub(super) fn disk_dump_header(header: &Header, geometry: Geometry, codec: Codec) -> DiskDumpHeader {
    DiskDumpHeader {
        signature: layout::SIGNATURE,
        header_version: layout::VERSION.into(),
        utsname: header.utsname,
        timestamp_sec: header.crashed_at.into(),
        status: (layout::INCOMPLETE | codec.flag()).into(),
        block_size: (BLOCK as u32).into(),
        sub_hdr_size: geometry.sub_header_blocks.into(),
        bitmap_blocks: (geometry.bitmap_blocks * 2).into(),
        max_mapnr: u32::try_from(header.frames).unwrap_or(u32::MAX).into(),
        nr_cpus: header.cpus.into(),
        ..DiskDumpHeader::new_zeroed()
    }
}

/// The sub header; the notes follow it at once.
pub(super) fn sub_header(header: &Header, notes: &NoteSegment<'_>) -> SubHeader {
    let notes_start = BLOCK + SUB_HEADER_LEN;
    let place = |content: &Option<core::ops::Range<usize>>| {
        content
            .as_ref()
            .map_or((0, 0), |content| ((notes_start + content.start) as u64, content.len() as u64))
    };
    let (vmcoreinfo_start, vmcoreinfo_len) = place(&notes.vmcoreinfo);
    let (eraseinfo_start, eraseinfo_len) = place(&notes.eraseinfo);
    SubHeader {
        phys_base: header.phys_base.into(),
        dump_level: u32::from(header.dump_level).into(),
        offset_vmcoreinfo: vmcoreinfo_start.into(),
        size_vmcoreinfo: vmcoreinfo_len.into(),
        offset_note: (notes_start as u64).into(),
        size_note: (notes.bytes.len() as u64).into(),
        offset_eraseinfo: eraseinfo_start.into(),
        size_eraseinfo: eraseinfo_len.into(),
        max_mapnr_64: header.frames.into(),
        ..SubHeader::new_zeroed()
    }
}
