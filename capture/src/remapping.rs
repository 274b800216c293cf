//! The machine's remapping units after the takeover: they map memory and return addresses that devices can use.

use alloc::vec::Vec;

use machine::growth::collected;
use machine::{IoAddress, Permission, PhysicalAddress, Range, SourceId};
use record::{Architecture, Register};
use takeover::{AttachError, Attachment, Failure, Takeover, UnitError};

#[cfg(mutations)]
use crate::mutations::unit::UnitRegisters;
use crate::platform::frames::FramePool;
use crate::platform::memory::OldRam;
#[cfg(not(mutations))]
use crate::platform::mmio::Mmio as UnitRegisters;
use crate::platform::paging::MapError;
use crate::units::{Doubt, Serves, has_context_of, source_of, unit_responsible};
use crate::watchdogs::WaitClock;
use pci::Function;

/// All remapping units, and the frames their tables are made of.
pub(crate) struct Remapping {
    /// The units, in the order of the firmware's table; none if each device reaches memory by physical addresses.
    pub(crate) units: Vec<RemappingUnit>,
    /// The functions whose requests each unit translates.
    pub(crate) serves: Vec<Serves>,
    /// Why functions that no unit names may be translated; `None` if the units are all that there is.
    pub(crate) doubt: Option<Doubt>,
    /// Own frames for their tables.
    pub(crate) frames: FramePool,
    /// Physical address bits of the machine; 0 if no table says.
    pub(crate) host_address_bits: u32,
    /// The dead kernel's memory, which holds its tables; some of these may be kept.
    pub(crate) old: OldRam,
}

/// One remapping unit.
pub(crate) struct RemappingUnit {
    /// Its architecture.
    pub(crate) architecture: Architecture,
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
    TakenOver(Takeover<'static, UnitRegisters, WaitClock>),
    /// Translation is off: its devices reach memory by physical addresses.
    Off,
    /// The firmware lists it, and there is none: its devices reach memory by physical addresses.
    Absent(LostError),
    /// It still translates by the dead kernel's tables, and cannot be changed.
    Lost(LostError),
}

impl Fate {
    /// The fate of a unit that is not found where the firmware's table says. Only the firmware can say that there is no unit;
    /// the dead kernel may have overwritten its table.
    pub(crate) fn of_unfound(lost: LostError, table_is_sound: bool) -> Self {
        if table_is_sound && lost.is_absence() { Self::Absent(lost) } else { Self::Lost(lost) }
    }
}

/// Why a unit cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LostError {
    /// Firmware names a place where no registers can be.
    #[error("no remapping unit can be at {0:#x}")]
    Nowhere(u64),
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

impl LostError {
    /// Whether nothing answers where the unit should be. Linux cannot have used such a unit either.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::Nowhere(_) | Self::Map(MapError::TooHigh(_)) | Self::Unit(UnitError::NotThere { .. })
        )
    }
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
    /// Units translate, and none of them is known to be the device's.
    #[error("remapping units translate, and the firmware names none for it")]
    NoUnit,
    /// It is not known whether its requests are translated.
    #[error(transparent)]
    Doubt(#[from] Doubt),
}

impl Remapping {
    /// No units: every device reaches memory by physical addresses, unless there is a doubt.
    pub(crate) fn none(doubt: Option<Doubt>) -> Option<Self> {
        let frames = FramePool::new(0)?;
        Some(Self {
            units: Vec::new(),
            serves: Vec::new(),
            doubt,
            frames,
            host_address_bits: 0,
            old: OldRam::default(),
        })
    }

