//! What is in the reserved memory now, as the running kernel shows it.
//!
//! `/proc/iomem` says where, to root only. `/proc/kcore` shows all RAM, and this part too: on x86 the kernel write-protects
//! what was loaded, but leaves it readable. The kernel does not say who loaded it.

use std::fs;
use std::hash::Hasher;
use std::path::Path;

use machine::{OldMemory, PhysicalAddress, Range};
use twox_hash::XxHash64;

use crate::{iomem, kcore};

/// Bytes that are read at a time.
const PIECE: u64 = 1 << 20;

/// A checksum of all that is in the reservation; `None` if the running kernel does not show it.
pub(crate) fn checksum() -> Option<u64> {
    let places = places(&fs::read_to_string(iomem::FILE).ok()?);
    checksum_of(&kcore::open(Path::new("/"))?, &places)
}

/// Where memory is reserved: two places if `crashkernel=…,high` was asked for.
fn places(iomem: &str) -> Vec<Range<u64>> {
    iomem::named(iomem, |name| name == "Crash kernel").filter_map(iomem::bounds).collect()
}

/// The checksum of some memory; `None` if a part of it cannot be read, or if there is none.
fn checksum_of(memory: &impl OldMemory, places: &[Range<u64>]) -> Option<u64> {
    let mut sum = XxHash64::with_seed(0);
    let mut piece = vec![0; PIECE as usize];
    for place in places {
        for start in (place.start..place.end).step_by(PIECE as usize) {
            let bytes = &mut piece[..(place.end - start).min(PIECE) as usize];
            memory.read(PhysicalAddress::new(start), bytes).ok()?;
            sum.write(bytes);
        }
    }
    (!places.is_empty()).then(|| sum.finish())
}

#[cfg(test)]
mod tests {
    use machine::Unreadable;

    use super::*;

    const IOMEM: &str = "00001000-0009fbff : System RAM\n00100000-3ffdbfff : System RAM\n  01000000-01c02006 : Kernel code\n  \
                         2e000000-2effffff : Crash kernel\n";

    /// Memory in which each byte is its page's number.
    struct Counting;

    impl OldMemory for Counting {
        fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
            let unreadable = Unreadable { address, len: into.len() as u64 };
            if address.get() >= 0x3000_0000 {
                return Err(unreadable);
            }
            into.fill((address.get() >> 12) as u8);
            Ok(())
        }
    }

    #[test]
    fn the_reservation_is_found_by_root_and_hidden_from_others() {
        assert_eq!(places(IOMEM), [Range::new(0x2e00_0000, 0x2f00_0000)]);
        assert_eq!(places("00000000-00000000 : Crash kernel\n"), []);
    }

    #[test]
    fn what_cannot_be_read_has_no_checksum() {
        let sum = |places: &[Range<u64>]| checksum_of(&Counting, places);
        let place = Range::new(0x2e00_0000, 0x2e30_1000);
        assert!(sum(&[place]).is_some());
        assert_ne!(sum(&[place]), sum(&[Range::new(0x2e00_1000, 0x2e30_2000)]));
        assert_eq!(sum(&[place, Range::new(0x3000_0000, 0x3000_1000)]), None);
        assert_eq!(sum(&[]), None);
    }
}
