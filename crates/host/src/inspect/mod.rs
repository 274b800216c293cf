//! `holdover inspect`: what the capture kernel found and did, and which memory devices could reach when the kernel died.
//!
//! The first is the record in the dump's notes, the second is walked anew in the dead kernel's own tables, as they lie in
//! the dump.
//!
//! | module | what it is |
//! |---|---|
//! | `dump` | the record and the memory in a dump |
//! | `survey` | the walk, and what of it is kept |
//! | `view`, `recorded`, `reached` | what is shown, for programs; `text` shows the same to people |
//! | `registers` | what the bits of registers mean |
//! | `dmar` | the firmware's table of remapping units |

mod device;
mod dmar;
mod dump;
mod hex;
mod reached;
mod recorded;
mod registers;
mod survey;
mod text;
mod view;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::report::Report;
use device::DeviceName;
use survey::Wanted;

pub use dump::find_record;

/// What the command is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// A dump that Holdover's capture kernel wrote
    #[arg(required_unless_present = "dmar")]
    dump: Option<PathBuf>,
    /// Only the remapping unit whose registers are at this physical address
    #[arg(long, value_name = "BASE", value_parser = hex::parse)]
    unit: Option<u64>,
    /// Which memory this device could reach
    #[arg(long, value_name = "[SSSS:]BB:DD.F[/PASID]")]
    device: Option<DeviceName>,
    /// Which devices could reach the page at this physical address
    #[arg(long, value_name = "PHYSICAL", value_parser = hex::parse)]
    address: Option<u64>,
    /// Decode an ACPI DMAR table, such as /sys/firmware/acpi/tables/DMAR, instead of a dump
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dump", "unit", "device", "address"])]
    dmar: Option<PathBuf>,
}

/// Reads and walks what was asked for.
pub fn run(arguments: &Arguments) -> Result<Box<dyn Report>> {
    match (&arguments.dmar, &arguments.dump) {
        (Some(table), _) => Ok(Box::new(dmar::run(table)?)),
        (None, Some(dump)) => {
            let wanted = Wanted { device: arguments.device, address: arguments.address };
            let inspected = view::inspect(&dump::Dump::open(dump)?, arguments.unit, wanted)?;
            Ok(Box::new(inspected))
        }
        (None, None) => bail!("name a dump, or a DMAR table with --dmar"),
    }
}
