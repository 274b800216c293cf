//! Finds AMD's IOMMUs, which this kernel cannot take over, to see whether one translates (AMD I/O virtualization technology
//! specification 3.08, sections 5.2 and 3.4).

/// Bytes before the first block of the table (5.2.1).
const HEADER: usize = 48;
/// The types of blocks that describe an IOMMU (IVHD, 5.2.2).
const IVHD: [u8; 3] = [0x10, 0x11, 0x40];
/// Where such a block has the address of the IOMMU's registers: eight bytes.
const BASE: usize = 8;

/// Bytes of an IOMMU's registers that are looked at.
pub const REGISTER_BYTES: usize = 4096;
/// The control register: 64 bits (3.4.2).
pub const CONTROL: usize = 0x18;

/// The table has a block of an impossible length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the IVRS table is damaged")]
pub struct Damaged;

/// Whether one of the IOMMUs in the table IVRS translates, or may: the table is damaged, or no control register can be read.
/// `control` reads it, by the address of the IOMMU's registers.
pub fn any_translates(table: &[u8], mut control: impl FnMut(u64) -> Option<u64>) -> bool {
    registers(table).any(|base| base.ok().and_then(&mut control).is_none_or(translates))
}

/// Whether an IOMMU with this control register translates. Ones, which are read where nothing answers, do not say that it
/// is off.
const fn translates(control: u64) -> bool {
    const IOMMU_EN: u64 = 1 << 0;
    control & IOMMU_EN != 0
}

/// The addresses of the registers of all IOMMUs in the table IVRS, `table` with its header; ends after the first error.
/// Several blocks may describe one IOMMU.
fn registers(table: &[u8]) -> impl Iterator<Item = Result<u64, Damaged>> {
    let blocks = Blocks(table.get(HEADER..).unwrap_or_default());
    blocks.filter_map(|block| match block {
        Ok(block) if !block.first().is_some_and(|kind| IVHD.contains(kind)) => None,
        Ok(block) => {
            let base = block.get(BASE..).and_then(<[u8]>::first_chunk);
            Some(base.map(|base| u64::from_le_bytes(*base)).ok_or(Damaged))
        }
        Err(damaged) => Some(Err(damaged)),
    })
}

/// Walks the blocks: type, flags, and length in two bytes each (5.2.2).
struct Blocks<'a>(&'a [u8]);

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<&'a [u8], Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        const SHORTEST: usize = 4;
        if self.0.is_empty() {
            return None;
        }
        let length =
            self.0.get(2..).and_then(<[u8]>::first_chunk).map_or(0, |length| u16::from_le_bytes(*length));
        match self.0.split_at_checked(length.into()) {
            Some((block, rest)) if block.len() >= SHORTEST => {
                self.0 = rest;
                Some(Ok(block))
            }
            _ => {
                self.0 = &[];
                Some(Err(Damaged))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: u8, base: u64) -> Vec<u8> {
        [&[kind, 0, 24, 0, 2, 0, 0x40, 0][..], &base.to_le_bytes(), &[0; 8]].concat()
    }

    fn table(blocks: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; HEADER], blocks.concat()].concat()
    }

    fn found(blocks: &[Vec<u8>]) -> Vec<Result<u64, Damaged>> {
        registers(&table(blocks)).collect()
    }

    #[test]
    fn all_blocks_of_iommus_are_found_and_those_of_memory_passed_over() {
        let (old, memory, new) = (block(0x10, 0xFEB8_0000), block(0x21, 7), block(0x40, 0xFEC0_0000));
        assert_eq!(found(&[old, memory, new]), [Ok(0xFEB8_0000), Ok(0xFEC0_0000)]);
        assert_eq!(found(&[]), []);
    }

    #[test]
    fn damage_ends_the_walk() {
        let whole = block(0x11, 0xFEB8_0000);
        for length in [0, 3, 25] {
            let mut damaged = whole.clone();
            damaged[2] = length;
            assert_eq!(found(&[whole.clone(), damaged]), [Ok(0xFEB8_0000), Err(Damaged)], "{length}");
        }
        assert_eq!(found(&[vec![0x10, 0, 8, 0, 0, 0, 0, 0]]), [Err(Damaged)], "no base");
        assert_eq!(registers(b"IVRS").count(), 0);
    }

    #[test]
    fn what_reads_ones_may_translate() {
        assert!(translates(u64::MAX) && translates(1));
        assert!(!translates(0) && !translates(2));
    }
    #[test]
    fn what_cannot_be_read_may_translate() {
        let [one, other] = [block(0x10, 0xFEB8_0000), block(0x11, 0xFEC0_0000)];
        let both = table(&[one.clone(), other]);
        assert!(!any_translates(&both, |_| Some(0)));
        assert!(any_translates(&both, |base| Some(u64::from(base == 0xFEC0_0000))));
        assert!(any_translates(&both, |base| (base == 0xFEB8_0000).then_some(0)));
        assert!(any_translates(&table(&[one, vec![0x10]]), |_| Some(0)), "damaged");
        assert!(!any_translates(&table(&[]), |_| None));
    }
}
