//! Whether a dump of this moment would fit into the areas, and its copy into the folder of collected dumps.

use std::path::Path;

use super::finding::{Code, Finding, Subject};
use super::rights::Rights;
use crate::Bytes;
use crate::areas::FoundArea;
use crate::config::Configuration;
use crate::estimate::{self, Estimate, EstimateError, Source};
use crate::progress::Progress;

/// Estimates the dump that the configuration asks for.
pub(super) fn estimate(
    configuration: &Configuration,
    progress: &dyn Progress,
) -> Result<Estimate, EstimateError> {
    estimate::estimate(configuration.level, configuration.codec, progress)
}

/// Compares the estimate with the areas that a dump goes to.
pub(super) fn check(
    rights: Rights,
    areas: &[FoundArea],
    estimate: &Result<Estimate, EstimateError>,
) -> Option<Finding> {
    let largest = areas.iter().max_by_key(|area| area.label.capacity())?;
    let estimate = match estimate {
        Err(error) => return Some(Finding::unknown(Code::RoomUnknown, error.to_string())),
        Ok(estimate) => estimate,
    };
    if estimate.source == Source::Counters && rights == Rights::User {
        return Some(Finding::unknown(Code::RoomUnknown, told(estimate)));
    }
    Some(judge(estimate, largest.label.capacity(), &largest.device))
}

/// `capacity` is what the largest area holds.
fn judge(estimate: &Estimate, capacity: u64, device: &Path) -> Finding {
    let device = device.display();
    let found = format!("{}; {device} holds {}", told(estimate), Bytes(capacity));
    let remedy = || {
        let mebibytes = (estimate.most >> 20) + 5;
        format!(
            "make a larger area, such as `holdover format FILE --size {mebibytes}M` (or a higher dump level, or --codec zstd), then load again"
        )
    };
    match capacity {
        _ if capacity >= estimate.most => Finding::ok(Subject::Room, found),
        _ if capacity >= estimate.least => Finding::warning(Code::RoomTight, found, remedy()),
        _ => Finding::missing(Code::RoomTooSmall, found, remedy()),
    }
}

/// The estimate in words.
fn told(estimate: &Estimate) -> String {
    let Estimate { level, codec, source, pages, least, most, .. } = estimate;
    let source = match source {
        Source::Pages => "by a count of all pages",
        Source::Counters => "by the kernel's counters, roughly",
    };
    format!(
        "a dump of level {} now has {pages} pages ({source}), {} to {} with {}",
        level.number(),
        Bytes(*least),
        Bytes(*most),
        codec.name()
    )
}

/// Looks whether a copy of the dump fits into the folder of collected dumps, or where that will be made.
pub(super) fn collecting(folder: &Path, estimate: &Result<Estimate, EstimateError>) -> Option<Finding> {
    let estimate = estimate.as_ref().ok()?;
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    let statistics = rustix::fs::statvfs(there).ok()?;
    Some(judge_collecting(folder, statistics.f_bavail.saturating_mul(statistics.f_frsize), estimate.most))
}

fn judge_collecting(folder: &Path, free: u64, most: u64) -> Finding {
    let folder = folder.display();
    let found = format!("{} free for {folder}; a dump takes up to {}", Bytes(free), Bytes(most));
    if free >= most {
        return Finding::ok(Subject::Collecting, found);
    }
    let remedy = "make room, or name another directory under [collect] in /etc/holdover.toml";
    Finding::warning(Code::CollectingFull, found, remedy)
}

#[cfg(test)]
mod tests {
    use kdump::Codec;
    use vmcore::Level;

    use super::super::finding::State;
    use super::*;

    fn estimate() -> Estimate {
        let (level, codec, source) = (Level::ALL, Codec::Zlib, Source::Pages);
        Estimate { level, codec, source, ram: 1 << 20, pages: 50_000, least: 50 << 20, most: 130 << 20 }
    }

    #[test]
    fn an_area_is_large_enough_tight_or_too_small() {
        let state = |mebibytes: u64| judge(&estimate(), mebibytes << 20, Path::new("/dev/vdb")).state;
        assert_eq!((state(130), state(129), state(49)), (State::Ok, State::Warning, State::Missing));
        let finding = judge(&estimate(), 1 << 20, Path::new("/dev/vdb"));
        assert!(finding.found.contains("50000 pages (by a count of all pages)"), "{}", finding.found);
        assert!(finding.remedy.contains("--size 135M"), "{}", finding.remedy);
    }

    #[test]
    fn a_full_disk_of_collected_dumps_is_a_warning() {
        let state = |free| judge_collecting(Path::new("/var/crash"), free, 100).state;
        assert_eq!((state(100), state(99)), (State::Ok, State::Warning));
        assert!(collecting(Path::new("/no/such/folder"), &Ok(estimate())).is_some());
    }
}
