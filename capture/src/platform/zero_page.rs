//! Composes `boot_params` (the "zero page") and the command line for another kernel, from those that the loader gave this one.
//!
//! The other kernel runs in the same reservation, after the same crash: what is said of the machine stays as it was said (display,
//! EFI, ACPI, set-up data). Its own set-up header, command line and initramfs are put in, and memory that this kernel keeps is taken
//! out of the memory map (Linux, Documentation/arch/x86/boot.rst and zero-page.rst).

use core::fmt::{self, Write};

use arrayvec::{ArrayString, ArrayVec};
use handoff::{BzImage, Fallback};
use machine::{PhysicalAddress, Range};

use super::boot_params::{
    ACPI_RSDP_ADDR, BootParams, CMD_LINE_PTR, E820_ENTRIES, E820_ENTRY_SIZE, E820_MAX, E820_RAM, E820_TABLE,
    EXT_CMD_LINE_PTR, EXT_RAMDISK_IMAGE, EXT_RAMDISK_SIZE, RAMDISK_IMAGE, RAMDISK_SIZE, SETUP_DATA, SIZE,
};
use super::free_parts::for_each_free_part;

/// Not zero if a loader did not clear `boot_params`; Linux then forgets most of it.
const SENTINEL: usize = 0x1EF;
/// Fields of the set-up header that a loader fills.
const TYPE_OF_LOADER: usize = 0x210;
const UNDEFINED_LOADER: u8 = 0xFF;
/// Memory that must be left alone, in the memory map.
const E820_RESERVED: u32 = 2;

/// A command line.
pub type CommandLine = ArrayString<{ Fallback::LONGEST_COMMAND_LINE }>;

/// How the remapping units were found, and so what Linux must be told to take them over in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remapped {
    /// None of them translates, or none was taken over: nothing is added.
    No,
    /// VT-d's, in legacy mode.
    Legacy,
    /// VT-d's, in scalable mode.
    Scalable,
    /// AMD-Vi's.
    AmdVi,
}

/// What another kernel gets.
#[derive(Clone, Copy, Debug)]
pub struct Next<'a> {
    /// The first bytes of its image.
    pub first: &'a [u8; BzImage::HEADER],
    /// What they say.
    pub image: BzImage,
    /// Where its command line is.
    pub command_line: u64,
    /// Where its initramfs is.
    pub initramfs: Range<PhysicalAddress>,
    /// ACPI's root pointer, where the loader did not say.
    pub root_pointer: Option<u64>,
    /// The memory that this kernel keeps.
    pub kept: &'a [Range<PhysicalAddress>],
}

/// The memory map has more ranges than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory map has too many ranges")]
pub struct TooManyRanges;

/// The entries of a memory map.
type Map = ArrayVec<(Range<PhysicalAddress>, u32), E820_MAX>;

/// Composes `boot_params` in `page` from those that this kernel got.
///
/// # Errors
///
/// If the memory map, with what is taken out, has too many ranges.
pub fn compose(given: &BootParams, next: &Next<'_>, page: &mut [u8; SIZE]) -> Result<(), TooManyRanges> {
    page.copy_from_slice(given.page());
    // The list of set-up data goes on; all else of the header is this kernel's own.
    let setup_data = page[SETUP_DATA..].first_chunk::<8>().copied().unwrap_or_default();
    page[BzImage::FIELDS].fill(0);
    let header = next.image.header();
    page[header.clone()].copy_from_slice(&next.first[header]);
    let mut put = |at: usize, bytes: &[u8]| page[at..][..bytes.len()].copy_from_slice(bytes);
    put(SENTINEL, &[0]);
    put(TYPE_OF_LOADER, &[UNDEFINED_LOADER]);
    put(SETUP_DATA, &setup_data);
    let mut put_wide = |low: usize, high: usize, number: u64| {
        put(low, &(number as u32).to_le_bytes());
        put(high, &((number >> 32) as u32).to_le_bytes());
    };
    put_wide(CMD_LINE_PTR, EXT_CMD_LINE_PTR, next.command_line);
    put_wide(RAMDISK_IMAGE, EXT_RAMDISK_IMAGE, next.initramfs.start.get());
    put_wide(RAMDISK_SIZE, EXT_RAMDISK_SIZE, next.initramfs.len());
    if let (None, Some(root)) = (given.rsdp(), next.root_pointer) {
        put(ACPI_RSDP_ADDR, &root.to_le_bytes());
    }
    put_map(page, &map_without(given, next.kept)?);
    Ok(())
}

fn put_map(page: &mut [u8; SIZE], map: &Map) {
    page[E820_ENTRIES] = map.len() as u8;
    for (at, (range, kind)) in (E820_TABLE..).step_by(E820_ENTRY_SIZE).zip(map) {
        page[at..at + 8].copy_from_slice(&range.start.get().to_le_bytes());
        page[at + 8..at + 16].copy_from_slice(&range.len().to_le_bytes());
        page[at + 16..at + 20].copy_from_slice(&kind.to_le_bytes());
    }
}

