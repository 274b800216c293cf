//! Memory that Linux does not call "System RAM", and that devices may reach all the same: persistent memory, memory behind CXL,
//! memory set aside for one purpose, and memory that was added after the capture kernel was loaded. The loader lists none of it;
//! ACPI's tables SRAT, CEDT and NFIT do.

use machine::{PhysicalAddress, Range};

use crate::acpi::{Table, Tables};

/// Most ranges that are taken; large machines have some tens.
const MOST: usize = 256;
/// Bytes of all ranges, at most: a table of pages of 1 GiB maps half a tebibyte, and there is room for some tens of tables.
const MOST_BYTES: u64 = 32 << 40;

/// Where a table has its structures, and which of them describe memory.
struct Layout {
    /// Bytes before the first structure.
    body: usize,
    /// The length of a structure, which it has near its start.
    length: fn(&[u8]) -> Option<usize>,
    /// Whether a structure describes memory.
    is_memory: fn(&[u8]) -> bool,
    /// Where such a structure has the address of the memory, and where its size: eight bytes each.
    base: usize,
    size: usize,
}

/// Memory affinity structures that are enabled (ACPI 6.5, section 5.2.16.2).
const SRAT: Layout = Layout {
    body: 48,
    length: |structure| structure.get(1).copied().map(usize::from),
    is_memory: |structure| structure[0] == 1 && structure.get(28).is_some_and(|flags| flags & 1 != 0),
    base: 8,
    size: 16,
};
/// CXL fixed memory window structures (CXL 3.1, section 9.18.1.3).
const CEDT: Layout =
    Layout { body: 36, length: wide_length, is_memory: |structure| structure[0] == 1, base: 8, size: 16 };
/// System physical address ranges (ACPI 6.5, section 5.2.25.2), registers of NVDIMMs included.
const NFIT: Layout = Layout {
    body: 40,
    length: wide_length,
    is_memory: |structure| structure[..2] == [0, 0],
    base: 32,
    size: 40,
};

/// The ranges of memory that these tables list below `limit`. They may overlap, and RAM is among them. What takes more tables
/// than there is room for is left out.
pub fn ranges(tables: &Tables, limit: PhysicalAddress) -> impl Iterator<Item = Range<PhysicalAddress>> {
    let listed = [(&tables.srat, SRAT), (&tables.cedt, CEDT), (&tables.nfit, NFIT)];
    let all = listed.into_iter().flat_map(|(table, layout)| {
        let structures = Structures { rest: body(table.as_ref(), &layout), length: layout.length };
        structures.filter_map(move |structure| layout.memory(structure))
    });
    let below = Range::new(PhysicalAddress::new(0), limit);
    let mut left = MOST_BYTES;
    all.map(move |range| range.intersection(below)).filter(|range| !range.is_empty()).take(MOST).filter(
        move |range| {
            let rest = left.checked_sub(range.len());
            left = rest.unwrap_or(left);
            rest.is_some()
        },
    )
}

impl Layout {
    /// The memory that a structure describes, if it describes any.
    fn memory(&self, structure: &[u8]) -> Option<Range<PhysicalAddress>> {
        let field = |at: usize| Some(u64::from_le_bytes(*structure.get(at..)?.first_chunk()?));
        let memory = || Range::sized(PhysicalAddress::new(field(self.base)?), field(self.size)?);
        (self.is_memory)(structure).then(memory).flatten()
    }
}

fn body<'a>(table: Option<&'a Table>, layout: &Layout) -> &'a [u8] {
    table.and_then(|table| table.bytes().get(layout.body..)).unwrap_or_default()
}

fn wide_length(structure: &[u8]) -> Option<usize> {
    let length = structure.get(2..)?.first_chunk()?;
    Some(u16::from_le_bytes(*length).into())
}

/// Walks the structures of a table, up to the first of an impossible length.
struct Structures<'a> {
    rest: &'a [u8],
    length: fn(&[u8]) -> Option<usize>,
}

