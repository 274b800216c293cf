//! Reads what the boot loader hands over: `boot_params` (Linux x86 boot protocol, "zero page") and the command line.

use arrayvec::ArrayVec;
use machine::{PhysicalAddress, Range};

/// Size of `boot_params` in bytes.
pub(super) const SIZE: usize = 4096;
/// Size of the description of the display, which comes first.
const SCREEN_INFO: usize = 64;
/// Longest command line that is read, in bytes; xtask's bzImage announces the same.
const COMMAND_LINE: usize = 2048;

// Offsets in `boot_params` (Documentation/arch/x86/zero-page.rst).
pub(super) const ACPI_RSDP_ADDR: usize = 0x070;
pub(super) const EXT_RAMDISK_IMAGE: usize = 0x0c0;
pub(super) const EXT_RAMDISK_SIZE: usize = 0x0c4;
pub(super) const EXT_CMD_LINE_PTR: usize = 0x0c8;
const EFI_LOADER_SIGNATURE: usize = 0x1c0;
const EFI_SYSTAB: usize = 0x1c4;
const EFI_MEMMAP: usize = 0x1d0;
const EFI_MEMMAP_SIZE: usize = 0x1d4;
const EFI_SYSTAB_HI: usize = 0x1d8;
const EFI_MEMMAP_HI: usize = 0x1dc;
pub(super) const E820_ENTRIES: usize = 0x1e8;
pub(super) const RAMDISK_IMAGE: usize = 0x218;
pub(super) const RAMDISK_SIZE: usize = 0x21c;
pub(super) const CMD_LINE_PTR: usize = 0x228;
pub(super) const SETUP_DATA: usize = 0x250;
pub(super) const E820_TABLE: usize = 0x2d0;
pub(super) const E820_ENTRY_SIZE: usize = 20;
pub(super) const E820_MAX: usize = 128;
// E820 types: usable memory, ACPI's tables, and memory that ACPI keeps while the machine sleeps. Ranges of other types hold
// no memory, or memory of the firmware.
pub(super) const E820_RAM: u32 = 1;
const E820_ACPI: u32 = 3;
const E820_NVS: u32 = 4;

/// Most ranges of memory that the loader filled: itself, the command line, EFI's memory map, and a list of set-up data.
const MOST_LOADED: usize = 3 + MOST_SETUP_DATA;
/// Loaders make some five; a list may be a ring.
const MOST_SETUP_DATA: usize = 32;

/// The ranges of memory that the loader filled for a kernel to read.
pub type Loaded = ArrayVec<Range<PhysicalAddress>, MOST_LOADED>;

/// A copy of what the boot loader handed over, taken before the memory it lies in is used for something else.
pub struct BootParams {
    page: [u8; SIZE],
    command_line: ArrayVec<u8, COMMAND_LINE>,
    efi_tables: Option<u64>,
    loaded: Loaded,
}

impl BootParams {
    /// Copies `boot_params`, the command line it points to, and what is needed of the list of set-up data, through
    /// `read(address, into)`.
    pub fn copy(address: u64, read: impl Fn(u64, &mut [u8]) -> bool) -> Self {
        let (page, command_line, loaded) = ([0; SIZE], ArrayVec::new(), ArrayVec::new());
        let mut params = Self { page, command_line, efi_tables: None, loaded };
        if !read(address, &mut params.page) {
            params.page = [0; SIZE];
        }
        let start = params.command_line_address();
        let mut byte = [0];
        while !params.command_line.is_full() && start != 0 {
            let address = start.saturating_add(params.command_line.len() as u64);
            if !read(address, &mut byte) || byte == [0] {
                break;
            }
            params.command_line.push(byte[0]);
        }
        let line = params.command_line.len() as u64 + 1;
        params.note_loaded(address, SIZE as u64);
        params.note_loaded(start, line);
        params.note_loaded(params.wide(EFI_MEMMAP, EFI_MEMMAP_HI), params.u32(EFI_MEMMAP_SIZE).into());
        params.walk_setup_data(&read);
        params
    }

