//! The structures of the file, as the C compiler of a 64-bit little-endian machine lays them out.
//!
//! These structures are lossless views: any bytes can be read as one, and this module checks nothing. The names of
//! fields are those of makedumpfile's `diskdump_mod.h`, so that readers find them in its documentation.

use core::fmt;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, LE, U32, U64, Unaligned};

use crate::{BLOCK, Bitmap};

/// `signature` of a kdump-compressed file.
pub const SIGNATURE: [u8; 8] = *b"KDUMP   ";
/// The `header_version` that is written. Each version adds fields to [`SubHeader`].
pub const VERSION: u32 = 6;

/// Flag of a page, and of `status`: compressed with zlib.
pub const ZLIB: u32 = 0x1;
/// Flag of a page, and of `status`: compressed with LZO.
pub const LZO: u32 = 0x2;
/// Flag of a page, and of `status`: compressed with snappy.
pub const SNAPPY: u32 = 0x4;
/// Flag of `status`: the file is incomplete.
pub const INCOMPLETE: u32 = 0x8;
/// Flag of a page, and of `status`: compressed with zstd.
pub const ZSTD: u32 = 0x20;

/// Length of `kdump_sub_header`; the notes follow it.
pub const SUB_HEADER_LEN: usize = size_of::<SubHeader>();
/// Length of `page_desc`.
pub const DESCRIPTOR_LEN: usize = size_of::<Descriptor>();

/// A name in [`Utsname`]: up to 64 bytes, ended by a zero byte.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct Name([u8; 65]);

impl Name {
    /// Takes the first 64 bytes of `name`, which is longer on no Linux.
    pub fn new(name: &str) -> Self {
        let mut bytes = [0; 65];
        for (to, from) in bytes[..64].iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Self(bytes)
    }

    /// The name up to its zero byte, or up to what is not UTF-8.
    pub fn as_str(&self) -> &str {
        let bytes = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Default for Name {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// `new_utsname`: names of the kernel and of the machine, 390 bytes, as they lie in the kernel's memory.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Utsname {
    /// Name of the operating system: `Linux`.
    pub sysname: Name,
    /// Host name.
    pub nodename: Name,
    /// Release of the kernel, as in `uname -r`.
    pub release: Name,
    /// Version of the kernel, as in `uname -v`.
    pub version: Name,
    /// Architecture: `x86_64`.
    pub machine: Name,
    /// NIS domain name.
    pub domainname: Name,
}

/// `disk_dump_header`: the first bytes of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DiskDumpHeader {
    /// [`SIGNATURE`].
    pub signature: [u8; 8],
    /// [`VERSION`].
    pub header_version: U32<LE>,
    /// Names of the kernel and of the machine.
    pub utsname: Utsname,
    /// Alignment.
    pub padding: [u8; 6],
    /// Time of the crash, seconds since 1970.
    pub timestamp_sec: U64<LE>,
    /// Microseconds of it.
    pub timestamp_usec: U64<LE>,
    /// [`INCOMPLETE`], and the codec that was asked for.
    pub status: U32<LE>,
    /// Bytes in a block.
    pub block_size: U32<LE>,
    /// Blocks of the sub header with the notes.
    pub sub_hdr_size: U32<LE>,
    /// Blocks of both bitmaps together.
    pub bitmap_blocks: U32<LE>,
    /// Page frames that a bitmap covers; the true number is `max_mapnr_64`, this one is cut off.
    pub max_mapnr: U32<LE>,
    /// Not used since diskdump; 0.
    pub total_ram_blocks: U32<LE>,
    /// Not used since diskdump; 0.
    pub device_blocks: U32<LE>,
    /// Not used since diskdump; 0.
    pub written_blocks: U32<LE>,
    /// CPU that crashed; readers take it from the notes, 0.
    pub current_cpu: U32<LE>,
    /// How many CPUs.
    pub nr_cpus: U32<LE>,
}

/// `kdump_sub_header`: the first bytes of block 1. Of an older version, what it did not have is undefined.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SubHeader {
    /// Address of the kernel image minus the address that it was linked for.
    pub phys_base: U64<LE>,
    /// Which pages were left out. Version 1 added this.
    pub dump_level: U32<LE>,
    /// 1 if this file is one of several; then `start_pfn` and `end_pfn` count. Here 0. Version 2 added these three.
    pub split: U32<LE>,
    /// See `start_pfn_64`.
    pub start_pfn: U64<LE>,
    /// See `end_pfn_64`.
    pub end_pfn: U64<LE>,
    /// Where the text of VMCOREINFO begins in the file; it is part of the notes. Version 3.
    pub offset_vmcoreinfo: U64<LE>,
    /// Bytes of it.
    pub size_vmcoreinfo: U64<LE>,
    /// Where the ELF notes begin in the file. Version 4.
    pub offset_note: U64<LE>,
    /// Bytes of them.
    pub size_note: U64<LE>,
    /// Where the list of erased data begins in the file; 0 if nothing was erased. Version 5.
    pub offset_eraseinfo: U64<LE>,
    /// Bytes of it.
    pub size_eraseinfo: U64<LE>,
    /// First page frame of a split file; otherwise 0. Version 6.
    pub start_pfn_64: U64<LE>,
    /// End of the page frames of a split file; otherwise 0.
    pub end_pfn_64: U64<LE>,
    /// Page frames that a bitmap covers.
    pub max_mapnr_64: U64<LE>,
}

