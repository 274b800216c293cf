//! Finds values in an IVRS table that cannot be right. Blocks are counted from 1, as they are shown.

use std::collections::BTreeMap;

use amdvi::ivrs::{Block, DeviceEntry, Ivhd, Ivmd, IvmdScope, Ivrs};
use machine::{PAGE_SIZE, SourceId};

use super::type_name;

/// Widths of physical addresses that machines have.
const ADDRESS_BITS: std::ops::RangeInclusive<u8> = 32..=57;
/// Bytes that each unit's registers take at least, and to which they are aligned (3.2.2.2).
const REGISTERS: u64 = 16 << 10;
/// Types of blocks that are known: one that could not be decoded is too short.
const KNOWN_TYPES: [u8; 6] = [0x10, 0x11, 0x40, 0x20, 0x21, 0x22];

/// What is wrong with the values in a table.
pub(super) fn on(ivrs: &Ivrs<'_>) -> Vec<String> {
    let mut remarks = Remarks { address_bits: ivrs.info().physical_bits(), ..Remarks::default() };
    if !ADDRESS_BITS.contains(&remarks.address_bits) {
        remarks.found.push(format!("physical addresses of {} bits", remarks.address_bits));
    }
    for (index, block) in ivrs.blocks().flatten().enumerate() {
        remarks.look_at(index + 1, &block);
    }
    if remarks.units.is_empty() {
        remarks.found.push("no block describes a unit".to_owned());
    }
    remarks.found
}

#[derive(Default)]
struct Remarks {
    address_bits: u8,
    found: Vec<String>,
    /// Where units are: segment and source-id of each, by the address of its registers.
    units: BTreeMap<u64, (u16, SourceId)>,
}

impl Remarks {
    fn look_at(&mut self, which: usize, block: &Block<'_>) {
        match block {
            Block::Ivhd(ivhd) => self.look_at_unit(which, ivhd),
            Block::Ivmd(ivmd) => self.look_at_memory(which, ivmd),
            Block::Unknown { kind, .. } if KNOWN_TYPES.contains(kind) => {
                self.found.push(format!("block {which}: too short for its type {kind:02x}h"));
            }
            Block::Unknown { .. } => {}
        }
    }

    fn look_at_unit(&mut self, which: usize, ivhd: &Ivhd<'_>) {
        let (base, unit) = (ivhd.base, (ivhd.segment, ivhd.source));
        let known = *self.units.entry(base).or_insert(unit);
        let wrong = [
            (base == 0, "a unit at address 0"),
            (!base.is_multiple_of(REGISTERS), "a unit whose registers are not aligned to 16 KiB"),
            (self.is_beyond(base), "a unit beyond the machine's physical addresses"),
            (known != unit, "a second unit at one address"),
            (!ivhd.entries.is_sound(), "a device entry of an impossible length"),
            (ivhd.entries.iter().next().is_none(), "a unit without devices"),
            (
                !has_whole_ranges(ivhd),
                "a range of devices without start or end, or that ends before it begins",
            ),
        ];
        self.add(which, &format!(" (type {})", type_name(ivhd.kind)), &wrong);
    }

    fn look_at_memory(&mut self, which: usize, ivmd: &Ivmd) {
        let is_backwards = matches!(ivmd.scope, IvmdScope::Between(first, last) if last < first);
        let last = ivmd.start.checked_add(ivmd.length.saturating_sub(1));
        let wrong = [
            (ivmd.length == 0, "memory of no bytes"),
            // It may end within one: the page belongs to it, and there is firmware that writes a length of one byte.
            (!ivmd.start.is_multiple_of(PAGE_SIZE), "memory that begins within a page"),
            (last.is_none_or(|last| self.is_beyond(last)), "memory beyond the machine's physical addresses"),
            (is_backwards, "a range of devices that ends before it begins"),
        ];
        self.add(which, "", &wrong);
    }

    fn add(&mut self, which: usize, kind: &str, wrong: &[(bool, &str)]) {
        let wrong = wrong.iter().filter(|(is_so, _)| *is_so);
        self.found.extend(wrong.map(|(_, what)| format!("block {which}{kind}: {what}")));
    }

    fn is_beyond(&self, address: u64) -> bool {
        address.checked_shr(self.address_bits.into()).is_some_and(|beyond| beyond != 0)
    }
}

