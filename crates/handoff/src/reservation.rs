//! How much memory a machine's crash kernel must have reserved, and which part of it is for what.
//!
//! The capture kernel has no memory but its reservation. Most of what it needs there grows with the machine: the tables
//! for remapping units, for which a quarter is set aside. [`Remapping`] says how many frames a takeover of all units
//! takes, and so how large the reservation must be; a host knows that before a crash.

/// The part of the reservation that one purpose may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    divisor: u64,
}

impl Share {
    /// Our own page tables.
    pub const PAGE_TABLES: Self = Self { divisor: 4 };
    /// Tables for all remapping units.
    pub const UNIT_TABLES: Self = Self { divisor: 4 };
    /// Buffers for requests to the disk.
    pub const DISK_BUFFERS: Self = Self { divisor: 16 };

    /// This share of `reserved` bytes, in bytes.
    pub const fn of(self, reserved: u64) -> u64 {
        reserved / self.divisor
    }

    /// The least reservation of which this share is `bytes`, in bytes.
    pub const fn in_which(self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.divisor)
    }
}

/// Bytes of a frame.
const FRAME: u64 = 4096;
/// What one unit takes besides: a root table, a queue and the status of its waits, and an empty table.
const PER_UNIT: u64 = 4;
/// Page tables of a function that works: one of each level, and some more of level 1. Larger domains are folded or kept
/// in place, which needs fewer.
const PER_WORKING_FUNCTION: u64 = 8;
/// A function that works in scalable mode has a PASID directory and a PASID table.
const PASID_TABLES: u64 = 2;
/// Tables around what an identity map must leave out: our memory, low and high, and the interrupt addresses.
const AROUND_HOLES: u64 = 16;
/// Units may translate addresses of different widths, each with a map of its own.
const WIDTHS: u64 = 3;
/// Frames that are left for the disk's mappings (the takeover's default).
const SPARE: u64 = 64;
/// A unit may take half of the frames, and its share of the rest: if all functions are behind one unit, that half must
/// suffice.
const UNEVEN: u64 = 2;

/// How a dead kernel's tables name the tables of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By context entries.
    Legacy,
    /// By PASID tables, which each device has.
    Scalable,
}

/// A machine as its remapping units see it: the numbers that decide how many tables a takeover needs.
///
/// ```
/// use handoff::{Mode, Remapping};
///
/// let small = Remapping {
///     functions: 20,
///     working: 10,
///     buses: 8,
///     units: 2,
///     memory_end: 16 << 30,
///     largest_page: 1 << 30,
///     mode: Mode::Legacy,
/// };
/// assert!(small.reservation() <= 16 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remapping {
    /// PCI functions, virtual ones included.
    pub functions: u64,
    /// Those of them that have a driver, and so mappings; each may have a domain of its own.
    pub working: u64,
    /// Buses with functions.
    pub buses: u64,
    /// Remapping units.
    pub units: u64,
    /// The end of memory, in bytes.
    pub memory_end: u64,
    /// The largest page that all units have, in bytes: 4 KiB, 2 MiB or 1 GiB.
    pub largest_page: u64,
    /// The mode of the old kernel's tables.
    pub mode: Mode,
}

impl Remapping {
    /// How many frames the tables take, so that no domain is blocked for want of frames.
    pub const fn frames(&self) -> u64 {
        let units = self.units.saturating_mul(PER_UNIT);
        let tables = units.saturating_add(self.device_tables()).saturating_add(self.identity_maps());
        tables.saturating_mul(UNEVEN).saturating_add(SPARE)
    }

    /// The least reservation in which there is room for these tables, in bytes. Its other parts may need more.
    pub const fn reservation(&self) -> u64 {
        Share::UNIT_TABLES.in_which(self.frames().saturating_mul(FRAME))
    }

    /// Context tables, PASID tables, and page tables of domains. A bus may have devices behind two units. A function
    /// without a driver may have a domain with leftovers, which takes one table.
    const fn device_tables(&self) -> u64 {
        let (per_bus, per_function) = match self.mode {
            Mode::Legacy => (1, PER_WORKING_FUNCTION),
            Mode::Scalable => (2, PER_WORKING_FUNCTION + PASID_TABLES),
        };
        let contexts = self.buses.saturating_add(self.units).saturating_mul(per_bus);
        let idle = self.functions.saturating_sub(self.working);
        contexts.saturating_add(self.working.saturating_mul(per_function)).saturating_add(idle)
    }

    /// Tables that map all memory to itself in place of pass-through: one set for each width, which all units share.
    const fn identity_maps(&self) -> u64 {
        const ENTRIES: u64 = 512;
        let mut map = AROUND_HOLES;
        let mut span = if self.largest_page < FRAME { FRAME } else { self.largest_page };
        // One level of tables after another, up to one that covers all addresses.
        while span < self.memory_end {
            span = span.saturating_mul(ENTRIES);
            map = map.saturating_add(self.memory_end.div_ceil(span));
        }
        let maps = if self.units < WIDTHS { self.units } else { WIDTHS };
        map.saturating_mul(maps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(functions: u64, working: u64, mode: Mode) -> Remapping {
        let (memory_end, largest_page) = (12 << 40, 1 << 30);
        Remapping { functions, working, buses: 120, units: 40, memory_end, largest_page, mode }
    }

    #[test]
    fn a_share_and_its_reservation_correspond() {
        for share in [Share::PAGE_TABLES, Share::UNIT_TABLES, Share::DISK_BUFFERS] {
            assert_eq!(share.of(share.in_which(0x1234_5000)), 0x1234_5000);
        }
        assert_eq!(Share::UNIT_TABLES.in_which(u64::MAX), u64::MAX);
    }

    #[test]
    fn twelve_tebibytes_take_two_dozen_tables_of_large_pages_and_thousands_of_smaller_ones() {
        let huge = server(0, 0, Mode::Legacy);
        assert_eq!(huge.identity_maps(), 3 * (16 + 24 + 1));
        let large = Remapping { largest_page: 2 << 20, ..huge };
        assert_eq!(large.identity_maps(), 3 * (16 + 12 * 1024 + 24 + 1));
    }

    #[test]
    fn more_of_anything_never_needs_less() {
        let base = server(4096, 400, Mode::Legacy);
        let more = [
            Remapping { functions: 4098, ..base },
            Remapping { working: 401, ..base },
            Remapping { buses: 121, ..base },
            Remapping { units: 41, ..base },
            Remapping { memory_end: 13 << 40, ..base },
            Remapping { largest_page: 2 << 20, ..base },
            Remapping { mode: Mode::Scalable, ..base },
        ];
        assert!(more.iter().all(|more| more.frames() > base.frames()), "{more:?}");
        let absurd = Remapping { working: u64::MAX, memory_end: u64::MAX, largest_page: 0, ..base };
        assert_eq!(absurd.reservation(), u64::MAX);
    }
}