impl SubHeader {
    /// Clears the fields that a version does not have, and takes the number of page frames from where it has it.
    pub(crate) fn of_version(mut self, first: &DiskDumpHeader) -> Self {
        let version = first.header_version.get();
        if version < 2 {
            self.split = 0.into();
        }
        if version < 3 {
            (self.offset_vmcoreinfo, self.size_vmcoreinfo) = (0.into(), 0.into());
        }
        if version < 4 {
            (self.offset_note, self.size_note) = (0.into(), 0.into());
        }
        if version < 5 {
            (self.offset_eraseinfo, self.size_eraseinfo) = (0.into(), 0.into());
        }
        if version < 6 {
            self.max_mapnr_64 = u64::from(first.max_mapnr.get()).into();
        }
        self
    }
}

/// `page_desc`: where a kept page is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Descriptor {
    /// Where its data begins in the file; 0 if the file does not have it.
    pub offset: U64<LE>,
    /// Bytes of data.
    pub size: U32<LE>,
    /// Which codec: [`ZLIB`], [`LZO`], [`SNAPPY`], [`ZSTD`], or 0.
    pub flags: U32<LE>,
    /// Not used; 0.
    pub page_flags: U64<LE>,
}

/// Where the parts of a file begin, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks of the sub header with the notes.
    pub sub_header_blocks: u32,
    /// Blocks of each of the two bitmaps.
    pub bitmap_blocks: u32,
}

impl Geometry {
    /// Lays out a file with so many bytes of notes and so many page frames; `None` if the format cannot express that.
    pub fn new(notes_len: usize, frames: u64) -> Option<Self> {
        let sub_header_len = notes_len.checked_add(SUB_HEADER_LEN)?;
        let both_bitmaps = u32::try_from(blocks(frames.div_ceil(8)).checked_mul(2)?).ok()?;
        Some(Self {
            sub_header_blocks: u32::try_from(blocks(sub_header_len as u64)).ok()?,
            bitmap_blocks: both_bitmaps / 2,
        })
    }

    /// Bytes of one bitmap.
    pub fn bitmap_len(&self) -> u64 {
        u64::from(self.bitmap_blocks) * BLOCK as u64
    }

    /// Where a bitmap begins.
    pub fn bitmap(&self, which: Bitmap) -> u64 {
        let first = (1 + u64::from(self.sub_header_blocks)) * BLOCK as u64;
        match which {
            Bitmap::Existing => first,
            Bitmap::Kept => first + self.bitmap_len(),
        }
    }

    /// Where the descriptors begin.
    pub fn descriptors(&self) -> u64 {
        self.bitmap(Bitmap::Kept) + self.bitmap_len()
    }

    /// Where the data of a file with `kept` pages may begin; `kept` is at most the number of page frames.
    ///
    /// Readers find data by its descriptor only. That it begins with a block here keeps every block in one stream.
    pub fn data(&self, kept: u64) -> u64 {
        self.descriptors() + blocks(kept * DESCRIPTOR_LEN as u64) * BLOCK as u64
    }
}

/// How many blocks `len` bytes take.
fn blocks(len: u64) -> u64 {
    len.div_ceil(BLOCK as u64)
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    /// Offsets and lengths by a C compiler for x86-64 from the structures in makedumpfile's documentation.
    #[test]
    fn structures_lie_as_the_c_compiler_puts_them() {
        assert_eq!(offset_of!(DiskDumpHeader, header_version), 8);
        assert_eq!(offset_of!(DiskDumpHeader, utsname), 12);
        assert_eq!(offset_of!(DiskDumpHeader, timestamp_sec), 408);
        assert_eq!(offset_of!(DiskDumpHeader, status), 424);
        assert_eq!(offset_of!(DiskDumpHeader, block_size), 428);
        assert_eq!(offset_of!(DiskDumpHeader, sub_hdr_size), 432);
        assert_eq!(offset_of!(DiskDumpHeader, bitmap_blocks), 436);
        assert_eq!(offset_of!(DiskDumpHeader, max_mapnr), 440);
        assert_eq!(offset_of!(DiskDumpHeader, nr_cpus), 460);
        assert_eq!(size_of::<DiskDumpHeader>(), 464);
        assert_eq!(offset_of!(SubHeader, split), 12);
        assert_eq!(offset_of!(SubHeader, offset_vmcoreinfo), 32);
        assert_eq!(offset_of!(SubHeader, offset_note), 48);
        assert_eq!(offset_of!(SubHeader, start_pfn_64), 80);
        assert_eq!(offset_of!(SubHeader, max_mapnr_64), 96);
        assert_eq!(SUB_HEADER_LEN, 104);
        assert_eq!(DESCRIPTOR_LEN, 24);
    }

    #[test]
    fn parts_follow_each_other_in_whole_blocks() {
        let geometry = Geometry::new(BLOCK, 8 * BLOCK as u64 + 1).unwrap();
        assert_eq!(geometry, Geometry { sub_header_blocks: 2, bitmap_blocks: 2 });
        assert_eq!(geometry.bitmap(Bitmap::Existing), 3 * 4096);
        assert_eq!(geometry.bitmap(Bitmap::Kept), 5 * 4096);
        assert_eq!(geometry.descriptors(), 7 * 4096);
        assert_eq!(geometry.data(0), 7 * 4096);
        assert_eq!(geometry.data(171), 9 * 4096);
    }

    #[test]
    fn a_machine_too_large_for_the_format_is_refused() {
        assert!(Geometry::new(0, 1 << 45).is_some());
        assert_eq!(Geometry::new(0, u64::MAX), None);
    }

    #[test]
    fn a_name_is_cut_at_its_length_and_read_up_to_its_end() {
        assert_eq!(Name::new("x86_64").as_str(), "x86_64");
        assert_eq!(Name::new(&"é".repeat(33)).as_str(), "é".repeat(32));
        assert_eq!(Name([0xFF; 65]).as_str(), "");
    }
}
