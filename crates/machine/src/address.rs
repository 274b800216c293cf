//! Positions. Each kind has a type of its own, so that the compiler keeps apart addresses of different kinds, page
//! frame numbers, and places on a disk.
//!
//! | type | counts | of |
//! |---|---|---|
//! | [`PhysicalAddress`] | bytes | memory, as the processor and the memory controller name it |
//! | [`IoAddress`] | bytes | what a device may reach, as its requests name it |
//! | [`VirtualAddress`] | bytes | memory, as a kernel's page tables name it |
//! | [`Pfn`] | page frames | memory |
//! | [`ByteOffset`] | bytes | a disk, a dump area, or a file |

use core::fmt;

use crate::{PAGE_SHIFT, PAGE_SIZE, Position, Range};

/// Defines a type for 64-bit numbers that are positions of one kind.
macro_rules! position {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The position with this number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Its number, as hardware tables, registers and files hold it.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The position `count` after this one, or the last position if that would overflow.
            pub const fn saturating_add(self, count: u64) -> Self {
                Self(self.0.saturating_add(count))
            }

            /// Whether its number is a multiple of `size`.
            pub const fn is_aligned(self, size: u64) -> bool {
                self.0.is_multiple_of(size)
            }

            /// The first multiple of `size` that is not before this position, or the last number if that would overflow.
            pub const fn align_up(self, size: u64) -> Self {
                match self.0.checked_next_multiple_of(size) {
                    Some(number) => Self(number),
                    None => Self(u64::MAX),
                }
            }

            /// The last multiple of `size`, a power of two, that is not after this position.
            pub const fn align_down(self, size: u64) -> Self {
                Self(self.0 & !(size - 1))
            }
        }

        impl Position for $name {
            fn checked_add(self, count: u64) -> Option<Self> {
                self.0.checked_add(count).map(Self)
            }

            fn count_since(self, start: Self) -> u64 {
                self.0.saturating_sub(start.0)
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }

        impl From<$name> for u64 {
            fn from(position: $name) -> Self {
                position.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

position! {
    /// A physical address: names a byte for the processor, and for a device whose requests no unit translates.
    PhysicalAddress
}

position! {
    /// An I/O address: names a byte in a device's requests, before a remapping unit translates them.
    IoAddress
}

position! {
    /// A virtual address, which a kernel's page tables translate.
    VirtualAddress
}

position! {
    /// A page frame number: how many page frames of [`PAGE_SIZE`] bytes lie before this one in physical memory.
    Pfn
}

position! {
    /// An offset in bytes from the start of a disk, a dump area, or a file.
    ByteOffset
}

impl PhysicalAddress {
    /// The page frame that the address lies in.
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }
}

impl Pfn {
    /// The address of the frame's first byte, or the last address if the frame is beyond all addresses.
    pub const fn address(self) -> PhysicalAddress {
        PhysicalAddress(self.0.saturating_mul(PAGE_SIZE))
    }
}

impl Range<PhysicalAddress> {
    /// The page frames of a range that begins and ends at frame boundaries. If the range ends within a frame, that frame is
    /// left out.
    pub const fn frames(self) -> Range<Pfn> {
        Range::new(self.start.pfn(), self.end.pfn())
    }

    /// All page frames that the range touches.
    pub const fn touched_frames(self) -> Range<Pfn> {
        Range::new(self.start.pfn(), Pfn(self.end.0.div_ceil(PAGE_SIZE)))
    }
}

impl Range<Pfn> {
    /// The memory of these page frames.
    pub const fn memory(self) -> Range<PhysicalAddress> {
        Range::new(self.start.address(), self.end.address())
    }
}

/// Addresses that raise interrupts instead of reaching memory; no page table translates requests to them (VT-d, 3.14; on
/// AMD-Vi, interrupt tables do, 2.2.5).
pub const INTERRUPT_WINDOW: Range<IoAddress> =
    Range::new(IoAddress::new(0xFEE0_0000), IoAddress::new(0xFEF0_0000));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_address_space_is_no_way_back_to_its_start() {
        let last = PhysicalAddress::new(u64::MAX);
        assert_eq!(last.checked_add(1), None);
        assert_eq!(last.saturating_add(1), last);
        assert_eq!(IoAddress::new(0).count_since(IoAddress::new(1)), 0);
    }

    #[test]
    fn an_address_is_aligned_to_what_divides_it() {
        let address = IoAddress::new(0x1_2345);
        assert_eq!(address.align_down(0x1000), IoAddress::new(0x1_2000));
        assert!(address.align_down(0x1000).is_aligned(0x1000) && !address.is_aligned(0x1000));
    }

    #[test]
    fn memory_that_ends_within_a_page_frame_touches_it() {
        let memory = Range::<PhysicalAddress>::from(0x1800..0x3001);
        assert_eq!(memory.frames(), Range::from(1..3));
        assert_eq!(memory.touched_frames(), Range::from(1..4));
        assert_eq!(memory.touched_frames().memory(), Range::from(0x1000..0x4000));
        assert_eq!(Pfn::new(u64::MAX).address(), PhysicalAddress::new(u64::MAX));
    }
}
