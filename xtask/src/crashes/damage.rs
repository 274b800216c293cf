//! Damages the dead kernel's tables from outside the guest, between the panic and the takeover.

use anyhow::{Context, Result};
use clap::ValueEnum;
use machine::Range;
use serde::Serialize;

use crate::machines::ram::Ram;
use crate::machines::reserved::Reserved;
use crate::machines::scenario::device::Device;
use crate::witnesses::tables::Tables;

/// Far above the memory of any bench machine, and within the width of its addresses.
const BEYOND_MEMORY: u64 = 0x70_0000_0000;
/// Registers of QEMU's remapping units, of Intel's and of AMD's.
const UNIT: u64 = 0xfed9_0000;
const UNIT_OF_AMD: u64 = 0xfed8_0000;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Every I/O address.
const EVERYTHING: Range<u64> = Range::new(0, u64::MAX);

/// What is damaged. The victim is a device that does not rest, or the dump's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Damage {
    /// A context or device table entry leads to tables beyond memory.
    ContextBeyondMemory,
    /// A context or device table entry has bits that must be zero.
    ContextReservedBits,
    /// A context entry says that its tables have five levels, which the unit does not know; a device table entry, that they have seven.
    ContextWrongWidth,
    /// The context entry of the dump's disk leads to tables beyond memory.
    DiskContext,
    /// A PASID directory entry leads into the capture kernel.
    PasidTableInCaptureKernel,
    /// A page table's entry leads to the unit's registers.
    TableInRegisters,
    /// A page table's entry leads into the capture kernel.
    TableInCaptureKernel,
    /// A page table's entry leads back to the table that it is in.
    TableLoop,
    /// A page in use is now one of the capture kernel's.
    PageInCaptureKernel,
    /// Every entry of every table but the last leads on: at four levels, to 134 million tables.
    FanOut,
}

/// The required result of the victim's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They fault.
    Closed,
    /// Hardware can follow the damaged tables, and so may the copy: requests succeed or fault.
    Open,
}

/// The damage that was done, and to which device.
#[derive(Clone, Debug)]
pub(crate) struct Wound {
    /// The victim's source-id.
    pub(crate) source: u16,
    /// I/O addresses that go through what was damaged.
    pub(crate) iovas: Range<u64>,
    /// The required result of requests for these.
    pub(crate) fate: Fate,
    /// Words that were overwritten: address, and content before.
    pub(crate) words: Vec<(u64, u64)>,
}

impl Wound {
    /// Whether a request goes through what was damaged.
    pub(crate) fn concerns(&self, source: u16, iova: u64) -> bool {
        self.source == source && self.iovas.contains(iova)
    }
}

impl Damage {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The device that is damaged.
    pub(crate) fn victim(self) -> Device {
        match self {
            Self::DiskContext => Device::DUMP_DISK,
            // The USB controller would do, but it asks again so often that the emulator is busy with its faults for minutes.
            Self::ContextReservedBits | Self::ContextWrongWidth => Device::NETWORK,
            _ => Device::SOUND,
        }
    }

    /// Overwrites the tables in `ram`. `iova` is an address that the victim uses.
    pub(crate) fn inflict(self, ram: &Ram, dead: &Tables, reserved: &Reserved, iova: u64) -> Result<Wound> {
        let source = self.victim().source_id();
        let words =
            self.words(ram, dead, reserved, iova).context("the victim's tables are not as expected")?;
        // The path is lost with the damage.
        let covered = dead.covered(source, iova);
        let before = words.iter().map(|&(at, _)| Ok((at, ram.read_u64(at)?))).collect::<Result<_>>()?;
        words.iter().try_for_each(|&(at, value)| ram.write_u64(at, value))?;
        let iovas = self.iovas(iova, &covered);
        Ok(Wound { source, iovas, fate: self.fate(), words: before })
    }

    /// The words to write: addresses and new contents.
    fn words(self, ram: &Ram, dead: &Tables, reserved: &Reserved, iova: u64) -> Option<Vec<(u64, u64)>> {
        let source = self.victim().source_id();
        let context = dead.context_entry(source)?;
        let path = dead.path(source, iova);
        let [.., above_leaf, leaf] = path[..] else { return None };
        let word = |at| ram.read_u64(at).ok();
        let leading = |at, to| Some((at, word(at)? & !ADDRESS | to));
        let inside = middle(reserved)?;
        let of_amd = dead.is_of_amd();
        let one = match self {
            Self::ContextBeyondMemory | Self::DiskContext => leading(context, BEYOND_MEMORY),
            // AMD I/O virtualization technology specification, section 2.2.2.1: bits 6:2 are reserved, a mode of 7 is.
            Self::ContextReservedBits if of_amd => Some((context, word(context)? | 1 << 3)),
            Self::ContextReservedBits => Some((context + 8, word(context + 8)? | 1 << 40)),
            Self::ContextWrongWidth if of_amd => Some((context, word(context)? | 7 << 9)),
            Self::ContextWrongWidth => Some((context + 8, word(context + 8)? & !7 | 3)),
            Self::PasidTableInCaptureKernel => leading(word(context)? & ADDRESS, inside),
            Self::TableInRegisters => leading(above_leaf, if of_amd { UNIT_OF_AMD } else { UNIT }),
            Self::TableInCaptureKernel => leading(above_leaf, inside),
            Self::TableLoop => leading(above_leaf, above_leaf & ADDRESS),
            Self::PageInCaptureKernel => leading(leaf, inside),
            Self::FanOut => return Some(fan_out(ram, &path)),
        };
        Some(vec![one?])
    }

    /// The I/O addresses that go through the damaged word. `covered` is how many go through each entry on the way to the page.
    fn iovas(self, iova: u64, covered: &[u64]) -> Range<u64> {
        let size = match (self, covered) {
            (Self::TableInRegisters | Self::TableInCaptureKernel | Self::TableLoop, [.., above, _]) => *above,
            (Self::PageInCaptureKernel, [.., page]) => *page,
            _ => return EVERYTHING,
        };
        let start = iova & !(size - 1);
        Range::new(start, start + size)
    }

    fn fate(self) -> Fate {
        match self {
            Self::TableLoop | Self::FanOut => Fate::Open,
            _ => Fate::Closed,
        }
    }

    /// The word with which Holdover must report the victim's outcome; none if its tables can be followed as they are.
    pub(crate) fn outcome(self) -> Option<&'static str> {
        match self {
            Self::TableInRegisters | Self::TableInCaptureKernel | Self::PageInCaptureKernel => Some("fenced"),
            Self::TableLoop | Self::FanOut => None,
            _ => Some("blocked"),
        }
    }
}

/// A page of the capture kernel that is neither its image nor what the loader put behind it.
fn middle(reserved: &Reserved) -> Option<u64> {
    let piece = reserved.pieces().last()?;
    Some((piece.start + piece.len() / 2) & ADDRESS)
}

/// Makes all entries of the tables on a path, except those of the last table, lead where the one on the path leads.
fn fan_out(ram: &Ram, path: &[u64]) -> Vec<(u64, u64)> {
    let tables = path.iter().take(path.len().saturating_sub(1));
    let copied = tables.filter_map(|&entry| Some((entry & ADDRESS, ram.read_u64(entry).ok()?)));
    copied.flat_map(|(table, entry)| (0..512).map(move |index| (table + index * 8, entry))).collect()
}
