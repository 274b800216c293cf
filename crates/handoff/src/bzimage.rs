//! The set-up header of a Linux kernel's image: what a boot loader must know to enter it (Linux, Documentation/arch/x86/boot.rst).
//!
//! The host reads it to refuse a kernel that could not be entered after a crash, the capture kernel to enter it.

use core::ops::Range;

use crate::setup_header::{
    BOOT_FLAG, CAN_BE_LOADED_ABOVE_4G, CMDLINE_SIZE, ENTRY_64, FIVE_LEVEL, HEADER_LENGTH, INIT_SIZE,
    KERNEL_64, KERNEL_ALIGNMENT, KERNEL_VERSION, RELOCATABLE_KERNEL, SECTOR, SETUP_SECTS, SIGNATURE, VERSION,
    XLOADFLAGS,
};

/// Where the header must have ended: the fields of `boot_params` behind it begin here (`struct boot_params`).
const LIMIT: usize = 0x290;
/// The first protocol with `xloadflags`.
const PROTOCOL: u16 = 0x020C;
/// Linux aligns its kernels to 2 MiB or 16 MiB.
const LARGEST_ALIGNMENT: u64 = 1 << 30;
const PAGE: u64 = 4096;
/// Longest version of a kernel that is read (`__NEW_UTS_LEN` is 64; builder and date follow).
const LONGEST_VERSION: usize = 256;

/// What a kernel's set-up header says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BzImage {
    /// Bytes before the program.
    setup: u64,
    /// Bytes of the program in the file.
    program: u64,
    /// Bytes that the program needs in memory, from its start.
    memory: u64,
    alignment: u64,
    command_line: u32,
    /// Whether it can be entered while paging has five levels.
    five_level: bool,
    /// First byte behind the header.
    header_end: usize,
}

/// Why a kernel cannot be entered after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBootable {
    /// It is no bzImage, or damaged.
    #[error("it is no bzImage")]
    NotABzImage,
    /// It is older than the boot protocol 2.12, has no 64-bit entry, or runs at one address only.
    #[error(
        "it cannot be entered in 64-bit mode at any address: it must be a relocatable x86-64 kernel, Linux 3.8 or newer"
    )]
    Old,
}

impl BzImage {
    /// Bytes from the start of the image that hold the header.
    pub const HEADER: usize = LIMIT;
    /// Where the set-up header may be, in the image and in `boot_params`.
    pub const FIELDS: Range<usize> = SETUP_SECTS..LIMIT;

