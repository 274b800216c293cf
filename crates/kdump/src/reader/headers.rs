//! The headers at the start of a dump, and what they say of its layout.

use machine::BlockDevice;
use zerocopy::FromBytes;

use super::bitmaps::FRAMES_PER_BLOCK;
use super::{BLOCK_SIZE, ReadError};
use crate::layout::{self, DiskDumpHeader, Geometry, SubHeader};
use crate::{BLOCK, Header};

/// More page frames than a machine can have: physical addresses end at 52 bits (Intel SDM, volume 3, section 5.1.4).
const FRAMES_LIMIT: u64 = 1 << (52 - machine::PAGE_SHIFT);

pub(super) fn read_headers<D: BlockDevice>(device: &mut D) -> Result<(DiskDumpHeader, SubHeader), ReadError> {
    if device.size() < 2 * BLOCK as u64 {
        return Err(ReadError::NotADump);
    }
    let mut blocks = [0; 2 * BLOCK];
    device.read(0, &mut blocks)?;
    let (first, second) = blocks.split_at(BLOCK);
    let (first, _) = DiskDumpHeader::read_from_prefix(first).map_err(|_| ReadError::NotADump)?;
    let (second, _) = SubHeader::read_from_prefix(second).map_err(|_| ReadError::NotADump)?;
    if first.signature != layout::SIGNATURE {
        return Err(ReadError::NotADump);
    }
    let machine = first.utsname.machine;
    if !matches!(machine.as_str(), "" | "x86_64") {
        return Err(ReadError::ForeignMachine(machine));
    }
    let unsupported = |what, value| Err(ReadError::Unsupported { what, value });
    match (first.header_version.get(), first.block_size.get()) {
        (1..=layout::VERSION, BLOCK_SIZE) => {}
        (1..=layout::VERSION, size) => return unsupported("block size", size),
        (version, _) => return unsupported("version", version),
    }
    let second = second.of_version(&first);
    if second.split.get() != 0 {
        return Err(ReadError::Split);
    }
    Ok((first, second))
}

/// Checks that the bitmaps cover the page frames and lie within the device.
pub(super) fn check_geometry(first: &DiskDumpHeader, frames: u64, size: u64) -> Result<Geometry, ReadError> {
    let geometry = Geometry {
        sub_header_blocks: first.sub_hdr_size.get(),
        bitmap_blocks: first.bitmap_blocks.get() / 2,
    };
    let covered = u64::from(geometry.bitmap_blocks) * FRAMES_PER_BLOCK;
    if frames > covered || frames > FRAMES_LIMIT || geometry.descriptors() > size {
        return Err(ReadError::OutOfBounds("bitmaps"));
    }
    Ok(geometry)
}

pub(super) fn header(first: &DiskDumpHeader, sub: &SubHeader) -> Header {
    Header {
        utsname: first.utsname,
        crashed_at: first.timestamp_sec.get(),
        cpus: first.nr_cpus.get(),
        frames: sub.max_mapnr_64.get(),
        phys_base: sub.phys_base.get(),
        dump_level: u8::try_from(sub.dump_level.get()).unwrap_or(u8::MAX),
    }
}