    /// The command line; empty if it is not text.
    pub fn command_line(&self) -> &str {
        core::str::from_utf8(&self.command_line).unwrap_or_default()
    }

    /// What is known of the display (`struct screen_info`).
    pub fn screen_info(&self) -> &[u8; SCREEN_INFO] {
        self.page.first_chunk().unwrap_or(&[0; SCREEN_INFO])
    }

    /// Address of ACPI's root pointer; `None` if the boot loader did not say.
    pub fn rsdp(&self) -> Option<u64> {
        Some(self.u64(ACPI_RSDP_ADDR)).filter(|&address| address != 0)
    }

    /// Address of the system table of a 64-bit EFI, if the loader hands EFI over.
    pub fn efi_system_table(&self) -> Option<u64> {
        const EL64: u32 = u32::from_le_bytes(*b"EL64");
        let address = self.wide(EFI_SYSTAB, EFI_SYSTAB_HI);
        Some(address).filter(|&address| address != 0 && self.u32(EFI_LOADER_SIGNATURE) == EL64)
    }

    /// Physical address of EFI's configuration tables, if the loader says it: the system table has a virtual one.
    pub fn efi_tables(&self) -> Option<u64> {
        self.efi_tables
    }

    /// The initramfs, which the loader put somewhere; `None` if there is none.
    pub fn initramfs(&self) -> Option<Range<PhysicalAddress>> {
        let start = self.wide(RAMDISK_IMAGE, EXT_RAMDISK_IMAGE);
        let range = Range::sized(start.into(), self.wide(RAMDISK_SIZE, EXT_RAMDISK_SIZE))?;
        Some(range).filter(|range| start != 0 && !range.is_empty())
    }

    /// All that the loader filled for a kernel to read, but for its initramfs: another kernel will read it again.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// `boot_params` as the loader handed them over.
    pub fn page(&self) -> &[u8; SIZE] {
        &self.page
    }

    fn note_loaded(&mut self, start: u64, len: u64) {
        let range = Range::sized(start.into(), len).filter(|range| start != 0 && !range.is_empty());
        // If a list is longer than any loader makes, another kernel may find its end overwritten.
        let _ = range.map(|range| self.loaded.try_push(range));
    }

    /// Walks through the list of set-up data (boot.rst, `setup_data`), notes where it is, and looks for SETUP_EFI (`struct
    /// efi_setup_data`).
    fn walk_setup_data(&mut self, read: &impl Fn(u64, &mut [u8]) -> bool) {
        const SETUP_EFI: u64 = 4;
        const HEADER: u64 = 16;
        const TABLES: u64 = 16;
        let mut node = self.u64(SETUP_DATA);
        for _ in 0..MOST_SETUP_DATA {
            let Some(kind_and_len) = node.checked_add(8).and_then(|at| self.loaded_u64(at, read)) else {
                return;
            };
            let len = kind_and_len >> 32;
            self.note_loaded(node, HEADER + len);
            let is_first_efi = kind_and_len & 0xFFFF_FFFF == SETUP_EFI && self.efi_tables.is_none();
            if is_first_efi && len >= TABLES + 8 {
                let tables = node.checked_add(HEADER + TABLES).and_then(|at| self.loaded_u64(at, read));
                self.efi_tables = tables.filter(|&tables| tables != 0);
            }
            let Some(next) = self.loaded_u64(node, read) else { return };
            node = next;
        }
    }

    /// A number whose upper half is elsewhere.
    fn wide(&self, low: usize, high: usize) -> u64 {
        u64::from(self.u32(low)) | u64::from(self.u32(high)) << 32
    }

    /// Reads a word of what the loader put into our memory. Elsewhere nothing may be mapped yet, and a fault would end everything.
    fn loaded_u64(&self, address: u64, read: &impl Fn(u64, &mut [u8]) -> bool) -> Option<u64> {
        let mut bytes = [0; 8];
        let word = Range::sized(address.into(), bytes.len() as u64)?;
        let is_ours = address != 0 && self.usable().any(|usable| usable.covers(word));
        (is_ours && read(address, &mut bytes)).then(|| u64::from_le_bytes(bytes))
    }

