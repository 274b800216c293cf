//! Hazards: what was wrong or dangerous in the old kernel's tables, and what the takeover did about it.

use alloc::vec::Vec;
use core::fmt;
use core::mem::discriminant;

use amdvi::device_table::{GuestPagingMode, PagingMode};
use machine::{IoAddress, PhysicalAddress, Range, SourceId};
use vtd::context::TranslationType;
use vtd::paging::AddressWidth;
use vtd::pasid::PasidTranslationType;

use machine::growth::push;

/// What became of a context, a domain or a part of one; later values are worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The copy translates exactly as the original did.
    #[default]
    Duplicated,
    /// The same translations, in larger pages.
    Folded,
    /// The same translations, in the old kernel's checked tables.
    KeptInPlace,
    /// The same translations, without those that reached the capture kernel's memory or no memory at all, and without
    /// malformed ones, which faulted already.
    Fenced,
    /// Some or all translations are gone; their requests fault.
    Blocked,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Duplicated => "duplicated",
            Self::Folded => "folded",
            Self::KeptInPlace => "kept in place",
            Self::Fenced => "fenced",
            Self::Blocked => "blocked",
        })
    }
}

/// What was wrong or dangerous in what the old kernel left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Danger {
    /// Bits that must be zero are not: requests faulted already.
    #[error("reserved bits are set")]
    ReservedBits,
    /// The table at this address is not in the machine's memory.
    #[error("the table at {0:#x} is not in memory")]
    TableUnreadable(PhysicalAddress),
    /// The table at this address is in the capture kernel's memory.
    #[error("the table at {0:#x} is in the capture kernel's memory")]
    TableInOwnMemory(PhysicalAddress),
    /// A mapping reaches the capture kernel's memory at this address.
    #[error("maps the capture kernel's memory at {0:#x}")]
    ReachesOwnMemory(PhysicalAddress),
    /// A mapping in place of pass-through would reach memory of the dead kernel's, at this address, that a unit uses on.
    #[error("maps memory that the unit uses on at {0:#x}")]
    ReachesMemoryInUse(PhysicalAddress),
    /// There is no memory at these addresses, though pass-through reached them; the unit has no large pages to map
    /// them with.
    #[error("holds no memory, and is not mapped for want of large pages")]
    NoMemory,
    /// The unit or this code does not support this translation type.
    #[error("translation type {} is not supported", .0.0)]
    UnsupportedType(TranslationType),
    /// The unit or this code does not support this translation type of a PASID.
    #[error("translation type {} of a PASID is not supported", .0.0)]
    UnsupportedPasidType(PasidTranslationType),
    /// PASIDs are in use that lie beyond the first page of the directory.
    #[error("PASIDs from 32768 up are in use")]
    PasidTooLarge,
    /// The entry for requests without PASID would lie beyond the directory: such requests faulted already.
    #[error("RID_PASID {0:#x} is beyond the PASID directory")]
    RidPasidTooLarge(u32),
    /// The unit does not support this width.
    #[error("address width {} is not supported", .0.0)]
    UnsupportedWidth(AddressWidth),
    /// The unit does not support host tables of this mode.
    #[error("paging mode {} is not supported", .0.0)]
    UnsupportedMode(PagingMode),
    /// The unit does not support guest tables of this mode.
    #[error("guest paging mode {} is not supported", .0.0)]
    UnsupportedGuestMode(GuestPagingMode),
    /// Every domain-id is in use.
    #[error("no domain-id is left")]
    NoDomainId,
    /// The unit goes on with the dead kernel's device table, which was made to say what ours says. Nothing keeps a device for which the
    /// dead kernel had mapped that memory from changing it: until then all invariants hold, but for old memory being read-only.
    #[error("its device table stays at {table:#x} and is changed there: {why}")]
    TableInPlace {
        /// Where it is.
        table: PhysicalAddress,
        /// Why.
        why: Obstacle,
    },
    /// The unit goes on with the dead kernel's command buffer and log of events: commands are written there, and the unit logs there.
    /// Nothing keeps a device for which the dead kernel had mapped that memory from changing them.
    #[error("it takes no other command buffer and log: those in memory of the dead kernel's are used on")]
    BuffersInPlace,
    /// The device's entry in a device table that stays in place still says what the dead kernel wrote, or something else: devices keep
    /// changing it.
    #[error("its entry in the device table, at {0:#x}, could not be changed: devices keep writing it")]
    EntryContended(PhysicalAddress),
    /// The unit does not stop its logs of page requests and of guests' interrupts: it may write them to memory of the dead kernel's.
    #[error("its logs of page requests or guests' interrupts stay on, in memory of the dead kernel's")]
    LogsInPlace,
    /// The device table has no entry for the device, whose requests therefore pass untranslated (AMD-Vi, 2.2.2).
    #[error("has no entry in the device table, and reaches all memory")]
    NoEntry,
    /// The old and the new device table lie on different sides of a multiple of 4 GiB. There may be units that take the base as
    /// two writes of 32 bits; between them, such a unit reads neither table. It was moved all the same, because the old one could not be
    /// changed where it is.
    #[error("its device table moves from {old:#x} to {new:#x}, which a unit may not do in one step")]
    BaseInHalves {
        /// Where the old kernel's was.
        old: PhysicalAddress,
        /// Where ours is.
        new: PhysicalAddress,
    },
    /// The unit has fewer domain-ids.
    #[error("domain-id {0:#x} is more than the unit has")]
    DomainIdTooLarge(u16),
    /// Two sets of tables had this domain-id; the later one got another.
    #[error("domain-id {0:#x} was in use for other tables")]
    DomainIdShared(u16),
    /// The device was sent an invalidation for its device-TLB, and did not confirm it.
    #[error("its device-TLB did not confirm that it is empty")]
    DeviceTlbSilent,
    /// The device was told to drop what its device-TLB keeps for requests without PASID, and nobody but its guest knows its PASIDs: what
    /// it keeps for those stays, memory of ours included if an old mapping reached that.
    #[error(
        "its device-TLB may go on using what it keeps for its guest's processes, whose PASIDs are not known"
    )]
    DeviceTlbOfGuest,
    /// The device's context allows it a device-TLB, and nothing is known of the device: it was told to invalidate everything,
    /// as the most cautious software would, and confirmed it.
    #[error("keeps translations, and its configuration space was not found")]
    DeviceTlbUnknown,
    /// Somebody else wrote the tail of our invalidation queue, so many times: a processor of the dead kernel that is still
    /// running, or was stopped in the middle. What was submitted was sent again.
    #[error("the tail of the invalidation queue was changed {0} times")]
    QueueDisturbed(u32),
    /// The device's requests also arrive under this source-id, which the old kernel put into the domain with this id.
    #[error("is an alias that is in domain {0:#x}")]
    AliasElsewhere(u16),
    /// The first stage belongs to a guest: its tables lie in the guest's memory, where the guest's devices may write
    /// them. The second stage, which was copied and checked, confines them.
    #[error("first-format tables are a guest's, confined by the second format")]
    GuestTables,
    /// There are no frames left for a copy.
    #[error("no frames are left for a copy")]
    OverBudget,
    /// There are more contexts than [`Limits::contexts`](crate::Limits::contexts).
    #[error("more contexts than are looked at")]
    TooManyContexts,
}

