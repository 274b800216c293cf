//! The areas that a dump goes to.

use super::finding::{Code, Finding, State, Subject};
use super::rights::Rights;
use crate::Bytes;
use crate::areas::{AreaError, FoundArea};
use crate::loaded::LoadedArea;

/// Finds the areas that the capture kernel was loaded for, and those of them that are lost.
pub(super) fn named(loaded: &[LoadedArea]) -> (Vec<FoundArea>, Vec<AreaError>) {
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for LoadedArea { uuid, device, .. } in loaded {
        match FoundArea::again(device, *uuid) {
            Ok(area) => found.push(area),
            Err(error) if error.is_forbidden() => {}
            Err(error) => lost.push(error),
        }
    }
    (found, lost)
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
                Finding::missing(Code::AreaAbsent, "on no disk", "make one with `holdover format DEVICE`")
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
    use crate::areas;

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
        let (found, lost) =
            named(&[LoadedArea { uuid: Uuid::nil(), device: folder.path().join("area"), place: None }]);
        assert!(found.is_empty());
        let finding = check(Rights::Root, 1, &found, &lost);
        let told = finding.found.contains("is gone") && finding.remedy.contains("holdover unload");
        assert!(told, "{finding:?}");
    }

    /// The second of two.
    #[test]
    fn each_area_that_the_capture_kernel_was_loaded_for_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let mut areas = Vec::new();
        for name in ["one", "two"] {
            let path = folder.path().join(name);
            fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
            areas::format(&path, areas::IfUsed::Refuse).unwrap();
            areas.push(areas::find(&areas::AreaName::Device(path)).unwrap());
        }
        let file = dumpfile::BlockFile::open_exclusive(&areas[1].device).unwrap();
        let mut dump = ::area::Area::open(file, 0, areas[1].label.uuid).unwrap().begin().unwrap();
        machine::BlockDevice::write(&mut dump, 0, &[1; 4096]).unwrap();
        dump.seal(::area::Completeness::Complete, 4096).unwrap();
        assert!(check(Rights::Root, 2, &areas, &[]).remedy.contains("holdover collect"));
    }
}