/// Whether each range has a start and an end, and these are in order.
fn has_whole_ranges(ivhd: &Ivhd<'_>) -> bool {
    let mut open = None;
    let entries = ivhd.entries.iter().filter(|entry| *entry != DeviceEntry::Padding);
    let are_whole = entries.fold(true, |so_far, entry| {
        let started: Option<SourceId> = open.take();
        let fits = match entry {
            DeviceEntry::RangeEnd(last) => started.is_some_and(|first| first <= last),
            _ => started.is_none(),
        };
        if let DeviceEntry::RangeStart { source, .. } | DeviceEntry::AliasRangeStart { source, .. } = entry {
            open = Some(source);
        }
        so_far && fits
    });
    are_whole && open.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xFED8_0000;

    /// A table of a machine of 48 bits with these blocks, whose checksum does not matter here.
    fn remarks(blocks: &[Vec<u8>]) -> Vec<String> {
        let mut table = [b"IVRS".to_vec(), vec![0; 44], blocks.concat()].concat();
        let length = table.len() as u32;
        table[4..8].copy_from_slice(&length.to_le_bytes());
        table[36..40].copy_from_slice(&(48_u32 << 8 | 64 << 15).to_le_bytes());
        on(&Ivrs::salvage(&table).unwrap())
    }

    /// A block of type 10h of the unit 00:00.2 with these device entries.
    fn unit(base: u64, entries: &[u8]) -> Vec<u8> {
        let head = [0x10, 0, 24 + entries.len() as u8, 0, 2, 0, 0x40, 0];
        [&head[..], &base.to_le_bytes(), &[0; 8], entries].concat()
    }

    fn memory(start: u64, length: u64) -> Vec<u8> {
        let head = [0x21, 1, 32, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        [&head[..], &start.to_le_bytes(), &length.to_le_bytes()].concat()
    }

    const ALL: [u8; 4] = [1, 0, 0, 0];

    #[test]
    fn a_table_that_can_be_right_is_not_remarked_on() {
        let range = [3, 8, 0, 0, 0, 0, 0, 0, 4, 0xFF, 0, 0];
        assert_eq!(remarks(&[unit(BASE, &range), unit(BASE, &ALL), memory(0x1000, 0x2000)]), [""; 0]);
    }

    #[test]
    fn a_unit_where_none_can_be_is_remarked_on() {
        for (base, words) in [(0, "at address 0"), (BASE + 0x1000, "16 KiB"), (1 << 48, "beyond the machine")]
        {
            let remarks = remarks(&[unit(base, &ALL)]);
            assert!(remarks.len() == 1 && remarks[0].contains(words), "{base:#x}: {remarks:?}");
        }
        let mut other = unit(BASE, &ALL);
        other[4] = 3;
        assert_eq!(remarks(&[unit(BASE, &ALL), other]), ["block 2 (type 10h): a second unit at one address"]);
        assert_eq!(remarks(&[]), ["no block describes a unit"]);
    }

    #[test]
    fn devices_that_cannot_be_are_remarked_on() {
        let of = |entries: &[u8]| remarks(&[unit(BASE, entries)]).join(", ");
        assert!(of(&[]).contains("without devices"));
        assert!(of(&[72, 0, 0, 0]).contains("impossible length"));
        for range in [&[4, 9, 0, 0][..], &[3, 8, 0, 0], &[3, 8, 0, 0, 4, 7, 0, 0], &[3, 8, 0, 0, 2, 9, 0, 0]]
        {
            assert!(of(range).contains("a range of devices"), "{range:?}");
        }
    }

    #[test]
    fn memory_that_cannot_be_is_remarked_on() {
        let of = |start, length| remarks(&[unit(BASE, &ALL), memory(start, length)]).join(", ");
        assert!(of(0x1000, 0).contains("of no bytes"));
        assert!(of(0x1800, 0x1000).contains("begins within a page"));
        assert_eq!(of(0x1000, 1), "", "firmware excludes a byte, and means its page");
        assert!(of(!0xFFF, 0x2000).contains("beyond"));
        let mut backwards = memory(0x1000, 0x1000);
        backwards[0] = 0x22;
        assert!(remarks(&[unit(BASE, &ALL), backwards])[0].contains("ends before it begins"));
    }

    #[test]
    fn what_was_clipped_is_remarked_on() {
        assert!(remarks(&[unit(BASE, &ALL), vec![0x11, 0, 8, 0, 0, 0, 0, 0]])[0].contains("too short"));
    }
}
