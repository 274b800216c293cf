//! The fallback: another kernel, usually the distribution's own for crashes, to which the capture kernel can hand the machine over.
//!
//! It travels as the capture kernel's initramfs: a page that says what follows ([`Fallback`]), the kernel's image, and the kernel's
//! own initramfs, each from a multiple of 4096 bytes on. The loader's checksum covers all of it. The page has one of its own, so
//! that an initramfs of another kind is no fallback.

use core::fmt;
use core::hash::Hasher;
use core::ops::Range;

use twox_hash::XxHash64;

/// Bytes of a page.
const PAGE: usize = 4096;
const MAGIC: [u8; 8] = *b"HoldFall";
/// Changes with the layout.
const VERSION: u32 = 1;

// Where the fields are in the page; the checksum is over all that follows it.
const CHECKSUM: usize = 8;
const SUMMED: usize = 16;
const LAYOUT: usize = 16;
const COMMAND_LINE_LENGTH: usize = 20;
const KEPT: usize = 24;
const KERNEL: usize = 32;
const INITRAMFS: usize = 40;
const COMMAND_LINE: usize = 48;

/// When the capture kernel hands the machine over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandOver {
    /// When no dump area took a dump that readers open.
    #[default]
    WhenNeeded,
    /// As soon as the remapping units are taken over. No dump area is used.
    Always,
}

impl HandOver {
    /// Its name on command lines and in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WhenNeeded => "when-needed",
            Self::Always => "always",
        }
    }

    /// Reads a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::WhenNeeded, Self::Always].into_iter().find(|which| which.name() == name)
    }
}

impl fmt::Display for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the fallback consists of.
///
/// ```
/// use handoff::Fallback;
///
/// let fallback = Fallback { kept: 16 << 20, kernel: 8_000_000, initramfs: 20_000_000, command_line: "nr_cpus=1" };
/// let header = fallback.header().unwrap();
/// assert_eq!(Fallback::parse(&header, fallback.length()), Ok(fallback));
/// assert_eq!(fallback.kernel(), 4096..8_004_096);
/// assert_eq!(fallback.initramfs().start % 4096, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback<'a> {
    /// Bytes of the reservation that the capture kernel works with, and keeps from the fallback: as many as it needs on this machine.
    pub kept: u64,
    /// Bytes of the kernel's image.
    pub kernel: u64,
    /// Bytes of its initramfs.
    pub initramfs: u64,
    /// Its command line, without what the capture kernel adds.
    pub command_line: &'a str,
}

/// Why an initramfs is no fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FallbackError {
    /// It is of another kind.
    #[error("it is no fallback kernel")]
    NoFallback,
    /// Its first page is damaged, or it is shorter than that says.
    #[error("the fallback kernel is damaged")]
    Damaged,
    /// Another version of Holdover made it.
    #[error("another version of Holdover packed the fallback kernel")]
    OtherVersion,
}

/// A command line is longer than a kernel reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its command line has {length} bytes, and a kernel reads at most {}", Fallback::LONGEST_COMMAND_LINE)]
pub struct CommandLineTooLong {
    /// Its bytes.
    pub length: usize,
}

impl<'a> Fallback<'a> {
    /// Bytes of the page that comes first.
    pub const HEADER: usize = PAGE;
    /// Bytes of the longest command line (`COMMAND_LINE_SIZE` of Linux on x86 is 2048, its zero included).
    pub const LONGEST_COMMAND_LINE: usize = 2047;

    /// Reads the page that comes first of an initramfs of `length` bytes.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn parse(header: &'a [u8; PAGE], length: u64) -> Result<Self, FallbackError> {
        if header[..MAGIC.len()] != MAGIC {
            return Err(FallbackError::NoFallback);
        }
        if u64_at(header, CHECKSUM) != checksum(header) {
            return Err(FallbackError::Damaged);
        }
        if u32_at(header, LAYOUT) != VERSION {
            return Err(FallbackError::OtherVersion);
        }
        let text = header[COMMAND_LINE..].get(..u32_at(header, COMMAND_LINE_LENGTH) as usize);
        let text = text.filter(|text| text.len() <= Self::LONGEST_COMMAND_LINE);
        let command_line =
            text.and_then(|text| core::str::from_utf8(text).ok()).ok_or(FallbackError::Damaged)?;
        let [kept, kernel, initramfs] = [KEPT, KERNEL, INITRAMFS].map(|at| u64_at(header, at));
        let fallback = Self { kept, kernel, initramfs, command_line };
        // Linux may round the length of an initramfs up.
        if fallback.length() > length { Err(FallbackError::Damaged) } else { Ok(fallback) }
    }

    /// The page that comes first.
    ///
    /// # Errors
    ///
    /// If the command line is too long.
    pub fn header(&self) -> Result<[u8; PAGE], CommandLineTooLong> {
        let Self { kept, kernel, initramfs, command_line } = *self;
        let length = command_line.len();
        if length > Self::LONGEST_COMMAND_LINE {
            return Err(CommandLineTooLong { length });
        }
        let mut header = [0; PAGE];
        let mut put = |at: usize, bytes: &[u8]| header[at..][..bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(LAYOUT, &VERSION.to_le_bytes());
        put(COMMAND_LINE_LENGTH, &(length as u32).to_le_bytes());
        put(KEPT, &kept.to_le_bytes());
        put(KERNEL, &kernel.to_le_bytes());
        put(INITRAMFS, &initramfs.to_le_bytes());
        put(COMMAND_LINE, command_line.as_bytes());
        let sum = checksum(&header);
        header[CHECKSUM..SUMMED].copy_from_slice(&sum.to_le_bytes());
        Ok(header)
    }

    /// Where the kernel's image lies, in bytes from the start of the page.
    pub const fn kernel(&self) -> Range<u64> {
        PAGE as u64..(PAGE as u64).saturating_add(self.kernel)
    }

    /// Where the kernel's own initramfs lies, in bytes from the start of the page.
    pub const fn initramfs(&self) -> Range<u64> {
        let start = whole_pages(self.kernel().end);
        start..start.saturating_add(self.initramfs)
    }

    /// Bytes of all.
    pub const fn length(&self) -> u64 {
        self.initramfs().end
    }
}

