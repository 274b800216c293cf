//! The areas that a dump goes to.

use super::finding::{Code, Finding, State, Subject};
use super::rights::Rights;
use crate::areas::registry::Registry;
use crate::areas::search::{self, Candidate, OwnAreas};
use crate::areas::{self, AreaError, AreaName, FoundArea};
use crate::loaded::area::LoadedArea;
use crate::{Bytes, chain, config};

/// The areas of this host, and what could be mistaken for them.
#[derive(Debug, Default)]
pub(super) struct Areas {
    /// How many of all must be ready.
    pub(super) asked: usize,
    /// Those that a crash is or would be dumped to, then others of this host, then those of others.
    pub(super) all: Vec<FoundArea>,
    /// Why what should be an area of this host is none.
    pub(super) lost: Vec<AreaError>,
}

impl Areas {
    /// Looks for them.
    pub(super) fn of_host(loaded: &[LoadedArea], configured: &[AreaName]) -> Result<Self, AreaError> {
        let mut areas = named(loaded);
        let files = Registry::of_host().files();
        let files = files.iter().filter_map(|file| search::noted(file).ok());
        let configured_areas = configured.iter().filter_map(|name| areas::find(name).ok());
        areas.all.extend(configured_areas.chain(files));
        areas.add(search::candidates()?, &OwnAreas::of_host(configured));
        Ok(areas)
    }

    /// Adds what was found on disks. What is another's must not be ready, but may be a copy.
    fn add(&mut self, candidates: Vec<Candidate>, own: &OwnAreas) {
        let is_own: Vec<_> = candidates.iter().map(|one| own.has(one, &candidates)).collect();
        let mut foreign = Vec::new();
        for (Candidate { found, .. }, is_own) in candidates.into_iter().zip(is_own) {
            match found {
                Ok(found) if is_own => self.all.push(found),
                Ok(found) => foreign.push(found),
                Err(error) if is_own && error.tells_of_a_label() => self.lost.push(error),
                Err(_) => {}
            }
        }
        // Those that a crash will be dumped to are asked; if nothing is loaded, the first that there is.
        self.asked = self.asked.max(1).min(self.all.len());
        self.all.extend(foreign);
    }
}

/// Finds the areas that the capture kernel was loaded for, and those of them that are lost.
fn named(loaded: &[LoadedArea]) -> Areas {
    let mut areas = Areas::default();
    for LoadedArea { uuid, device, .. } in loaded {
        match FoundArea::again(device, *uuid) {
            Ok(area) => areas.all.push(area),
            Err(error) if error.is_forbidden() => {}
            Err(error) => areas.lost.push(error),
        }
    }
    areas.asked = areas.all.len();
    areas
}

/// The areas that the configuration names, and that no dump goes to: they may not have been there.
pub(super) fn left_out(configured: &[AreaName], loaded: &[LoadedArea]) -> Option<Finding> {
    let is_there = |name: &&AreaName| match loaded {
        [] => areas::find(name).is_ok(),
        loaded => loaded.iter().any(|area| area.is_named(name)),
    };
    let told = |name: &AreaName| match areas::find(name) {
        Err(error) if error.is_forbidden() => None,
        Err(error) => Some(format!("{name}: {}", chain(&error))),
        Ok(_) => Some(format!("{name}: it is there, and not loaded")),
    };
    let left_out: Vec<_> = configured.iter().filter(|name| !is_there(name)).filter_map(told).collect();
    let remedy = format!("once it is there, run `holdover load`, or take it out of {}", config::FILE);
    (!left_out.is_empty()).then(|| Finding::warning(Code::AreaLeftOut, left_out.join("; "), remedy))
}

