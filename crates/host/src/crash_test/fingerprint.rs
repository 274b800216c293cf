//! What crashed in a test: what it showed holds as long as this stays.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::verdict::Evidence;
use crate::areas::{AreaError, AreaName, FoundArea};
use crate::sysfs::{self, Location};
use crate::{areas, loaded};

/// A host as far as a crash depends on it. What is `None` or empty is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    /// Release and version of the running kernel.
    kernel: String,
    /// Checksum of its notes, which have its build id.
    build: Option<u64>,
    /// Its command line.
    running: String,
    /// Checksum of the capture kernel's image.
    image: Option<u64>,
    /// The capture kernel's command line.
    command_line: String,
    /// Where dumps go, in their order.
    areas: Vec<AreaPrint>,
}

/// A dump area, and what it is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AreaPrint {
    uuid: Uuid,
    /// The device, or the file.
    device: PathBuf,
    /// The disk, by what stays over a boot: its controller's function, and its serial number.
    disk: Option<String>,
    /// Byte of the disk at which the area begins.
    offset: Option<u64>,
    /// How many dumps were begun in it.
    dumps: Option<u64>,
}

impl Fingerprint {
    /// This host's.
    pub(super) fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let loaded = loaded::kernel();
        let areas = loaded.iter().flat_map(|loaded| &loaded.areas);
        Self {
            kernel: format!("{} {}", read("/proc/sys/kernel/osrelease"), read("/proc/sys/kernel/version")),
            build: fs::read("/sys/kernel/notes").ok().map(|notes| loaded::checksum(&notes)),
            running: read("/proc/cmdline"),
            image: loaded.as_ref().and_then(|loaded| loaded.image),
            command_line: loaded.as_ref().map(|loaded| loaded.command_line.clone()).unwrap_or_default(),
            areas: areas.map(|area| AreaPrint::of(area.uuid, &area.device)).collect(),
        }
    }

    /// What is no longer as it was, in words. What was or is unknown is not compared.
    pub(super) fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.kernel != now.kernel {
            changes.push(format!("the kernel was {}, and is {}", self.kernel, now.kernel));
        } else if differ(self.build.as_ref(), now.build.as_ref()) {
            changes.push("the kernel has the same version, and was built anew".to_owned());
        }
        if self.running != now.running {
            changes.push("the kernel's command line is another".to_owned());
        }
        if differ(self.image.as_ref(), now.image.as_ref()) {
            changes.push("the capture kernel's image is another".to_owned());
        }
        let is_told = !self.command_line.is_empty() && !now.command_line.is_empty();
        if is_told && self.command_line != now.command_line {
            changes.push("the capture kernel's command line is another".to_owned());
        }
        if !now.areas.is_empty() {
            changes.extend(self.changed_areas(now));
        }
        changes
    }

    fn changed_areas<'a>(&'a self, now: &'a Self) -> impl Iterator<Item = String> + 'a {
        let change = |area: &AreaPrint| {
            let Some(now) = now.areas.iter().find(|now| now.uuid == area.uuid) else {
                return Some(format!("dumps no longer go to {}", area.device.display()));
            };
            area.change(now)
        };
        let is_new = |now: &&AreaPrint| self.areas.iter().all(|area| area.uuid != now.uuid);
        let new = now.areas.iter().filter(is_new);
        let new = new.map(|now| format!("dumps go to {} too", now.device.display()));
        self.areas.iter().filter_map(change).chain(new)
    }

    /// Looks at what the areas hold now, a log with `mark` in it or something else; and says which cannot be looked at.
    pub(super) fn evidence(&self, mark: &str) -> (Vec<Evidence>, Vec<String>) {
        let (mut evidence, mut unread) = (Vec::new(), Vec::new());
        for area in &self.areas {
            match area.evidence(mark) {
                Ok(one) => evidence.push(one),
                Err(error) => unread.push(format!("{}: {error}", area.device.display())),
            }
        }
        (evidence, unread)
    }
}

/// Whether both are known, and not the same.
fn differ<T: PartialEq>(then: Option<&T>, now: Option<&T>) -> bool {
    then.zip(now).is_some_and(|(then, now)| then != now)
}

impl AreaPrint {
    fn of(uuid: Uuid, device: &Path) -> Self {
        let found = FoundArea::again(device, uuid).ok();
        let location = found.as_ref().and_then(|found| found.locate().ok());
        let dumps = found.as_ref().and_then(|found| Some(found.open().ok()?.read_seal().ok()?.sequence));
        Self {
            uuid,
            device: device.to_owned(),
            disk: location.as_ref().map(disk),
            offset: location.map(|location| location.offset),
            dumps,
        }
    }

    /// What has changed, in words.
    fn change(&self, now: &Self) -> Option<String> {
        let device = self.device.display();
        if self.device != now.device {
            return Some(format!("the area on {device} is on {} now", now.device.display()));
        }
        if differ(self.disk.as_ref(), now.disk.as_ref()) {
            return Some(format!("{device} is on another disk"));
        }
        let moved = differ(self.offset.as_ref(), now.offset.as_ref());
        moved.then(|| format!("{device} is elsewhere on its disk"))
    }

