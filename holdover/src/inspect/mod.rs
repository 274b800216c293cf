//! `holdover inspect`: shows what the capture kernel found and did, and which memory devices could reach.

mod dmar;
mod ivrs;
mod text;

use std::path::PathBuf;

use anyhow::{Result, bail};
use host::inspect::{DeviceName, Hex, InspectRequest, decode_dmar, decode_ivrs, inspect};

use crate::report::Report;

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A dump that Holdover's capture kernel wrote
    #[arg(required_unless_present_any = ["dmar", "ivrs"])]
    dump: Option<PathBuf>,
    /// Only the remapping unit whose registers are at this physical address
    #[arg(long, value_name = "BASE")]
    unit: Option<Hex>,
    /// Which memory this device could reach
    #[arg(long, value_name = "[SSSS:]BB:DD.F[/PASID]")]
    device: Option<DeviceName>,
    /// Which devices could reach the page at this physical address
    #[arg(long, value_name = "PHYSICAL")]
    address: Option<Hex>,
    /// Decode an ACPI DMAR table, such as /sys/firmware/acpi/tables/DMAR, instead of a dump
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dump", "unit", "device", "address"])]
    dmar: Option<PathBuf>,
    /// Decode an ACPI IVRS table, such as /sys/firmware/acpi/tables/IVRS, instead of a dump
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dump", "unit", "device", "address", "dmar"])]
    ivrs: Option<PathBuf>,
}

/// Reads and walks what was asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<Box<dyn Report>> {
    let Arguments { unit, device, address, .. } = *arguments;
    let Arguments { dump, dmar, ivrs, .. } = arguments;
    match (dump, dmar, ivrs) {
        (Some(dump), ..) => {
            Ok(Box::new(inspect(&InspectRequest { dump: dump.clone(), unit, device, address })?))
        }
        (_, Some(table), _) => Ok(Box::new(decode_dmar(table)?)),
        (.., Some(table)) => Ok(Box::new(decode_ivrs(table)?)),
        (None, None, None) => bail!("name a dump, a DMAR table with --dmar, or an IVRS table with --ivrs"),
    }
}