/// The first `asked` of `areas` must be ready. `unusable` are disks and files that should be areas and are none.
pub(super) fn check(rights: Rights, asked: usize, areas: &[FoundArea], unusable: &[AreaError]) -> Finding {
    if let Some(error) = unusable.first() {
        return unusable_area(error);
    }
    let findings: Vec<_> = areas.iter().take(asked).map(|one| one_area(one, areas)).collect();
    let found = findings.iter().map(|finding| finding.found.as_str()).collect::<Vec<_>>().join("; ");
    if findings.is_empty() {
        return match rights {
            Rights::Root => {
                Finding::missing(Code::AreaAbsent, absent(areas), "make one with `holdover format DEVICE`")
            }
            Rights::User => Finding::unknown(Code::AreaUnseen, "on no disk that this user may read"),
        };
    }
    let bad: Vec<_> = findings.into_iter().filter(|finding| finding.state != State::Ok).collect();
    let Some(code) = bad.first().and_then(|finding| finding.code) else {
        return Finding::ok(Subject::Area, found);
    };
    let remedies: Vec<_> = bad.into_iter().map(|finding| finding.remedy).collect();
    Finding::missing(code, found, remedies.join("; "))
}

/// That there is no area; those of others are none of this host's.
fn absent(foreign: &[FoundArea]) -> String {
    let devices: Vec<_> = foreign.iter().map(|area| area.device.display().to_string()).collect();
    match &devices[..] {
        [] => "on no disk".into(),
        devices => format!(
            "none of this host's; on {} is another's, such as a guest's: neither configured, nor formatted or loaded here",
            devices.join(", ")
        ),
    }
}

fn unusable_area(error: &AreaError) -> Finding {
    match error {
        AreaError::Gone { .. } | AreaError::File(_) => {
            let remedy = "run `holdover unload`: a panic would be dumped to what is in its place; then load with another area";
            Finding::missing(Code::AreaLost, error.to_string(), remedy)
        }
        _ => {
            let remedy = "look at what is there; `holdover format --force DEVICE` makes the area anew";
            Finding::missing(Code::AreaUnusable, error.to_string(), remedy)
        }
    }
}

