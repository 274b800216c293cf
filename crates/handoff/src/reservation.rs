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
/// What a unit of AMD-Vi takes: a command buffer, the status of its waits, and a log of events.
const PER_UNIT_OF_AMD: u64 = 5;
/// A device table with an entry for each device that there can be, in frames side by side, and an empty table for those that are
/// blocked. Most machines have a device table of that size.
const DEVICE_TABLE: u64 = 512 + 1;
/// Page tables of a domain in use: one of each level, and some more of level 1. Larger domains are folded or kept in place,
/// which needs fewer.
const PER_DOMAIN: u64 = 8;
/// A function in scalable mode has a PASID directory and a PASID table.
const PASID_TABLES: u64 = 2;
/// Page tables of a process, and the PASID table that leads to them: PASIDs may be far from each other. A process has more
/// tables than anyone would copy; most of them stay in place.
const PER_PROCESS: u64 = PER_DOMAIN + 1;
/// Tables around what an identity map must leave out: our memory, low and high, and the interrupt addresses.
const AROUND_HOLES: u64 = 16;
/// Frames that are left for the disk's mappings (the takeover's default).
const SPARE: u64 = 64;
/// Entries of a page table.
const ENTRIES: u64 = 512;

/// How a dead kernel's tables name the tables of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By context entries.
    Legacy,
    /// By PASID tables, which each device has.
    Scalable,
    /// By a device table of AMD-Vi.
    DeviceTable,
}

/// A machine as its remapping units see it: the numbers that decide how many tables a takeover needs.
///
/// ```
/// use handoff::{Mode, Remapping};
///
/// let small = Remapping {
///     functions: 20,
///     domains: 10,
///     processes: 0,
///     buses: 8,
///     units: 2,
///     device_tables: 0,
///     kinds: 1,
///     memory_end: 16 << 30,
///     window_tables: 0,
///     largest_page: 1 << 30,
///     mode: Mode::Legacy,
/// };
/// assert!(small.reservation() <= 16 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remapping {
    /// PCI functions, virtual ones included.
    pub functions: u64,
    /// Domains in use: of functions with a driver, and of those without one that firmware uses, whose reserved memory
    /// (RMRR) is mapped for them.
    pub domains: u64,
    /// Processes whose addresses functions use (PASIDs).
    pub processes: u64,
    /// Buses with functions.
    pub buses: u64,
    /// Remapping units.
    pub units: u64,
    /// Device tables, which only units of AMD-Vi have: those of one PCI segment share one.
    pub device_tables: u64,
    /// How many kinds of units there are: each has an identity map of its own.
    pub kinds: u64,
    /// The end of memory, in bytes.
    pub memory_end: u64,
    /// Tables of an identity map for what PCI claims above memory ([`tables_above`]).
    pub window_tables: u64,
    /// The largest page that all units have, in bytes: 4 KiB, 2 MiB or 1 GiB.
    pub largest_page: u64,
    /// The mode of the old kernel's tables.
    pub mode: Mode,
}

impl Remapping {
    /// How many frames the tables take, so that no domain is blocked for want of frames.
    ///
    /// Of the frames that are left, a unit with tables of its own may take half, and its share of the other half. If all functions are
    /// behind the first of `n` such units, that is `(n + 1) / 2n` of the frames, of which the spare ones are left.
    pub const fn frames(&self) -> u64 {
        let (per_unit, sets) = match self.mode {
            Mode::Legacy | Mode::Scalable => (PER_UNIT, self.units),
            Mode::DeviceTable => (PER_UNIT_OF_AMD, self.device_tables),
        };
        let units = self.units.saturating_mul(per_unit);
        let units = units.saturating_add(self.device_tables.saturating_mul(DEVICE_TABLE));
        let tables = units.saturating_add(self.tables_of_devices()).saturating_add(self.identity_maps());
        let uneven = tables.saturating_add(SPARE).saturating_mul(sets.saturating_mul(2));
        uneven.div_ceil(sets.saturating_add(1))
    }