/// The memory map in which what is kept, in whole pages, is reserved.
fn map_without(given: &BootParams, kept: &[Range<PhysicalAddress>]) -> Result<Map, TooManyRanges> {
    let (mut map, mut is_full) = (Map::new(), false);
    for (range, kind) in given.map() {
        let kept = if kind == E820_RAM { kept } else { &[] };
        for_each_free_part(range, kept, &mut |part| is_full |= map.try_push((part, kind)).is_err());
    }
    for &range in kept {
        is_full |= map.try_push((range, E820_RESERVED)).is_err();
    }
    if is_full { Err(TooManyRanges) } else { Ok(map) }
}

/// Composes the command line: the fallback's own, `elfcorehdr=`, and what makes Linux keep the translations that it finds.
///
/// Linux copies the tables of a unit that translates only if it uses the unit in the mode in which it finds it; otherwise it turns
/// translation off. Where pass-through is its default, or where it is told to leave IOMMUs alone, it keeps none; no later word takes
/// back `amd_iommu=off`.
///
/// # Errors
///
/// If it is too long.
pub fn command_line(
    own: &str,
    elfcorehdr: u64,
    remapped: Remapped,
    longest: u32,
) -> Result<CommandLine, fmt::Error> {
    let mut line = CommandLine::new();
    let is_replaced = |word: &&str| {
        let iommu = remapped != Remapped::No && word.starts_with("iommu=");
        let off = remapped == Remapped::AmdVi && turns_amd_vi_off(word);
        iommu || off || word.starts_with("elfcorehdr=")
    };
    for word in own.split_ascii_whitespace().filter(|word| !is_replaced(word)) {
        write!(line, "{word} ")?;
    }
    match remapped {
        Remapped::No => {}
        Remapped::Legacy => line.write_str("iommu=nopt intel_iommu=on,sm_off ")?,
        Remapped::Scalable => line.write_str("iommu=nopt intel_iommu=on,sm_on ")?,
        Remapped::AmdVi => line.write_str("iommu=nopt ")?,
    }
    write!(line, "elfcorehdr={elfcorehdr:#x}")?;
    if line.len() as u64 <= u64::from(longest) { Ok(line) } else { Err(fmt::Error) }
}

/// Whether a word of the command line has Linux leave AMD's units alone. Linux 6.1 finds `off` wherever it is among the options.
fn turns_amd_vi_off(word: &str) -> bool {
    word.strip_prefix("amd_iommu=").is_some_and(|options| options.contains("off"))
}

#[cfg(test)]
mod tests {
    use fixtures::bz_image;
    use proptest::prelude::*;

    use super::*;

    fn given(page: &[u8; SIZE]) -> BootParams {
        BootParams::copy(0x1000, |address, into| {
            let at = address.checked_sub(0x1000).and_then(|at| page.get(at as usize..)?.get(..into.len()));
            at.map(|bytes| into.copy_from_slice(bytes)).is_some()
        })
    }

    fn map_of(page: &[u8; SIZE]) -> Vec<(Range<PhysicalAddress>, u32)> {
        given(page).map().collect()
    }

    fn page_with(map: &[(core::ops::Range<u64>, u32)]) -> [u8; SIZE] {
        let mut page = [0; SIZE];
        let map: Map = map.iter().map(|(range, kind)| (Range::from(range.clone()), *kind)).collect();
        put_map(&mut page, &map);
        page
    }

    fn next<'a>(first: &'a [u8; BzImage::HEADER], kept: &'a [Range<PhysicalAddress>]) -> Next<'a> {
        let image = BzImage::parse(first, 1 << 20).unwrap();
        let initramfs = Range::from(0x1_2345_6000..0x1_2345_7800);
        Next { first, image, command_line: 0x2_0000_1000, initramfs, root_pointer: Some(0xF_0000), kept }
    }

    fn composed(given_page: &[u8; SIZE], next: &Next<'_>) -> Result<[u8; SIZE], TooManyRanges> {
        let mut page = [0xAA; SIZE];
        compose(&given(given_page), next, &mut page).map(|()| page)
    }

