//! The disks, and whether the capture kernel has a driver for each.

use std::path::{Path, PathBuf};

use super::finding::{Code, Finding, Subject};
use super::machine::{name, text};
use crate::sysfs::{self, Location};

/// Looks at the whole disks among these devices.
pub(super) fn check(devices: &[PathBuf]) -> Finding {
    let is_whole_disk = |location: &Location, device: &Path| location.disk == name(device);
    let disks = devices.iter().filter_map(|device| {
        let location = sysfs::locate(device).ok().filter(|location| is_whole_disk(location, device))?;
        has_medium(&location.disk).then(|| Disk::of(&location))
    });
    judge(&disks.collect::<Vec<_>>())
}

/// Whether a disk has room: an empty drive and an unused loop device have none.
fn has_medium(disk: &str) -> bool {
    let sectors = text(&Path::new(sysfs::SYS).join("class/block").join(disk).join("size"));
    sectors.parse::<u64>().is_ok_and(|sectors| sectors > 0)
}

/// A disk, and what is in the way of a dump to it.
struct Disk {
    name: String,
    /// The function that it is behind, or why it cannot be used.
    reach: Result<String, String>,
}

impl Disk {
    fn of(location: &Location) -> Self {
        let reach = match &location.controller {
            None => Err("is behind no PCI function".to_owned()),
            Some(controller) => match controller.objection() {
                None => Ok(controller.function.to_string()),
                Some(objection) => Err(objection),
            },
        };
        Self { name: location.disk.clone(), reach }
    }
}

fn judge(disks: &[Disk]) -> Finding {
    let usable = disks.iter().filter_map(|disk| Some((&disk.name, disk.reach.as_ref().ok()?)));
    let usable: Vec<_> = usable.map(|(name, function)| format!("{name} behind {function}")).collect();
    let others = disks.iter().filter_map(|disk| Some((&disk.name, disk.reach.as_ref().err()?)));
    let others: Vec<_> = others.map(|(name, objection)| format!("not {name}: {objection}")).collect();
    let found = [usable.as_slice(), &others].concat().join("; ");
    if usable.is_empty() {
        let found = if found.is_empty() { "none".to_owned() } else { found };
        let remedy = "add a disk of NVMe, AHCI, virtio or VMware's pvscsi; README's table lists them";
        return Finding::missing(Code::NoUsableDisk, found, remedy);
    }
    Finding::ok(Subject::Disks, found)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn one_disk_with_a_driver_suffices_and_each_other_one_is_named_with_its_reason() {
        let disk = |name: &str, reach: Result<&str, &str>| Disk {
            name: name.into(),
            reach: reach.map(str::to_owned).map_err(str::to_owned),
        };
        let (good, bad) = (disk("vda", Ok("0000:00:04.0")), disk("sda", Err("no driver")));
        let finding = judge(&[bad, good]);
        assert_eq!(
            (finding.state, finding.found.as_str()),
            (State::Ok, "vda behind 0000:00:04.0; not sda: no driver")
        );
        assert_eq!(judge(&[disk("sda", Err("no driver"))]).state, State::Missing);
        assert_eq!(judge(&[]).found, "none");
    }
}
