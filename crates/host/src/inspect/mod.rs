//! Shows what the capture kernel found and did, and which memory devices could reach when the kernel died.
//!
//! The record in the dump's notes says what the capture kernel found and did. To find the reachable memory, this
//! module walks the dead kernel's own tables again, which are in the dump.
//!
//! | module | what it is |
//! |---|---|
//! | `dump` | reads the record and the memory from a dump |
//! | `survey` | walks a unit's tables, and keeps a bounded part of what it finds |
//! | `view`, `recorded`, `reached` | the values that are shown, in the form that [`serde`] writes |
//! | `registers` | the meaning of the bits of registers |
//! | `dmar`, `ivrs` | decode the firmware's tables of remapping units, Intel's and AMD's |
//! | `firmware_table` | what both have in common |

mod device;
mod dmar;
mod dump;
mod firmware_table;
mod hex;
mod ivrs;
mod reached;
mod recorded;
mod registers;
mod survey;
mod view;

use std::path::{Path, PathBuf};

use dumpfile::DumpError;
use record::DecodeError;

use self::dump::RecordedDump;
use self::survey::SurveyScope;

pub use self::device::DeviceName;
pub use self::dmar::{DecodedDmar, ScopeView, StructureView, decode_dmar};
pub(crate) use self::dump::find_record;
pub use self::firmware_table::FirmwareTableError;
pub use self::hex::Hex;
pub use self::ivrs::{BlockView, DecodedIvrs, DeviceEntryView, decode_ivrs};
pub use self::reached::{ObstacleView, ReachView, RouteView, RunView, UserView};
pub use self::recorded::{ContextView, DomainView, FaultView, HazardView, TakeoverView};
pub use self::view::{Asked, Inspected, RegisterView, UnitView};

/// What to show of a dump: everything, or the part that is named.
#[derive(Clone, Debug)]
pub struct InspectRequest {
    /// A dump that Holdover's capture kernel wrote, or a kernel to which it handed the machine over.
    pub dump: PathBuf,
    /// Only the remapping unit whose registers are at this physical address.
    pub unit: Option<Hex>,
    /// Only what this device could reach.
    pub device: Option<DeviceName>,
    /// Only who could reach the page at this physical address.
    pub address: Option<Hex>,
}

/// Why a dump cannot be inspected.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum InspectError {
    /// It cannot be read, or is no dump.
    #[error("cannot read {dump}")]
    Read {
        /// Its file.
        dump: PathBuf,
        /// What is wrong with it.
        source: DumpError,
    },
    /// It is a dump, and cannot be inspected.
    #[error("cannot inspect {dump}")]
    NoRecord {
        /// Its file.
        dump: PathBuf,
        /// What is wrong with its record.
        source: RecordError,
    },
    /// No unit of the record is where the request says.
    #[error("the record names no remapping unit at {base}")]
    NoUnit {
        /// The physical address that was asked for.
        base: Hex,
    },
}

/// What is wrong with the record in a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Something else made the dump.
    #[error(
        "no record of a takeover is in it; only dumps that Holdover's capture kernel wrote have one, or a kernel to which it handed over"
    )]
    Missing,
    /// Another version of Holdover wrote it, or it is damaged.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
}

/// Reads the record in an open dump, and walks the tables of all units.
pub(crate) fn inspect_dump(path: &Path, dump: dumpfile::Dump) -> Result<Inspected, RecordError> {
    let dump = RecordedDump::read(path, dump)?;
    Ok(Inspected::everything(&dump))
}

/// Reads the record in a dump, and walks the tables of the units that are asked for.
pub fn inspect(request: &InspectRequest) -> Result<Inspected, InspectError> {
    let dump = RecordedDump::open(&request.dump)?;
    let scope = SurveyScope { device: request.device, address: request.address.map(|Hex(address)| address) };
    Inspected::new(&dump, request.unit, scope)
}