    /// Disks may have other names after a boot: the area is found by its UUID then.
    fn find(&self) -> Result<FoundArea, AreaError> {
        areas::find(&AreaName::Device(self.device.clone()))
            .ok()
            .filter(|found| found.label.uuid == self.uuid)
            .map_or_else(|| areas::find(&AreaName::Uuid(self.uuid)), Ok)
    }

    fn evidence(&self, mark: &str) -> Result<Evidence, String> {
        let found = self.find().map_err(|error| error.to_string())?;
        let mut area = found.open().map_err(|error| error.to_string())?;
        let seal = area.read_seal().map_err(|error| error.to_string())?;
        let log = area.read_log(&seal).ok().flatten();
        let has_mark = |text: &[u8]| text.windows(mark.len()).any(|window| window == mark.as_bytes());
        Ok(Evidence {
            device: found.device.clone(),
            is_new: self.dumps.is_none_or(|dumps| seal.sequence > dumps),
            has_mark: log.map(|log| has_mark(&log.text)),
            state: seal.state,
            has_dump: seal.has_dump(),
        })
    }
}

/// What tells a disk from others after a boot too.
fn disk(location: &Location) -> String {
    let folder = Path::new(sysfs::SYS).join("class/block").join(&location.disk);
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned());
    let mut identities = ["wwid", "device/wwid", "serial", "device/serial"].into_iter().filter_map(read);
    let identity = identities.find(|identity| !identity.is_empty());
    let controller = location.controller.as_ref().map(|controller| controller.function.to_string());
    [controller, identity].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use area::{Completeness, SealState};
    use dumpfile::BlockFile;
    use machine::BlockDevice as _;

    use super::*;

    fn host() -> Fingerprint {
        let area = AreaPrint {
            uuid: Uuid::from_u128(1),
            device: "/dev/vdb".into(),
            disk: Some("0000:00:04.0 abc".into()),
            offset: Some(1 << 20),
            dumps: Some(3),
        };
        Fingerprint {
            kernel: "6.1.0-57-amd64 #1 SMP".into(),
            build: Some(1),
            running: "quiet".into(),
            image: Some(2),
            command_line: "holdover.level=31".into(),
            areas: vec![area],
        }
    }

    #[test]
    fn each_change_is_told_and_what_is_unknown_is_none() {
        assert_eq!(host().changes(&host()), [""; 0]);
        let unknown = Fingerprint {
            build: None,
            image: None,
            command_line: String::new(),
            areas: Vec::new(),
            ..host()
        };
        assert_eq!(host().changes(&unknown), [""; 0], "nothing is loaded yet");
        let mut now = host();
        now.kernel = "6.1.0-58-amd64 #1 SMP".into();
        now.running = "quiet iommu=pt".into();
        now.image = Some(3);
        now.command_line = "holdover.level=1".into();
        now.areas[0].disk = Some("0000:00:05.0 abc".into());
        let changes = host().changes(&now);
        assert_eq!(
            changes,
            [
                "the kernel was 6.1.0-57-amd64 #1 SMP, and is 6.1.0-58-amd64 #1 SMP",
                "the kernel's command line is another",
                "the capture kernel's image is another",
                "the capture kernel's command line is another",
                "/dev/vdb is on another disk",
            ]
        );
        let mut now = host();
        now.build = Some(5);
        now.areas[0].uuid = Uuid::from_u128(2);
        let changes = host().changes(&now);
        assert_eq!(
            changes,
            [
                "the kernel has the same version, and was built anew",
                "dumps no longer go to /dev/vdb",
                "dumps go to /dev/vdb too",
            ]
        );
    }

    /// A dump with this log in a file that is an area.
    fn dumped(log: &[u8]) -> (tempfile::TempDir, AreaPrint) {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("area");
        File::create(&device).unwrap().set_len(8 << 20).unwrap();
        let uuid = areas::format(&device, areas::IfUsed::Refuse, Path::new("/")).unwrap().uuid;
        let print = AreaPrint::of(uuid, &device);
        let file = BlockFile::open_exclusive(&device).unwrap();
        let mut dump = area::Area::open(file, 0, uuid).unwrap().begin().unwrap();
        let mut writer = dump.log(log.len() as u64);
        writer.write(log).unwrap();
        writer.store().unwrap();
        dump.write(0, &[1; 4096]).unwrap();
        dump.seal(Completeness::Complete, 4096).unwrap();
        (folder, print)
    }

    #[test]
    fn the_dump_of_a_test_is_known_by_the_mark_in_its_log() {
        let (_folder, print) = dumped(b"[ 1.0] holdover: test 1\n");
        assert_eq!(print.dumps, Some(0));
        let evidence = print.evidence("holdover: test 1").unwrap();
        assert!(evidence.is_new && evidence.has_dump && evidence.has_mark == Some(true), "{evidence:?}");
        assert_eq!(evidence.state, SealState::Complete);
        assert_eq!(print.evidence("holdover: test 2").unwrap().has_mark, Some(false));
    }

    #[test]
    fn an_area_that_is_gone_is_told() {
        let (folder, print) = dumped(b"x");
        drop(folder);
        let host = Fingerprint { areas: vec![print], ..host() };
        let (evidence, unread) = host.evidence("x");
        assert!(evidence.is_empty() && unread.len() == 1, "{unread:?}");
    }
}