    /// The memory that this kernel was given to use.
    pub fn usable(&self) -> impl Iterator<Item = Range<PhysicalAddress>> {
        self.map().filter(|(_, kind)| *kind == E820_RAM).map(|(range, _)| range)
    }

    /// The memory that holds ACPI's tables and ACPI's own data.
    pub fn acpi(&self) -> impl Iterator<Item = Range<PhysicalAddress>> {
        self.map().filter(|(_, kind)| [E820_ACPI, E820_NVS].contains(kind)).map(|(range, _)| range)
    }

    /// The ranges that firmware reserves: memory or registers.
    pub fn kept_by_firmware(&self) -> impl Iterator<Item = Range<PhysicalAddress>> {
        let others = |kind: &u32| ![E820_RAM, E820_ACPI, E820_NVS].contains(kind);
        self.map().filter(move |(_, kind)| others(kind)).map(|(range, _)| range)
    }

    /// The memory map, with the type of each range.
    pub(super) fn map(&self) -> impl Iterator<Item = (Range<PhysicalAddress>, u32)> {
        let count = usize::from(self.page[E820_ENTRIES]).min(E820_MAX);
        (0..count).map(|index| E820_TABLE + index * E820_ENTRY_SIZE).filter_map(|entry| {
            let range = Range::sized(self.u64(entry).into(), self.u64(entry + 8))?;
            Some((range, self.u32(entry + 16)))
        })
    }

    fn command_line_address(&self) -> u64 {
        self.wide(CMD_LINE_PTR, EXT_CMD_LINE_PTR)
    }

    fn u32(&self, offset: usize) -> u32 {
        self.u64(offset) as u32
    }

    fn u64(&self, offset: usize) -> u64 {
        self.page[offset..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory with `boot_params` at 0 and what follows after it.
    fn copied(page: &mut [u8; SIZE], text: &[u8]) -> BootParams {
        page[CMD_LINE_PTR..][..4].copy_from_slice(&(SIZE as u32).to_le_bytes());
        let memory = [&page[..], text, &[0]].concat();
        BootParams::copy(0, |address, into| {
            let bytes = memory.get(address as usize..).and_then(|rest| rest.get(..into.len()));
            bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
        })
    }

    #[test]
    fn the_command_line_ends_at_its_zero_or_at_its_limit() {
        assert_eq!(copied(&mut [0; SIZE], b"elfcorehdr=1\0rest").command_line(), "elfcorehdr=1");
        assert_eq!(copied(&mut [0; SIZE], &[b'x'; 5000]).command_line().len(), COMMAND_LINE);
        assert_eq!(copied(&mut [0; SIZE], &[0xFF, 0xFE]).command_line(), "");
    }

    #[test]
    fn usable_memory_is_what_the_map_calls_ram() {
        let mut page = [0; SIZE];
        page[0x1e8] = 3;
        page[0x2d0..0x2d8].copy_from_slice(&0x1000u64.to_le_bytes());
        page[0x2d8..0x2e0].copy_from_slice(&0x2000u64.to_le_bytes());
        page[0x2e0] = 1;
        page[0x2e4 + 8] = 9;
        page[0x2e4 + 16] = 2;
        page[0x2f8 + 8] = 7;
        page[0x2f8 + 16] = 4;
        let params = copied(&mut page, b"");
        assert!(params.usable().eq([Range::from(0x1000..0x3000)]));
        assert!(params.kept_by_firmware().eq([Range::from(0..9)]));
        assert!(params.acpi().eq([Range::from(0..7)]));
    }

    #[test]
    fn an_overlong_or_wrapping_memory_map_is_bounded() {
        let mut page = [0xFF; SIZE];
        assert_eq!(copied(&mut page, b"").usable().count(), 0);
    }
}