    #[test]
    fn what_the_loader_said_of_the_machine_stays_and_the_header_is_the_kernels_own() {
        let mut page = page_with(&[(0x1000..0xA_0000, 1)]);
        page[6] = 0x23;
        page[0x1C0..0x1C4].copy_from_slice(b"EL64");
        page[0x202..0x206].copy_from_slice(b"mine");
        page[0x228] = 7;
        page[0x250] = 9;
        page[0x1EF] = 0xFF;
        let first = bz_image();
        let page_now = composed(&page, &next(&first, &[])).unwrap();
        assert_eq!((page_now[6], &page_now[0x1C0..0x1C4]), (0x23, &b"EL64"[..]));
        assert_eq!((&page_now[0x202..0x206], page_now[0x25B]), (&b"HdrS"[..], 1));
        assert_eq!((page_now[0x210], page_now[0x250], page_now[0x1EF]), (0xFF, 9, 0));
        assert_eq!(
            (&page_now[0x228..0x22C], &page_now[0xC8..0xCC]),
            (&[0, 0x10, 0, 0][..], &[2, 0, 0, 0][..])
        );
        assert_eq!(
            (&page_now[0x218..0x21C], &page_now[0xC0..0xC4]),
            (&[0, 0x60, 0x45, 0x23][..], &[1, 0, 0, 0][..])
        );
        assert_eq!((&page_now[0x21C..0x220], &page_now[0xC4..0xC8]), (&[0, 0x18, 0, 0][..], &[0; 4][..]));
        assert_eq!(page_now[0x70..0x78], 0xF_0000_u64.to_le_bytes(), "the loader did not say");
        page[0x70] = 1;
        assert_eq!(composed(&page, &next(&first, &[])).unwrap()[0x70], 1);
    }

    #[test]
    fn memory_that_is_kept_is_reserved_and_nothing_else_changes() {
        let page =
            page_with(&[(0x1000..0xA_0000, 1), (0x4000_0000..0x5000_0000, 1), (0x6000_0000..0x7000_0000, 3)]);
        let first = bz_image();
        let kept = [Range::from(0x4000_0000..0x4100_0000), Range::from(0x4800_0000..0x4801_0000)];
        let page_now = composed(&page, &next(&first, &kept)).unwrap();
        let expected = [
            (0x1000..0xA_0000, 1),
            (0x4100_0000..0x4800_0000, 1),
            (0x4801_0000..0x5000_0000, 1),
            (0x6000_0000..0x7000_0000, 3),
            (0x4000_0000..0x4100_0000, 2),
            (0x4800_0000..0x4801_0000, 2),
        ];
        assert_eq!(map_of(&page_now), expected.map(|(range, kind)| (Range::from(range), kind)));
    }

    #[test]
    fn a_map_without_room_is_an_error() {
        let full: Vec<_> = (1..=E820_MAX as u64).map(|at| (at << 20..(at << 20) + 4096, 1)).collect();
        let kept = [Range::from(0..1)];
        assert_eq!(composed(&page_with(&full), &next(&bz_image(), &kept)), Err(TooManyRanges));
        assert!(composed(&page_with(&full), &next(&bz_image(), &[])).is_ok());
    }

    #[test]
    fn linux_is_told_to_keep_the_translations_in_the_mode_in_which_they_are() {
        let line = |own, remapped| command_line(own, 0x2E00_0000, remapped, 2047).unwrap().to_string();
        assert_eq!(
            line("quiet iommu=pt elfcorehdr=1 intel_iommu=off", Remapped::Scalable),
            "quiet intel_iommu=off iommu=nopt intel_iommu=on,sm_on elfcorehdr=0x2e000000"
        );
        assert_eq!(line("a", Remapped::Legacy), "a iommu=nopt intel_iommu=on,sm_off elfcorehdr=0x2e000000");
        assert_eq!(line("iommu=off", Remapped::No), "iommu=off elfcorehdr=0x2e000000");
        assert_eq!(
            line("iommu=pt amd_iommu=pgtbl_v1 amd_iommu=fullflush,off quiet", Remapped::AmdVi),
            "amd_iommu=pgtbl_v1 quiet iommu=nopt elfcorehdr=0x2e000000"
        );
        assert_eq!(line("amd_iommu=off", Remapped::Legacy).split(' ').next(), Some("amd_iommu=off"));
        assert!(command_line("a b", 1, Remapped::No, 8).is_err());
        assert!(command_line(&"x".repeat(2047), 1, Remapped::No, 4096).is_err());
    }

    proptest! {
        /// What is usable afterwards was usable before, and is not kept.
        #[test]
        fn no_memory_that_is_kept_is_usable(
            pieces in proptest::collection::vec((0..1_u64 << 20, 0..1_u64 << 18), 0..12),
            kept in proptest::collection::vec((0..1_u64 << 20, 1..1_u64 << 18), 0..4),
        ) {
            let range = |(start, len): &(u64, u64)| *start..start + len;
            let map: Vec<_> = pieces.iter().map(|piece| (range(piece), 1)).collect();
            let kept: Vec<Range<PhysicalAddress>> = kept.iter().map(|kept| range(kept).into()).collect();
            let before = given(&page_with(&map));
            if let Ok(map) = map_without(&before, &kept) {
                let usable = |(range, kind): &(Range<PhysicalAddress>, u32)| (*kind == E820_RAM).then_some(*range);
                for part in map.iter().filter_map(usable) {
                    prop_assert!(before.usable().any(|whole| whole.covers(part)));
                    prop_assert!(!kept.iter().any(|kept| kept.overlaps(part)));
                }
            }
        }
    }
}