    /// Reads the header of an image of `length` bytes, of which `first` are the first.
    ///
    /// # Errors
    ///
    /// Why it cannot be entered.
    pub fn parse(first: &[u8; Self::HEADER], length: u64) -> Result<Self, NotBootable> {
        let u16_at = |at: usize| u16::from_le_bytes([first[at], first[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        if u16_at(BOOT_FLAG) != 0xAA55 || &first[SIGNATURE..][..4] != b"HdrS" {
            return Err(NotBootable::NotABzImage);
        }
        let flags = u16_at(XLOADFLAGS);
        let wanted = KERNEL_64 | CAN_BE_LOADED_ABOVE_4G;
        if u16_at(VERSION) < PROTOCOL || first[RELOCATABLE_KERNEL] == 0 || flags & wanted != wanted {
            return Err(NotBootable::Old);
        }
        // 0 means 4 (boot.rst, "setup_sects").
        let sectors = if first[SETUP_SECTS] == 0 { 4 } else { u64::from(first[SETUP_SECTS]) };
        let setup = (sectors + 1) * SECTOR as u64;
        let image = Self {
            setup,
            program: length.saturating_sub(setup),
            memory: u64::from(u32_at(INIT_SIZE)).next_multiple_of(PAGE),
            alignment: u64::from(u32_at(KERNEL_ALIGNMENT)),
            command_line: u32_at(CMDLINE_SIZE),
            five_level: flags & FIVE_LEVEL != 0,
            header_end: SIGNATURE + usize::from(first[HEADER_LENGTH]),
        };
        if image.is_sound() { Ok(image) } else { Err(NotBootable::NotABzImage) }
    }

    fn is_sound(&self) -> bool {
        let is_entered_inside = self.program > ENTRY_64 && self.program <= self.memory;
        let alignment =
            self.alignment.is_power_of_two() && (PAGE..=LARGEST_ALIGNMENT).contains(&self.alignment);
        is_entered_inside && alignment && (INIT_SIZE + 4..=LIMIT).contains(&self.header_end)
    }

    /// Where the program lies in the file, in bytes.
    pub const fn program(&self) -> Range<u64> {
        self.setup..self.setup + self.program
    }

    /// Bytes of memory that the program needs where it is put, in whole pages of 4096 bytes.
    pub const fn memory(&self) -> u64 {
        self.memory
    }

    /// What the address at which the program is put must be a multiple of, a power of two.
    pub const fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The address of the 64-bit entry of a program that was put at `start`.
    pub const fn entry(&self, start: u64) -> u64 {
        start.saturating_add(ENTRY_64)
    }

    /// Bytes of the longest command line, without its zero.
    pub const fn command_line(&self) -> u32 {
        self.command_line
    }

    /// Whether it can be entered while paging has five levels.
    pub const fn takes_five_levels(&self) -> bool {
        self.five_level
    }

    /// The kernel's version as its image has it, such as `6.1.0-56-amd64 (debian-kernel@lists.debian.org) #1 SMP …`: printable ASCII.
    pub fn version(image: &[u8]) -> Option<&str> {
        let at = image.get(KERNEL_VERSION..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))?;
        let text = image.get(usize::from(at).checked_add(SECTOR)?..)?;
        let text = text.get(..LONGEST_VERSION.min(text.len()))?.split(|byte| *byte == 0).next()?;
        let is_text = at != 0 && !text.is_empty() && text.iter().all(|byte| (b' '..=b'~').contains(byte));
        core::str::from_utf8(text).ok().filter(|_| is_text)
    }

    /// Which bytes of the image the loader copies to the same place of `boot_params`.
    pub const fn header(&self) -> Range<usize> {
        SETUP_SECTS..self.header_end
    }
}

#[cfg(test)]
mod tests {
    use fixtures::bz_image;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fields_are_where_the_protocol_says() {
        let image = BzImage::parse(&bz_image(), 8 << 20).unwrap();
        assert_eq!(image.program(), 0x4000..8 << 20);
        assert_eq!((image.memory(), image.alignment()), (0x0345_7000, 2 << 20));
        assert_eq!((image.entry(1 << 20), image.command_line()), (0x10_0200, 2047));
        assert_eq!((image.takes_five_levels(), image.header()), (true, 0x1F1..0x26C));
    }

    #[test]
    fn a_kernel_that_could_not_be_entered_is_refused() {
        let with = |at: usize, byte: u8| {
            let mut first = bz_image();
            first[at] = byte;
            BzImage::parse(&first, 8 << 20)
        };
        assert_eq!(with(0x202, b'h'), Err(NotBootable::NotABzImage));
        assert_eq!(with(0x1FE, 0), Err(NotBootable::NotABzImage));
        assert_eq!(with(0x206, 0x0B), Err(NotBootable::Old));
        assert_eq!(with(0x234, 0), Err(NotBootable::Old), "runs at one address only");
        assert_eq!(with(0x236, 0x7E), Err(NotBootable::Old), "32 bits");
        assert_eq!(with(0x236, 0x7D), Err(NotBootable::Old), "below 4 GiB only");
        assert_eq!(with(0x230, 1), Err(NotBootable::NotABzImage), "alignment");
        assert_eq!(
            with(0x201, 0xFF),
            Err(NotBootable::NotABzImage),
            "a header that goes on into other fields"
        );
        assert_eq!(with(0x263, 0), Err(NotBootable::NotABzImage), "less memory than the program has bytes");
        assert!(with(0x236, 0x5F).is_ok_and(|image| !image.takes_five_levels()));
    }

    #[test]
    fn the_version_is_the_text_to_which_the_header_points() {
        let mut image = [&bz_image()[..], &[0; 1024]].concat();
        assert_eq!(BzImage::version(&image), None, "the header has none");
        image[0x20E..0x210].copy_from_slice(&[0x40, 2]);
        image[0x440..0x44B].copy_from_slice(b"6.1.0 (x)\0y");
        assert_eq!(BzImage::version(&image), Some("6.1.0 (x)"));
        image[0x442] = 0x1B;
        assert_eq!(BzImage::version(&image), None, "a terminal's command");
        image[0x20E..0x210].copy_from_slice(&[0xFF, 0xFF]);
        assert_eq!(BzImage::version(&image), None, "beyond the end");
        assert_eq!(BzImage::version(&image[..0x20F]), None);
    }

    proptest! {
        #[test]
        fn any_image_is_read_or_refused(mut first in proptest::array::uniform32(any::<u8>()), at in 0..20_usize, length: u64) {
            let mut image = bz_image();
            first[0] |= 1;
            image[BzImage::HEADER - 160 + at * 6..][..32].copy_from_slice(&first);
            if let Ok(image) = BzImage::parse(&image, length) {
                prop_assert!(image.program().end <= length && image.program().end - image.program().start <= image.memory());
                prop_assert!(image.header().end <= BzImage::HEADER);
            }
        }
    }
}
