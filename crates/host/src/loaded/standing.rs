//! Whose crash kernel is loaded, and whether it still fits what it was made for.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{LoadNote, checksum};
use crate::areas::FoundArea;
use crate::clock::Ago;
use crate::iomem;

/// The files in which the kernel says that it keeps a loaded crash kernel up to date itself when processors or memory come or go
/// (Documentation/ABI/testing/sysfs-devices-system-cpu and sysfs-devices-memory).
const KEPT_UP: [&str; 2] =
    ["/sys/devices/system/cpu/crash_hotplug", "/sys/devices/system/memory/crash_hotplug"];

/// Whose crash kernel is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// None is.
    Nothing,
    /// One that `holdover load` did not load since this boot.
    Foreign,
    /// Not the one that `holdover load` loaded: the reservation has other content.
    Replaced(Ago),
    /// The one that was loaded, but its surroundings have changed: these.
    Stale(Ago, Vec<String>),
    /// The one that was loaded.
    Ours(Ago),
    /// One was loaded, and the kernel does not show whether it is still the same.
    Unseen(Ago),
}

/// Who writes to the reservation after a crash kernel was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// Nobody: other content is another crash kernel.
    Nobody,
    /// The kernel, when processors or memory come or go.
    Kernel,
}

impl Upkeep {
    /// As the running kernel tells.
    pub(super) fn now() -> Self {
        let is_on = |file| fs::read_to_string(file).is_ok_and(|value| value.trim() == "1");
        if KEPT_UP.into_iter().any(is_on) { Self::Kernel } else { Self::Nobody }
    }
}

/// What a loaded capture kernel depends on. `None` and empty lists are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Surroundings {
    /// Ranges of RAM, as in `/proc/iomem`.
    memory: Vec<String>,
    /// The processors that there are, as in `/sys`.
    processors: String,
    /// Checksum of the image's file.
    pub(super) image: Option<u64>,
    /// Checksums of the fallback kernel's files.
    #[serde(default)]
    fallback: Vec<Option<u64>>,
    /// Byte of its disk at which each dump area begins; `None` for one that is not found.
    area_offsets: Vec<Option<u64>>,
}

impl LoadNote {
    /// Compares this note with what is there now.
    pub(super) fn standing(
        &self,
        reservation: Option<u64>,
        upkeep: Upkeep,
        now: &Surroundings,
        at: u64,
    ) -> Standing {
        let ago = Ago::since(self.at, at);
        let changes = self.made_for.changes(now);
        let may_be_the_kernels = upkeep == Upkeep::Kernel && !changes.is_empty();
        match (self.reservation, reservation) {
            (Some(then), Some(now)) if then != now && !may_be_the_kernels => Standing::Replaced(ago),
            _ if !changes.is_empty() => Standing::Stale(ago, changes),
            (Some(_), Some(_)) => Standing::Ours(ago),
            _ => Standing::Unseen(ago),
        }
    }
}

impl Surroundings {
    /// What a capture kernel that is loaded now for dumps to these areas depends on.
    pub(super) fn now(image: &Path, fallback: &[PathBuf], areas: &[Uuid], found: &[FoundArea]) -> Self {
        let offset = |uuid: &Uuid| {
            let area = found.iter().find(|found| found.label.uuid == *uuid)?;
            Some(area.locate().ok()?.offset)
        };
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            memory: memory(&read(iomem::FILE)),
            processors: read("/sys/devices/system/cpu/present").trim().to_owned(),
            image: checksum_of(image),
            fallback: fallback.iter().map(|file| checksum_of(file)).collect(),
            area_offsets: areas.iter().map(offset).collect(),
        }
    }

    /// What is no longer as it was, in words. What was or is unknown is not compared.
    fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if !self.memory.is_empty() && !now.memory.is_empty() && self.memory != now.memory {
            changes.push("memory was added or removed".into());
        }
        if !now.processors.is_empty() && self.processors != now.processors {
            changes.push(format!("the processors were {}, and are {}", self.processors, now.processors));
        }
        if self.image != now.image && now.image.is_some() {
            changes.push("the image's file is another".into());
        }
        let mut files = self.fallback.iter().zip(&now.fallback);
        if files.any(|(then, now)| then != now && now.is_some()) {
            changes.push("a file of the fallback kernel is another".into());
        }
        let mut offsets = self.area_offsets.iter().zip(&now.area_offsets);
        if offsets.any(|(then, now)| then != now && now.is_some()) {
            changes.push("a dump area is elsewhere on its disk".into());
        }
        changes
    }
}

