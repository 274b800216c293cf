//! Where the next dump goes: the areas that were named, each checked as the capture kernel will check it, and those left out.

use std::fmt;
use std::path::Path;

use area::BLOCK;
use handoff::{AreaAddress, Areas};
use pci::Function;

use super::{LoadError, MOST_AREAS};
use crate::areas::{self, AreaError, AreaName, FoundArea, IfUncollected, UncollectedDump};
use crate::chain;
use crate::sysfs::Location;

/// An area that was named, and that no dump can go to until the next load. Its text says what to do.
#[derive(Debug)]
pub struct LeftOutArea {
    /// Its name.
    pub name: AreaName,
    /// Why it cannot be used.
    pub error: AreaError,
}

impl fmt::Display for LeftOutArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, error } = self;
        write!(f, "no dump goes to {name}: {}; once it is there, `holdover load` takes it too", chain(error))
    }
}

/// Finds the areas with these names, each of them once, at least one; and those that cannot be used, which keep no dump from the others.
pub(super) fn find(names: &[AreaName]) -> Result<(Vec<FoundArea>, Vec<LeftOutArea>), LoadError> {
    if names.is_empty() {
        return Err(LoadError::NoArea);
    }
    if names.len() > MOST_AREAS {
        return Err(LoadError::AreaCount(names.len()));
    }
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for name in names {
        match areas::find(name) {
            Ok(area) => found.push(area),
            Err(error) => left_out.push(LeftOutArea { name: name.clone(), error }),
        }
    }
    if found.is_empty() {
        return Err(left_out.swap_remove(0).error.into());
    }
    check_each_once(&found)?;
    Ok((found, left_out))
}

fn check_each_once(found: &[FoundArea]) -> Result<(), LoadError> {
    let uuids: Vec<_> = found.iter().map(|found| found.label.uuid).collect();
    match uuids.iter().enumerate().find(|(at, uuid)| uuids[..*at].contains(uuid)) {
        Some((_, uuid)) => Err(LoadError::NamedTwice(*uuid)),
        None => Ok(()),
    }
}

/// The dumps in these areas that nobody has collected.
pub(super) fn uncollected(found: &[FoundArea]) -> Result<Vec<UncollectedDump>, AreaError> {
    let dumps = found.iter().map(FoundArea::uncollected).collect::<Result<Vec<_>, _>>()?;
    Ok(dumps.into_iter().flatten().collect())
}

impl IfUncollected {
    /// Returns an error if the next panic could go to no area, because dumps in all of them must not be lost.
    pub(super) fn check(self, dumps: &[UncollectedDump], areas: usize) -> Result<(), LoadError> {
        match dumps {
            [first, ..] if self == Self::Keep && dumps.len() >= areas => {
                Err(LoadError::Uncollected(first.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// Where the areas are; the first one's disk is behind `disk`, if that is named.
pub(super) fn addresses(found: &[FoundArea], mut disk: Option<Function>) -> Result<Areas, LoadError> {
    let address = |found: &FoundArea| {
        let location = found.locate()?;
        check_start(&found.device, location.offset)?;
        let disk = disk.take().map_or_else(|| disk_function(&location), Ok)?;
        Ok(AreaAddress { uuid: found.label.uuid, offset: location.offset, disk: Some(disk) })
    };
    found.iter().map(address).collect()
}

/// Refuses an area that the capture kernel will refuse because of its place on the disk.
fn check_start(device: &Path, offset: u64) -> Result<(), LoadError> {
    if offset.is_multiple_of(BLOCK) {
        return Ok(());
    }
    Err(LoadError::Misaligned { device: device.to_owned(), offset })
}

/// The function behind which the capture kernel will find the disk.
fn disk_function(location: &Location) -> Result<Function, LoadError> {
    let Some(controller) = &location.controller else {
        return Err(LoadError::NoFunction { disk: location.disk.clone() });
    };
    match controller.objection() {
        Some(objection) => Err(LoadError::NoDriver { objection }),
        None => Ok(controller.function),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use uuid::Uuid;

    use super::*;

    fn dump(device: &str) -> UncollectedDump {
        UncollectedDump { device: device.into(), held: areas::Held::Dump(38 << 20) }
    }

    #[test]
    fn a_dump_that_nobody_collected_is_lost_on_request_only() {
        let dumps = [dump("/dev/vda1")];
        let refused = IfUncollected::Keep.check(&dumps, 1).unwrap_err().to_string();
        assert!(refused.contains("`holdover collect /dev/vda1 FILE` fetches it"), "{refused}");
        assert!(refused.contains("--discard-dump"), "{refused}");
        assert!(IfUncollected::Keep.check(&[], 1).is_ok());
        assert!(IfUncollected::Discard.check(&dumps, 1).is_ok());
    }

    #[test]
    fn an_area_that_is_free_is_enough() {
        let dumps = [dump("/dev/vda1"), dump("/dev/vdb1")];
        assert!(IfUncollected::Keep.check(&dumps, 3).is_ok());
        assert!(IfUncollected::Keep.check(&dumps, 2).is_err());
    }

    #[test]
    fn areas_are_named_once_and_are_few() {
        let found = |uuid| {
            let label = areas::Label { uuid: Uuid::from_u128(uuid), length: 8 << 20, created: 0 };
            FoundArea { device: "/dev/vda".into(), label, file: None }
        };
        assert!(check_each_once(&[found(1), found(2)]).is_ok());
        let twice = check_each_once(&[found(1), found(2), found(1)]);
        assert!(matches!(twice, Err(LoadError::NamedTwice(uuid)) if uuid == Uuid::from_u128(1)));
        assert!(matches!(find(&[]), Err(LoadError::NoArea)));
        let many = vec![AreaName::Uuid(Uuid::nil()); MOST_AREAS + 1];
        assert!(matches!(find(&many), Err(LoadError::AreaCount(5))));
    }

    #[test]
    fn an_area_that_is_not_there_keeps_no_dump_from_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::File::create(path("there")).unwrap().set_len(8 << 20).unwrap();
        areas::format(&path("there"), areas::IfUsed::Refuse, Path::new("/")).unwrap();
        let names = ["gone", "there"].map(|name| AreaName::Device(path(name)));
        let (found, left_out) = find(&names).unwrap();
        assert_eq!((found.len(), &left_out[0].name), (1, &names[0]));
        assert!(left_out[0].to_string().contains("`holdover load` takes it too"), "{}", left_out[0]);
        assert!(matches!(find(&names[..1]), Err(LoadError::Area(_))));
    }

    #[test]
    fn an_area_that_begins_within_a_block_is_refused_before_the_crash() {
        assert!(check_start(Path::new("/dev/vda1"), 1 << 20).is_ok());
        assert!(check_start(Path::new("/dev/vda1"), 63 * 512).is_err());
    }
}
