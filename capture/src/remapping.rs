//! The machine's remapping units after the takeover: they map memory and return addresses that devices can use.

use alloc::vec::Vec;

use machine::{IoAddress, PhysicalAddress, Range};
use record::Register;
use takeover::{AttachError, Attachment, Failure, Takeover, UnitError};
use vtd::paging::Permission;
use vtd::source::SourceId;

#[cfg(mutations)]
use crate::mutations::unit::UnitRegisters;
use crate::platform::clock::Tsc;
use crate::platform::frames::FramePool;
use crate::platform::memory::OldRam;
#[cfg(not(mutations))]
use crate::platform::mmio::Mmio as UnitRegisters;
use crate::platform::paging::MapError;
use crate::units::{Serves, source_of, unit_of};
use pci::Function;

/// All remapping units, and the frames their tables are made of.
pub(crate) struct Remapping {
    /// The units, in the order of the firmware's table; none if each device reaches memory by physical addresses.
    pub(crate) units: Vec<RemappingUnit>,
    /// The functions whose requests each unit translates.
    pub(crate) serves: Vec<Serves>,
    /// Own frames for their tables.
    pub(crate) frames: FramePool,
    /// Physical address bits of the machine; 0 if no table says.
    pub(crate) host_address_bits: u32,
    /// The dead kernel's memory, which holds its tables; some of these may be kept.
    pub(crate) old: OldRam,
}

/// One remapping unit.
pub(crate) struct RemappingUnit {
    /// Physical address of its registers.
    pub(crate) base: PhysicalAddress,
    /// PCI segment that it serves.
    pub(crate) segment: u16,
    /// Its registers before anything was written to them; empty if they could not be read.
    pub(crate) registers: Vec<Register>,
    /// The result of its takeover.
    pub(crate) fate: Fate,
}

/// The result of a unit's takeover.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all units are taken over, and each place of its list is as large"
)]
pub(crate) enum Fate {
    /// Its translations are in force, and it uses our tables.
    TakenOver(Takeover<'static, UnitRegisters, Tsc>),
    /// Translation is off: its devices reach memory by physical addresses.
    Off,
    /// It still translates by the dead kernel's tables, and cannot be changed.
    Lost(LostError),
}

/// Why a unit cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LostError {
    /// Its registers could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// It does not answer like a remapping unit.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// Its tables could not be replaced.
    #[error(transparent)]
    Takeover(#[from] Failure),
}

/// How a device reaches memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    /// By physical addresses.
    Direct,
    /// By I/O addresses of its domain in the unit with this index.
    Translated(usize, Attachment),
}

/// Why a device cannot be given memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReachError {
    /// The takeover refused.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Its unit was not taken over.
    #[error("its remapping unit was not taken over")]
    Lost,
}

impl Remapping {
    /// No units: every device reaches memory by physical addresses.
    pub(crate) fn none() -> Option<Self> {
        let frames = FramePool::new(0)?;
        Some(Self {
            units: Vec::new(),
            serves: Vec::new(),
            frames,
            host_address_bits: 0,
            old: OldRam::default(),
        })
    }

    /// Finds out how a device reaches memory. Behind a unit that was taken over, the device gets a domain of ours, and so
    /// do the `aliases` under which its requests may arrive.
    pub(crate) fn attach(&mut self, function: Function, aliases: &[SourceId]) -> Result<Reach, ReachError> {
        let Some(index) = self.unit_of(function) else { return Ok(Reach::Direct) };
        match &mut self.units[index].fate {
            Fate::Off => Ok(Reach::Direct),
            Fate::Lost(_) => Err(ReachError::Lost),
            Fate::TakenOver(unit) => {
                let attachment = unit.attach(source_of(function), aliases, &mut self.frames)?;
                Ok(Reach::Translated(index, attachment))
            }
        }
    }

    /// Makes own memory reachable for a device and returns the address it has there; `None` if that is impossible.
    pub(crate) fn map(&mut self, reach: &Reach, memory: Range<PhysicalAddress>) -> Option<IoAddress> {
        let Reach::Translated(index, attachment) = reach else {
            // No unit translates, so device addresses are physical addresses.
            return Some(IoAddress::new(memory.start.get()));
        };
        let Fate::TakenOver(unit) = &mut self.units.get_mut(*index)?.fate else { return None };
        unit.map(attachment, memory, Permission::ReadWrite, &self.old, &mut self.frames).ok()
    }

    fn unit_of(&self, function: Function) -> Option<usize> {
        unit_of(&self.serves.iter(), function)
    }
}