/// The least multiple of a page's bytes that is not below `bytes`; beyond all addresses the last one.
const fn whole_pages(bytes: u64) -> u64 {
    bytes.saturating_add(PAGE as u64 - 1) & !(PAGE as u64 - 1)
}

fn checksum(header: &[u8; PAGE]) -> u64 {
    let mut sum = XxHash64::with_seed(0);
    sum.write(&header[SUMMED..]);
    sum.finish()
}

fn u64_at(header: &[u8; PAGE], at: usize) -> u64 {
    u64::from(u32_at(header, at)) | u64::from(u32_at(header, at + 4)) << 32
}

fn u32_at(header: &[u8; PAGE], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLE: Fallback<'_> =
        Fallback { kept: 16 << 20, kernel: 8_000_001, initramfs: 5000, command_line: "nr_cpus=1 irqpoll" };

    #[test]
    fn the_kernel_and_its_initramfs_follow_in_whole_pages() {
        assert_eq!(SAMPLE.kernel(), 4096..8_004_097);
        assert_eq!(SAMPLE.initramfs(), 8_007_680..8_012_680);
        assert_eq!(SAMPLE.length(), 8_012_680);
    }

    #[test]
    fn what_is_no_fallback_is_told_from_one_that_is_damaged() {
        let header = SAMPLE.header().unwrap();
        let length = SAMPLE.length();
        assert_eq!(Fallback::parse(&header, length - 1), Err(FallbackError::Damaged), "cut off");
        assert_eq!(Fallback::parse(&header, length + 4095), Ok(SAMPLE), "padded");
        assert_eq!(Fallback::parse(&[0; PAGE], length), Err(FallbackError::NoFallback));
        for at in [8, 16, 24, 48, PAGE - 1] {
            let mut damaged = header;
            damaged[at] ^= 1;
            assert_eq!(Fallback::parse(&damaged, length), Err(FallbackError::Damaged), "byte {at}");
        }
        let mut newer = header;
        newer[LAYOUT] = 2;
        let sum = checksum(&newer).to_le_bytes();
        newer[CHECKSUM..SUMMED].copy_from_slice(&sum);
        assert_eq!(Fallback::parse(&newer, length), Err(FallbackError::OtherVersion));
    }

    #[test]
    fn a_command_line_that_no_kernel_reads_is_refused() {
        let line = "x".repeat(Fallback::LONGEST_COMMAND_LINE + 1);
        assert_eq!(
            Fallback { command_line: &line, ..SAMPLE }.header(),
            Err(CommandLineTooLong { length: 2048 })
        );
        assert!(Fallback { command_line: &line[1..], ..SAMPLE }.header().is_ok());
    }

    proptest! {
        #[test]
        fn what_the_host_packs_the_capture_kernel_reads(
            [kept, kernel, initramfs] in any::<[u32; 3]>(), command_line in "[ -~]{0,2047}"
        ) {
            let [kept, kernel, initramfs] = [kept, kernel, initramfs].map(u64::from);
            let fallback = Fallback { kept, kernel, initramfs, command_line: &command_line };
            let header = fallback.header().unwrap();
            prop_assert_eq!(Fallback::parse(&header, fallback.length()), Ok(fallback));
        }

        /// With a right checksum, so that each field is looked at.
        #[test]
        fn no_header_makes_the_reader_panic(fields in any::<[u64; 6]>(), length: u64) {
            let mut header = SAMPLE.header().unwrap();
            for (at, field) in (LAYOUT..).step_by(8).zip(fields) {
                let field = if at == LAYOUT { field << 32 | u64::from(VERSION) } else { field };
                header[at..at + 8].copy_from_slice(&field.to_le_bytes());
            }
            let sum = checksum(&header).to_le_bytes();
            header[CHECKSUM..SUMMED].copy_from_slice(&sum);
            if let Ok(fallback) = Fallback::parse(&header, length) {
                prop_assert!(fallback.length() <= length);
            }
        }
    }
}