impl<'a> Iterator for Structures<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        const SHORTEST: usize = 2;
        let length = (self.length)(self.rest).filter(|&length| length >= SHORTEST)?;
        let (structure, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(structure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure that begins with these bytes, with two values of eight bytes at `at`.
    fn structure(len: usize, start: &[u8], at: usize, values: [u64; 2]) -> Vec<u8> {
        let mut structure = start.to_vec();
        structure.resize(len, 0);
        structure[at..][..16].copy_from_slice(values.map(u64::to_le_bytes).as_flattened());
        structure
    }

    fn affinity(flags: u8, memory: [u64; 2]) -> Vec<u8> {
        let mut affinity = structure(40, &[1, 40], 8, memory);
        affinity[28] = flags;
        affinity
    }

    fn table(body: usize, structures: &[Vec<u8>]) -> Table {
        Table::of([vec![0; body], structures.concat()].concat())
    }

    fn found(tables: &Tables) -> Vec<Range<PhysicalAddress>> {
        ranges(tables, PhysicalAddress::new(1 << 46)).collect()
    }

    #[test]
    fn memory_of_all_kinds_is_found() {
        let processor = vec![0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let srat = [processor, affinity(3, [1 << 40, 1 << 30]), affinity(0, [2 << 40, 1 << 30])];
        let mut port = affinity(3, [5 << 40, 1 << 30]);
        port[0] = 6;
        let srat = [srat.as_slice(), &[port]].concat();
        let cedt =
            [structure(32, &[0, 0, 32, 0], 8, [7, 7]), structure(40, &[1, 0, 40, 0], 8, [3 << 40, 1 << 28])];
        let nfit = [
            structure(64, &[0, 0, 64, 0], 32, [4 << 40, 1 << 29]),
            structure(48, &[1, 0, 48, 0], 32, [7 << 40, 7]),
        ];
        let tables = Tables {
            srat: Some(table(48, &srat)),
            cedt: Some(table(36, &cedt)),
            nfit: Some(table(40, &nfit)),
            ..Tables::default()
        };
        let expected = [(1 << 40, 1 << 30), (3 << 40, 1 << 28), (4 << 40, 1 << 29)];
        let expected = expected.map(|(start, len): (u64, u64)| Range::from(start..start + len));
        assert_eq!(found(&tables), expected);
    }

    #[test]
    fn what_cannot_be_memory_or_takes_too_many_tables_is_left_out() {
        let of = |structures: &[Vec<u8>]| {
            found(&Tables { srat: Some(table(48, structures)), ..Tables::default() })
        };
        assert_eq!(
            of(&[affinity(1, [u64::MAX - 5, 100]), affinity(1, [1 << 50, 1]), affinity(1, [5, 0])]),
            []
        );
        let (whole, small) = (affinity(1, [0, u64::MAX]), affinity(1, [1 << 40, 1 << 30]));
        assert_eq!(of(&[whole, small.clone()]), [Range::from(1 << 40..(1 << 40) + (1 << 30))]);
        assert_eq!(of(&vec![small.clone(); 1000]).len(), MOST);
        let together = [affinity(1, [2 << 40, MOST_BYTES / 2]), affinity(1, [1 << 40, 3 << 29])];
        assert_eq!(of(&[&together[..1], &together].concat()), of(&together[..1]).repeat(2), "as many as fit");
        assert_eq!(of(&[vec![1, 1], small.clone()]), [], "no length");
        assert_eq!(of(&[vec![1, 255]]), []);
    }

    proptest::proptest! {
        #[test]
        fn any_tables_are_survived(srat: Vec<u8>, cedt: Vec<u8>, nfit: Vec<u8>) {
            let tables = Tables {
                srat: Some(table(48, &[srat])),
                cedt: Some(table(36, &[cedt])),
                nfit: Some(table(40, &[nfit])),
                ..Tables::default()
            };
            assert!(found(&tables).iter().all(|range| !range.is_empty()));
        }
    }
}