/// All RAM, hot-added memory too; nothing if the kernel hides it from this user.
fn memory(iomem: &str) -> Vec<String> {
    let ranges = iomem::named(iomem, |name| name.starts_with("System RAM"));
    let shown = ranges.filter(|range| range.contains(|digit| !matches!(digit, '0' | '-')));
    shown.map(str::to_owned).collect()
}

/// The checksum of a file; `None` if it cannot be read.
fn checksum_of(file: &Path) -> Option<u64> {
    fs::read(file).ok().map(|bytes| checksum(&bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::loaded::area::AreaPlace;

    fn surroundings() -> Surroundings {
        let memory = memory("00001000-0009fbff : System RAM\n00100000-3ffdbfff : System RAM\n");
        let fallback = vec![Some(3), None];
        Surroundings {
            memory,
            processors: "0-1".into(),
            image: Some(1),
            fallback,
            area_offsets: vec![Some(0)],
        }
    }

    pub(in crate::loaded) fn note() -> LoadNote {
        let (boot, areas) = (Uuid::from_u128(1), vec![Uuid::from_u128(2)]);
        let image = "/boot/holdover.bzImage".into();
        LoadNote {
            boot,
            at: 1000,
            image,
            command_line: String::new(),
            areas,
            devices: vec!["/dev/vda1".into()],
            places: vec![Some(AreaPlace {
                disk: "vda".into(),
                offset: 1 << 20,
                identity: None,
                volume: None,
            })],
            fallback: Vec::new(),
            made_for: surroundings(),
            reservation: Some(7),
        }
    }

    #[test]
    fn another_crash_kernel_in_the_reservation_is_told_from_the_one_that_was_loaded() {
        let standing = |reservation| note().standing(reservation, Upkeep::Nobody, &surroundings(), 1500);
        assert_eq!(standing(Some(7)), Standing::Ours(Ago::since(0, 500)));
        assert_eq!(standing(Some(8)), Standing::Replaced(Ago::since(0, 500)));
        assert_eq!(standing(None), Standing::Unseen(Ago::since(0, 500)));
    }

    /// Linux from 6.8 on, where it is built so, writes the ranges of memory anew when memory comes or goes.
    #[test]
    fn content_that_the_kernel_may_have_updated_itself_is_no_other_crash_kernel() {
        let standing = |upkeep, now: &Surroundings| note().standing(Some(8), upkeep, now, 1000);
        let grown = Surroundings { processors: "0-3".into(), ..surroundings() };
        assert!(matches!(standing(Upkeep::Kernel, &grown), Standing::Stale(..)));
        assert_eq!(standing(Upkeep::Nobody, &grown), Standing::Replaced(Ago::since(0, 0)));
        assert_eq!(standing(Upkeep::Kernel, &surroundings()), Standing::Replaced(Ago::since(0, 0)));
    }

    #[test]
    fn memory_and_processors_that_came_or_went_make_it_stale() {
        let standing = |now: &Surroundings| note().standing(Some(7), Upkeep::Nobody, now, 1000);
        let more = memory("00100000-3ffdbfff : System RAM\n100000000-13fffffff : System RAM (virtio_mem)\n");
        let now = Surroundings { memory: more, processors: "0-3".into(), ..surroundings() };
        let Standing::Stale(_, changes) = standing(&now) else { panic!("{:?}", standing(&now)) };
        assert_eq!(changes, ["memory was added or removed", "the processors were 0-1, and are 0-3"]);
        let now = Surroundings {
            image: Some(2),
            fallback: vec![Some(4), Some(5)],
            area_offsets: vec![Some(4096)],
            ..surroundings()
        };
        let Standing::Stale(_, changes) = standing(&now) else { panic!("{:?}", standing(&now)) };
        let expected = [
            "the image's file is another",
            "a file of the fallback kernel is another",
            "a dump area is elsewhere on its disk",
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn what_a_user_may_not_see_is_not_called_a_change() {
        let memory = memory("00000000-00000000 : System RAM\n");
        let now = Surroundings {
            memory,
            image: None,
            fallback: vec![None, None],
            area_offsets: vec![None],
            ..surroundings()
        };
        assert_eq!(note().standing(None, Upkeep::Nobody, &now, 1000), Standing::Unseen(Ago::since(0, 0)));
    }
}
