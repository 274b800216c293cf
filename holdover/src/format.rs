//! `holdover format`: makes a disk, a partition or a file a dump area.

use std::path::PathBuf;

use anyhow::Result;
use host::Bytes;
use host::areas::{self, FormatError, Formatted, IfUsed};
use serde_json::{Value, json};

use crate::embedded;
use crate::progress::Bar;
use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Disk, partition or file; all that is on it is lost
    device: PathBuf,
    /// Make a file of this size (such as 2G) on ext4, xfs or btrfs: no partition is needed
    #[arg(long, value_name = "SIZE")]
    size: Option<Bytes>,
    /// Overwrite what looks used
    #[arg(long)]
    force: bool,
    /// With --force, give up a dump that was not collected
    #[arg(long, requires = "force")]
    discard_dump: bool,
    /// Note in this folder instead of / that the area is this system's
    #[arg(long, value_name = "FOLDER", default_value = "/", hide_default_value = true)]
    root: PathBuf,
}

/// Makes the device a dump area.
pub(crate) fn run(arguments: &Arguments) -> Result<Formatted, FormatError> {
    let if_used = match (arguments.force, arguments.discard_dump) {
        (false, _) => IfUsed::Refuse,
        (true, false) => IfUsed::Overwrite,
        (true, true) => IfUsed::DiscardDump,
    };
    match arguments.size {
        Some(Bytes(bytes)) => {
            areas::format_file(&arguments.device, bytes, if_used, &arguments.root, &Bar::of_bytes())
        }
        None => areas::format(&arguments.device, if_used, &arguments.root),
    }
}

/// What stands in the way of a dump to this area.
fn warning(formatted: &Formatted) -> Option<String> {
    let objection = formatted.objection.as_ref()?;
    Some(format!("{objection}; on this machine `holdover load` will refuse the area"))
}

/// The command that loads for this area.
fn load(formatted: &Formatted, embedded: Option<&[u8]>) -> String {
    let image = if embedded.is_some() { "" } else { " --image IMAGE" };
    format!("holdover load{image} --area {}", formatted.name)
}

impl Report for Formatted {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![
            row("dump area", self.uuid.to_string()),
            row("device", self.device.display().to_string()),
            row("room for a dump", Bytes(self.capacity).to_string()),
            row("next", format!("holdover setup --area {}", self.name)),
            row("by hand", load(self, embedded::image())),
        ];
        rows.extend(warning(self).map(|warning| row("warning", warning)));
        rows
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({
            "uuid": self.uuid,
            "device": self.device,
            "bytes": self.bytes,
            "capacity": self.capacity,
            "warnings": warning(self).into_iter().collect::<Vec<_>>(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use host::areas::AreaName;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_disk_that_the_capture_kernel_cannot_write_to_is_warned_of() {
        let formatted = |objection: Option<&str>| Formatted {
            uuid: Uuid::nil(),
            name: AreaName::Uuid(Uuid::nil()),
            device: "/dev/vda".into(),
            bytes: 1 << 30,
            capacity: 1 << 29,
            objection: objection.map(str::to_owned),
        };
        let legacy = formatted(Some("0000:00:04.0 is a virtio device without VIRTIO_F_VERSION_1"));
        assert!(legacy.text().contains("warning") && legacy.text().contains("VIRTIO_F_VERSION_1"));
        assert_eq!(legacy.json().unwrap()["warnings"].as_array().unwrap().len(), 1);
        assert!(!formatted(None).text().contains("warning"));
        assert!(formatted(None).text().contains("holdover setup --area 00000000-"));
        assert!(!load(&legacy, Some(b"an image")).contains("--image"), "there is one inside");
        assert!(load(&legacy, None).contains("--image IMAGE"));
    }
}
