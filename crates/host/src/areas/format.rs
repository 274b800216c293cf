//! `holdover format`: makes a disk, a partition or a file a dump area.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use area::{Area, Label};
use machine::BlockDevice;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::signature;
use crate::areas;
use crate::report::{self, Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Disk, partition or file; all that is on it is lost
    device: PathBuf,
    /// Overwrite what looks used
    #[arg(long)]
    force: bool,
}

/// A new dump area.
#[derive(Serialize)]
pub struct Formatted {
    uuid: Uuid,
    device: PathBuf,
    bytes: u64,
    capacity: u64,
}

/// Makes the device a dump area.
pub fn run(arguments: &Arguments) -> Result<Formatted> {
    let device = &arguments.device;
    let mut file = areas::open_to_format(device)?;
    if let Some(found) = signature::find(&mut file)?.filter(|_| !arguments.force) {
        bail!("{} holds {found}; `--force` overwrites it", device.display());
    }
    let length = file.size() / area::BLOCK * area::BLOCK;
    let label = Label { uuid: random_uuid()?, length, created: now()? };
    let area = Area::format(file, 0, label).with_context(|| format!("cannot format {}", device.display()))?;
    let capacity = area.label().capacity();
    Ok(Formatted { uuid: label.uuid, device: device.clone(), bytes: length, capacity })
}

/// A random UUID by the kernel.
fn random_uuid() -> Result<Uuid> {
    const SOURCE: &str = "/proc/sys/kernel/random/uuid";
    let text =
        fs::read_to_string(SOURCE).with_context(|| format!("cannot read {SOURCE}; is /proc mounted?"))?;
    text.trim().parse().with_context(|| format!("{SOURCE} holds no UUID"))
}

/// Seconds since 1970.
fn now() -> Result<u64> {
    Ok(SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs())
}

impl Report for Formatted {
    fn rows(&self) -> Vec<Vec<String>> {
        vec![
            row("dump area", self.uuid.to_string()),
            row("device", self.device.display().to_string()),
            row("room for a dump", report::size(self.capacity)),
            row("next", format!("holdover load --image IMAGE --area {}", self.uuid)),
        ]
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }
}