/// Why a unit goes on with the dead kernel's device table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Hardware has locked the register that names it, as secure nested paging does (AMD-Vi, 2.12).
    #[error("its register is locked")]
    Locked,
    /// Old and new table lie on different sides of a multiple of 4 GiB. There may be units that take the base as two writes of 32 bits;
    /// between them, such a unit reads neither table.
    #[error("it does not move from {old:#x} to {new:#x} in one step")]
    Halves {
        /// Where the old kernel's is.
        old: PhysicalAddress,
        /// Where ours is.
        new: PhysicalAddress,
    },
    /// There are not enough frames side by side for another.
    #[error("no {pages} frames side by side are left for another")]
    NoRun {
        /// How many it takes.
        pages: usize,
    },
}

/// Where a hazard was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HazardPlace {
    /// The unit itself.
    Unit,
    /// The context table of a bus.
    Bus(u8),
    /// A context entry.
    Device(SourceId),
    /// These I/O addresses of the domain with this id.
    Domain {
        /// Domain-id, as it is now.
        id: u16,
        /// I/O addresses.
        iova: Range<IoAddress>,
    },
}

impl fmt::Display for HazardPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit => f.write_str("unit"),
            Self::Bus(bus) => write!(f, "bus {bus:02x}"),
            Self::Device(source) => write!(f, "device {source}"),
            Self::Domain { id, iova } => write!(f, "domain {id:#x}, {iova}"),
        }
    }
}

/// Something wrong or dangerous, and what the takeover did about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// Where.
    pub place: HazardPlace,
    /// What.
    pub danger: Danger,
    /// What was done.
    pub outcome: Outcome,
}

impl Hazard {
    /// Merges a hazard of the same kind that starts where this one ends; returns whether it did.
    fn extend(&mut self, next: &Self) -> bool {
        let (HazardPlace::Domain { id, iova }, HazardPlace::Domain { id: next_id, iova: next_iova }) =
            (&mut self.place, next.place)
        else {
            return false;
        };
        let follows = *id == next_id && iova.end == next_iova.start && self.outcome == next.outcome;
        if !follows || discriminant(&self.danger) != discriminant(&next.danger) {
            return false;
        }
        iova.end = next_iova.end;
        true
    }
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.danger, self.outcome)
    }
}

/// Hazards up to a limit; any further ones are only counted.
#[derive(Clone, Debug, Default)]
pub struct Hazards {
    /// The first ones, in the order in which they were found.
    pub listed: Vec<Hazard>,
    /// How many more there were.
    pub unlisted: u64,
    limit: usize,
}

impl Hazards {
    pub(crate) fn new(limit: usize) -> Self {
        Self { listed: Vec::new(), unlisted: 0, limit }
    }

    /// Adds a hazard. Neighbouring hazards of a domain are merged under the first one's danger.
    pub(crate) fn note(&mut self, place: HazardPlace, danger: Danger, outcome: Outcome) {
        let hazard = Hazard { place, danger, outcome };
        if self.listed.last_mut().is_some_and(|last| last.extend(&hazard)) {
            return;
        }
        if self.listed.len() >= self.limit || push(&mut self.listed, hazard).is_err() {
            self.unlisted += 1;
        }
    }

    /// What blocks a part of a domain, or all of it; `None` if that is not listed.
    pub(crate) fn danger_of_domain(&self, wanted: u16) -> Option<Danger> {
        let is_its = |hazard: &&Hazard| {
            matches!(hazard.place, HazardPlace::Domain { id, .. } if id == wanted)
                && hazard.outcome == Outcome::Blocked
        };
        self.listed.iter().find(is_its).map(|hazard| hazard.danger)
    }

    /// How many there were; neighbouring ones count as one.
    pub fn count(&self) -> u64 {
        self.listed.len() as u64 + self.unlisted
    }
}