    /// Finds out how a device reaches memory. Behind a unit that was taken over, the device gets a domain of ours, and so
    /// do the `aliases` under which its requests may arrive.
    pub(crate) fn attach(&mut self, function: Function, aliases: &[SourceId]) -> Result<Reach, ReachError> {
        let Some(index) = self.unit_of(function) else { return self.reach_without_unit(function) };
        match &mut self.units[index].fate {
            Fate::Off | Fate::Absent(_) => Ok(Reach::Direct),
            Fate::Lost(_) => Err(ReachError::Lost),
            Fate::TakenOver(unit) => {
                // The unit sees the alias that firmware names, whatever lies on the way.
                let listed =
                    self.serves.get(index).into_iter().flat_map(|serves| serves.aliases_of(function));
                let listed = listed.filter(|alias| !aliases.contains(alias));
                let aliases = collected(aliases.iter().copied().chain(listed)).map_err(AttachError::from)?;
                let attachment = unit.attach(source_of(function), &aliases, &mut self.frames)?;
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
        let has_context =
            |index: usize| self.units.get(index).is_some_and(|unit| unit.has_context_of(function));
        unit_responsible(&self.serves.iter(), self.doubt, has_context, function)
    }

    /// How a device that is behind no known unit reaches memory. Physical addresses are right only if nothing translates:
    /// elsewhere they may lead anywhere in the dead kernel's memory.
    fn reach_without_unit(&self, function: Function) -> Result<Reach, ReachError> {
        if let Some(doubt) = self.doubt {
            return Err(doubt.into());
        }
        let may_translate =
            |unit: &RemappingUnit| u32::from(unit.segment) == function.segment && unit.may_translate();
        if self.units.iter().any(may_translate) { Err(ReachError::NoUnit) } else { Ok(Reach::Direct) }
    }
}

impl RemappingUnit {
    fn may_translate(&self) -> bool {
        !matches!(self.fate, Fate::Off | Fate::Absent(_))
    }

    /// Its takeover, if it was taken over.
    pub(crate) fn taken_over(&self) -> Option<&Takeover<'static, UnitRegisters, WaitClock>> {
        match &self.fate {
            Fate::TakenOver(unit) => Some(unit),
            Fate::Off | Fate::Absent(_) | Fate::Lost(_) => None,
        }
    }

    /// Whether it was taken over with a context for this function.
    fn has_context_of(&self, function: Function) -> bool {
        let Some(unit) = self.taken_over() else { return false };
        let contexts = unit.report().contexts.iter().map(|context| context.source);
        has_context_of(function, self.segment.into(), contexts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acpi::AcpiError;
    use vtd::dmar::Dmar;

    const DISK: Function = Function { segment: 0, bus: 0, devfn: 0x10 };

    /// Units of segment 0, each with its flags and fate; none names a function.
    fn remapping(units: Vec<(u8, Fate)>, doubt: Option<Doubt>) -> Remapping {
        let mut remapping = Remapping::none(doubt).unwrap();
        for (flags, fate) in units {
            let mut table =
                [b"DMAR\x40\0\0\0".as_slice(), &[0; 40], &[0, 0, 16, 0, flags], &[0; 11]].concat();
            table[9] = table.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
            let drhd = Dmar::parse(&table).unwrap().units().next().unwrap();
            remapping.serves.push(Serves::new::<fixtures::ConfigSpace>(&drhd, &[]).unwrap());
            let base = PhysicalAddress::new(0xFED9_0000);
            let architecture = Architecture::Vtd;
            remapping.units.push(RemappingUnit {
                architecture,
                base,
                segment: 0,
                registers: Vec::new(),
                fate,
            });
        }
        remapping
    }

    fn reach(units: Vec<(u8, Fate)>, doubt: Option<Doubt>) -> Result<(), ReachError> {
        remapping(units, doubt).attach(DISK, &[]).map(|reach| assert!(matches!(reach, Reach::Direct)))
    }

    fn lost() -> Fate {
        Fate::Lost(LostError::Map(MapError::NoFrame))
    }

    /// INCLUDE_PCI_ALL.
    const ALL: u8 = 1;

    #[test]
    fn without_a_unit_a_device_gets_physical_addresses_only_if_nothing_translates() {
        assert_eq!(reach(vec![], None), Ok(()));
        for nothing in [Fate::Off, Fate::Absent(LostError::Nowhere(0))] {
            assert_eq!(reach(vec![(0, nothing)], None), Ok(()));
        }
        assert_eq!(reach(vec![(0, lost())], None), Err(ReachError::NoUnit));
        let elsewhere = Function { segment: 1, ..DISK };
        assert!(remapping(vec![(0, lost())], None).attach(elsewhere, &[]).is_ok());
    }

    #[test]
    fn a_doubt_refuses_physical_addresses() {
        for doubt in [Doubt::Hidden(AcpiError::NoPointer), Doubt::Unread] {
            assert_eq!(reach(vec![], Some(doubt)), Err(doubt.into()));
            assert_eq!(reach(vec![(ALL, Fate::Off)], Some(doubt)), Err(doubt.into()));
        }
    }

    #[test]
    fn a_unit_that_is_not_there_translates_nothing() {
        let absent = |why: LostError| (ALL, Fate::Absent(why));
        assert_eq!(reach(vec![absent(LostError::Nowhere(0))], None), Ok(()));
        assert_eq!(reach(vec![(ALL, lost())], None), Err(ReachError::Lost));
        assert!(LostError::from(UnitError::NotThere { register: "VER", value: u64::MAX }).is_absence());
        assert!(!LostError::from(MapError::NoFrame).is_absence());
    }

    #[test]
    fn only_a_sound_table_can_say_that_there_is_no_unit() {
        let nowhere = || LostError::Nowhere(0);
        assert!(matches!(Fate::of_unfound(nowhere(), false), Fate::Lost(LostError::Nowhere(0))));
        assert!(matches!(Fate::of_unfound(nowhere(), true), Fate::Absent(LostError::Nowhere(0))));
        let no_frame = LostError::Map(MapError::NoFrame);
        assert!(matches!(Fate::of_unfound(no_frame, true), Fate::Lost(_)));
    }
}