fn one_area(one: &FoundArea, all: &[FoundArea]) -> Finding {
    let room = Bytes(one.label.capacity());
    let found = format!("{} on {}, {room}", one.label.uuid, one.device.display());
    if let Some(copy) = one.copies(all).next() {
        return Finding::missing(Code::AreaCopied, found, copy.to_string());
    }
    if let Err(error) = one.check_place() {
        return Finding::missing(Code::AreaMoved, found, error.to_string());
    }
    if let Ok(Some(dump)) = one.uncollected() {
        return Finding::missing(Code::AreaHoldsDump, found, dump.to_string());
    }
    let controller = one.locate().ok().and_then(|location| location.controller);
    let Some(controller) = controller else {
        let remedy = "its disk is behind no PCI function; choose another disk";
        return Finding::missing(Code::AreaWithoutDriver, found, remedy);
    };
    match controller.objection() {
        None => Finding::ok(Subject::Area, format!("{found}, behind {}", controller.function)),
        Some(objection) => {
            Finding::missing(Code::AreaWithoutDriver, found, format!("{objection}; choose another disk"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use uuid::Uuid;

    use super::super::finding::AS_ROOT;
    use super::*;
    #[test]
    fn a_copy_of_the_dump_area_is_a_danger() {
        let label = ::area::Label { uuid: Uuid::from_u128(1), length: 1 << 20, created: 0 };
        let on = |device: &str| FoundArea::on_device(device.into(), label);
        let finding = check(Rights::Root, 1, &[on("/dev/vda"), on("/dev/vdb")], &[]);
        assert_eq!(finding.state, State::Missing);
        assert!(finding.remedy.contains("holdover format --force /dev/vdb"), "{}", finding.remedy);
    }

    #[test]
    fn a_user_is_told_what_only_root_can_check() {
        let finding = check(Rights::User, 1, &[], &[]);
        assert_eq!((finding.state, finding.remedy.as_str()), (State::Unknown, AS_ROOT));
        assert_eq!(check(Rights::Root, 1, &[], &[]).state, State::Missing);
    }

    #[test]
    fn a_label_that_cannot_be_is_told() {
        let error = AreaError::Cut { device: "/dev/vdb".into(), length: Bytes(1 << 30) };
        let finding = check(Rights::Root, 1, &[], &[error]);
        assert!(finding.found.contains("/dev/vdb has the label of a dump area"), "{}", finding.found);
    }

    #[test]
    fn an_area_that_the_capture_kernel_was_loaded_for_and_is_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let areas =
            named(&[LoadedArea { uuid: Uuid::nil(), device: folder.path().join("area"), place: None }]);
        assert!(areas.all.is_empty());
        let finding = check(Rights::Root, 1, &areas.all, &areas.lost);
        let told = finding.found.contains("is gone") && finding.remedy.contains("holdover unload");
        assert!(told, "{finding:?}");
    }

    fn candidate(device: &str, uuid: u128) -> Candidate {
        let uuid = Uuid::from_u128(uuid);
        let label = ::area::Label { uuid, length: 1 << 20, created: 0 };
        let found = Ok(FoundArea::on_device(device.into(), label));
        Candidate { device: device.into(), uuid: Some(uuid), found }
    }

    /// It may be a guest's.
    #[test]
    fn an_area_of_another_is_not_asked_and_its_damage_is_nothing_of_this_hosts() {
        let mut areas = Areas::default();
        let damaged = AreaError::Cut { device: "/dev/vdb".into(), length: Bytes(1 << 30) };
        let damaged = Candidate { device: "/dev/vdb".into(), uuid: None, found: Err(damaged) };
        areas.add(vec![candidate("/dev/vda", 1), damaged], &OwnAreas::default());
        assert_eq!((areas.asked, areas.all.len(), areas.lost.len()), (0, 1, 0));
        let finding = check(Rights::Root, areas.asked, &areas.all, &areas.lost);
        assert_eq!(finding.code, Some(Code::AreaAbsent));
        assert!(finding.found.contains("on /dev/vda is another's"), "{}", finding.found);
    }

    #[test]
    fn an_area_of_this_host_is_asked_first_and_a_copy_of_it_is_told() {
        let mut areas = Areas::default();
        let own = OwnAreas::new(&["/dev/vdb".parse().unwrap()], [Uuid::from_u128(2)].into());
        areas.add(vec![candidate("/dev/vda", 1), candidate("/dev/vdb", 2)], &own);
        assert_eq!((areas.asked, areas.all[0].device.to_str()), (1, Some("/dev/vdb")));
    }

    #[test]
    fn an_area_that_is_configured_and_not_found_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let finding = left_out(&[AreaName::Device(gone.clone())], &[]).unwrap();
        assert!(finding.found.contains(gone.to_str().unwrap()) && finding.remedy.contains("holdover load"));
        let loaded = LoadedArea { uuid: Uuid::nil(), device: gone.clone(), place: None };
        assert!(left_out(&[AreaName::Device(gone)], &[loaded]).is_none(), "it is told as lost");
        assert!(left_out(&[], &[]).is_none());
    }

    /// The second of two.
    #[test]
    fn each_area_that_the_capture_kernel_was_loaded_for_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let mut areas = Vec::new();
        for name in ["one", "two"] {
            let path = folder.path().join(name);
            fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
            areas::format(&path, areas::IfUsed::Refuse, folder.path()).unwrap();
            areas.push(areas::find(&areas::AreaName::Device(path)).unwrap());
        }
        let file = dumpfile::BlockFile::open_exclusive(&areas[1].device).unwrap();
        let mut dump = ::area::Area::open(file, 0, areas[1].label.uuid).unwrap().begin().unwrap();
        machine::BlockDevice::write(&mut dump, 0, &[1; 4096]).unwrap();
        dump.seal(::area::Completeness::Complete, 4096).unwrap();
        assert!(check(Rights::Root, 2, &areas, &[]).remedy.contains("holdover collect"));
    }
}