    /// The least reservation in which there is room for these tables, in bytes. Its other parts may need more.
    pub const fn reservation(&self) -> u64 {
        Share::UNIT_TABLES.in_which(self.frames().saturating_mul(FRAME))
    }

    /// Context tables, PASID tables, and page tables of domains. A bus may have devices behind two units. A function
    /// without a domain in use may have one with leftovers, which takes one table.
    const fn tables_of_devices(&self) -> u64 {
        let (per_bus, per_domain) = match self.mode {
            Mode::Legacy => (1, PER_DOMAIN),
            Mode::Scalable => (2, PER_DOMAIN + PASID_TABLES),
            Mode::DeviceTable => (0, PER_DOMAIN),
        };
        let contexts = self.buses.saturating_add(self.units).saturating_mul(per_bus);
        let idle = self.functions.saturating_sub(self.domains);
        let processes = self.processes.saturating_mul(PER_PROCESS);
        let domains = self.domains.saturating_mul(per_domain);
        contexts.saturating_add(domains).saturating_add(idle).saturating_add(processes)
    }

    /// Tables that map all memory, and what PCI claims, to itself in place of pass-through: one set for each kind of units.
    const fn identity_maps(&self) -> u64 {
        let mut map = AROUND_HOLES.saturating_add(self.window_tables);
        let mut span = if self.largest_page < FRAME { FRAME } else { self.largest_page };
        // One level of tables after another, up to one that covers all addresses.
        while span < self.memory_end {
            span = span.saturating_mul(ENTRIES);
            map = map.saturating_add(self.memory_end.div_ceil(span));
        }
        map.saturating_mul(self.kinds)
    }
}

/// How many tables an identity map needs for these physical addresses, first and last, in pages of at most `largest_page`
/// bytes. The ranges are in ascending order. In pages of 4 KiB they are not mapped, and need none.
///
/// ```
/// let windows = [(0x38_0000_0000, 0x38_7FFF_FFFF), (0x38_8000_0000, 0x38_FFFF_FFFF)];
/// // Four tables whose entries are pages of 2 MiB, and one of level 3; the table of level 4 is counted too.
/// assert_eq!(handoff::tables_above(&windows, 2 << 20), 4 + 1 + 1);
/// assert_eq!(handoff::tables_above(&windows, 1 << 30), 1 + 1);
/// assert_eq!(handoff::tables_above(&windows, 4096), 0);
/// ```
pub fn tables_above(ranges: &[(u64, u64)], largest_page: u64) -> u64 {
    /// The addresses below one table of level 4.
    const ALL: u64 = 1 << 48;
    let mut tables = 0_u64;
    let mut span = if largest_page > FRAME { largest_page } else { ALL };
    while span < ALL {
        span = span.saturating_mul(ENTRIES);
        let mut counted = 0;
        for (first, last) in ranges {
            let start = (first / span).max(counted);
            let end = (last / span).saturating_add(1).max(start);
            tables = tables.saturating_add(end - start);
            counted = end;
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(functions: u64, domains: u64, mode: Mode) -> Remapping {
        let (memory_end, largest_page) = (12 << 40, 1 << 30);
        let (processes, window_tables, kinds) = (0, 0, 3);
        Remapping {
            functions,
            domains,
            processes,
            buses: 120,
            units: 40,
            device_tables: 0,
            kinds,
            memory_end,
            window_tables,
            largest_page,
            mode,
        }
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
            Remapping { domains: 401, ..base },
            Remapping { processes: 1, ..base },
            Remapping { window_tables: 1, ..base },
            Remapping { kinds: 4, ..base },
            Remapping { buses: 121, ..base },
            Remapping { units: 41, ..base },
            Remapping { memory_end: 13 << 40, ..base },
            Remapping { largest_page: 2 << 20, ..base },
            Remapping { mode: Mode::Scalable, ..base },
            Remapping { mode: Mode::DeviceTable, device_tables: 40, ..base },
        ];
        assert!(more.iter().all(|more| more.frames() > base.frames()), "{more:?}");
        let absurd = Remapping { domains: u64::MAX, memory_end: u64::MAX, largest_page: 0, ..base };
        assert!(absurd.reservation() > 1 << 60);
    }
}
