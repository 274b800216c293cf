//! Addresses: what the memory controller knows, and what a device says to its remapping unit, are different types.

use core::fmt;

use crate::Position;

/// Makes a 64-bit address a type of its own.
macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this number.
            pub const fn new(address: u64) -> Self {
                Self(address)
            }

            /// The address's number, as hardware tables and registers hold it.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The address `bytes` after this one, or the last one there is.
            pub const fn saturating_add(self, bytes: u64) -> Self {
                Self(self.0.saturating_add(bytes))
            }

            /// Whether the address is a multiple of `size`.
            pub const fn is_aligned(self, size: u64) -> bool {
                self.0.is_multiple_of(size)
            }

            /// The last multiple of `size`, a power of two, that is not after this address.
            pub const fn align_down(self, size: u64) -> Self {
                Self(self.0 & !(size - 1))
            }
        }

        impl Position for $name {
            fn checked_add(self, bytes: u64) -> Option<Self> {
                self.0.checked_add(bytes).map(Self)
            }

            fn count_since(self, start: Self) -> u64 {
                self.0.saturating_sub(start.0)
            }
        }

        impl From<u64> for $name {
            fn from(address: u64) -> Self {
                Self(address)
            }
        }

        impl From<$name> for u64 {
            fn from(address: $name) -> Self {
                address.0
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

address! {
    /// A physical address: where a byte lies for the processor, and for a device that no unit translates for.
    PhysicalAddress
}

address! {
    /// An I/O address: what a device puts into its requests, before a remapping unit translates it.
    IoAddress
}

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
}
