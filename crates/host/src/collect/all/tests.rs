use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use area::{Area, Completeness, DUMP_OFFSET, SEAL_OFFSET};
use dumpfile::BlockFile;
use kdump::layout::Name;
use kdump::{Codec, Header, NoteSegment, Page, Pages as KdumpPages, Utsname};
use tempfile::TempDir;

use super::super::actions::{self, Actions, Which};
use super::super::crash::FolderContent;
use super::super::dump::CollectError;
use super::super::folder::{CrashFolder, DUMP, FolderNote, LOG};
use super::room::Content;
use super::*;
use crate::areas::search::{Candidate, OwnAreas};
use crate::areas::{self, IfUsed};

/// Room without end.
const PLENTY: Free = |_, _| Ok(u64::MAX);
/// Room for a log.
const LITTLE: Free = |_, _| Ok(1 << 20);
const NONE: Free = |_, _| Ok(100);
/// Room in what is kept for root.
const RESERVE: Free = |_, content| Ok(if content == Content::Log { 1 << 20 } else { 0 });

/// A folder with files that are dump areas.
struct Bench {
    folder: TempDir,
    request: CollectAllRequest,
}

impl Bench {
    fn new(areas: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for area in areas {
            File::create(path(area)).unwrap().set_len(8 << 20).unwrap();
            areas::format(&path(area), IfUsed::Refuse, Path::new("/")).unwrap();
        }
        let request = CollectAllRequest {
            areas: areas.iter().map(|area| AreaName::Device(path(area))).collect(),
            search: Search::Named,
            directory: path("crash"),
            retention: Retention::default(),
            actions_follow: false,
            boot_loop: BootLoop { after: Some(3), uptime: Duration::from_secs(600) },
            history: path("state/collected.json"),
            pages: Pages {
                takeover: |_| "takeover\n".into(),
                summary: Some(|_| Ok("<!doctype html>".into())),
            },
        };
        Self { folder, request }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Begins a dump as the capture kernel does, with a log of a kernel that ran so long.
    fn begin(&self, area: &str, uptime: u64) -> area::Dump<BlockFile> {
        let mut dump = self.begin_without_log(area);
        let text = format!("[    0.000000] Linux\n[{uptime:5}.000000] Kernel panic\n");
        let mut log = dump.log(text.len() as u64);
        log.write(text.as_bytes()).unwrap();
        log.store().unwrap();
        dump
    }

    fn begin_without_log(&self, area: &str) -> area::Dump<BlockFile> {
        let uuid = areas::find(&AreaName::Device(self.path(area))).unwrap().label.uuid;
        let disk = BlockFile::open_exclusive(&self.path(area)).unwrap();
        Area::open(disk, 0, uuid).unwrap().begin().unwrap()
    }

    fn crash(&self, area: &str, uptime: u64) {
        let mut dump = self.begin(area, uptime);
        let bytes = write_pages(&mut dump, 8);
        dump.seal(Completeness::Complete, bytes).unwrap();
    }

    fn run(&self) -> CollectedAll {
        self.run_with(PLENTY)
    }

    fn run_with(&self, free: Free) -> CollectedAll {
        collect_where(&self.request, &(), free, |_| Ok(Vec::new())).unwrap()
    }

    /// The names of the folders.
    fn folders(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.path("crash")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    fn is_free(&self, area: &str) -> bool {
        areas::find(&AreaName::Device(self.path(area))).unwrap().uncollected().unwrap().is_none()
    }

    fn flip(&self, area: &str, at: u64) {
        let mut disk = fs::read(self.path(area)).unwrap();
        disk[at as usize] ^= 1;
        fs::write(self.path(area), disk).unwrap();
    }
}

fn begin_pages(dump: &mut area::Dump<BlockFile>) -> KdumpPages<'_, area::Dump<BlockFile>> {
    let utsname = Utsname { release: Name::new("6.1.0-test"), ..Utsname::default() };
    let header = Header { utsname, crashed_at: 0, cpus: 1, frames: 1 << 17, phys_base: 0, dump_level: 31 };
    let info = b"OSRELEASE=6.1.0-test\nCRASHTIME=1600000000\n";
    let sizes = [11, info.len() as u32, 0].map(u32::to_le_bytes);
    let note = [sizes.as_flattened(), b"VMCOREINFO\0\0", info, b"\0"].concat();
    let notes = NoteSegment { bytes: &note, vmcoreinfo: Some(24..24 + info.len()), eraseinfo: None };
    let mut bitmaps = kdump::begin(dump, &header, &notes, Codec::Zlib).unwrap();
    bitmaps.push(&[0xFF], &[0xFF]).unwrap();
    bitmaps.finish().unwrap()
}

fn write_page(pages: &mut KdumpPages<area::Dump<BlockFile>>, byte: u8) {
    let fill = |_, page: &mut Page| {
        page.fill(byte);
        Ok(())
    };
    pages.write_next(|_| true, fill).unwrap();
}

fn write_pages(dump: &mut area::Dump<BlockFile>, count: u8) -> u64 {
    let mut pages = begin_pages(dump);
    (0..count).for_each(|pfn| write_page(&mut pages, pfn));
    if count < 8 {
        return pages.abandon().statistics.file_bytes;
    }
    pages.finish().statistics.file_bytes
}

/// The folder that the only area was collected into.
fn folder(collected: &CollectedAll) -> &CrashFolder {
    match &collected.areas[0].outcome {
        Ok(AreaOutcome::Collected { folder, mark: Ok(()), .. }) => folder,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dump_becomes_a_folder_and_its_area_is_free() {
    let bench = Bench::new(&["disk"]);
    bench.crash("disk", 90_000);
    let collected = bench.run();
    assert!(collected.is_whole() && collected.warnings.is_empty(), "{collected:?}");
    let CrashFolder { path, note } = folder(&collected);
    assert_eq!(
        (note.crash.content, note.crash.uptime, note.kernel.as_deref()),
        (FolderContent::Complete, Some(90_000), Some("6.1.0-test"))
    );
    assert!(path.to_string_lossy().ends_with("-2020-09-13T12-26-40Z"), "the time of the crash: {path:?}");
    assert!(fs::read_to_string(path.join(LOG)).unwrap().ends_with("Kernel panic\n"));
    assert_eq!(fs::read_to_string(path.join("summary.html")).unwrap(), "<!doctype html>");
    let area = fs::read(bench.path("disk")).unwrap();
    let dump = fs::read(path.join(DUMP)).unwrap();
    assert_eq!(dump, area[DUMP_OFFSET as usize..][..dump.len()]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&bench.path("crash")), mode(path), mode(&path.join(DUMP))), (0o700, 0o700, 0o600));
    assert!(bench.is_free("disk"));
    let again = bench.run();
    assert!(matches!(again.areas[0].outcome, Ok(AreaOutcome::Nothing)) && again.is_whole());
    assert_eq!((again.history.collected, bench.folders().len()), (1, 1));
}

#[test]
fn a_partial_dump_is_marked_so() {
    let bench = Bench::new(&["disk"]);
    let mut dump = bench.begin("disk", 5);
    let bytes = write_pages(&mut dump, 7);
    dump.seal(Completeness::Partial, bytes).unwrap();
    let collected = bench.run();
    let note = &folder(&collected).note;
    assert_eq!(note.crash.content, FolderContent::Partial);
    assert!(note.state.starts_with("partial: the capture kernel") && !collected.is_whole());
}

#[test]
fn a_dump_that_was_cut_off_is_collected_as_far_as_it_was_safe() {
    let bench = Bench::new(&["disk"]);
    let mut dump = bench.begin("disk", 5);
    let mut pages = begin_pages(&mut dump);
    (0..3).for_each(|pfn| write_page(&mut pages, pfn));
    pages.save().unwrap();
    drop(dump);
    let collected = bench.run();
    let CrashFolder { path, note } = folder(&collected);
    assert_eq!(note.crash.content, FolderContent::Partial);
    let mut dump = kdump::Reader::open(BlockFile::open(&path.join(DUMP)).unwrap()).unwrap();
    assert_eq!(dump.read_page(2, &mut [0; kdump::BLOCK]), Ok(()));
}

#[test]
fn a_dump_that_was_cut_off_before_it_opens_is_copied_as_it_is() {
    let bench = Bench::new(&["disk"]);
    let mut dump = bench.begin("disk", 5);
    machine::BlockDevice::write(&mut dump, 0, &[7; 8192]).unwrap();
    machine::BlockDevice::flush(&mut dump).unwrap();
    drop(dump);
    let collected = bench.run();
    let CrashFolder { path, note } = folder(&collected);
    assert_eq!(note.crash.content, FolderContent::Unreadable);
    assert_eq!(fs::read(path.join("vmcore.damaged")).unwrap(), [7; 8192]);
    assert!(bench.is_free("disk"), "a copy of all that there is does not keep the next dump away");
}

#[test]
fn a_log_without_a_dump_becomes_a_folder_with_the_log_only() {
    let bench = Bench::new(&["disk"]);
    drop(bench.begin("disk", 5));
    let collected = bench.run();
    let CrashFolder { path, note } = folder(&collected);
    assert_eq!(note.crash.content, FolderContent::Log);
    assert!(path.join(LOG).exists() && !path.join(DUMP).exists() && bench.is_free("disk"));
}

#[test]
fn where_the_dump_has_no_room_the_log_is_saved_once_and_the_dump_waits() {
    let bench = Bench::new(&["disk"]);
    bench.crash("disk", 5);
    for _ in 0..2 {
        let collected = bench.run_with(LITTLE);
        let Ok(AreaOutcome::LogOnly { folder, why }) = &collected.areas[0].outcome else {
            panic!("{collected:?}")
        };
        assert!(why.to_string().contains("are needed: make room"), "{why}");
        assert!(folder.path.join(LOG).exists() && !folder.path.join(DUMP).exists());
        assert!(!collected.is_whole() && !bench.is_free("disk"));
        assert_eq!((collected.history.left_uncollected, bench.folders().len()), (1, 1));
    }
    let collected = bench.run();
    assert_eq!(folder(&collected).note.crash.content, FolderContent::Complete);
    assert_eq!((bench.folders().len(), collected.history.collected, collected.history.failures), (1, 1, 2));
    assert!(bench.is_free("disk"));
}

#[test]
fn where_not_even_the_log_has_room_nothing_is_left_behind() {
    let bench = Bench::new(&["disk"]);
    bench.crash("disk", 5);
    let collected = bench.run_with(NONE);
    assert!(matches!(collected.areas[0].outcome, Err(CollectError::Room { .. })), "{collected:?}");
    assert!(bench.folders().is_empty() && !bench.is_free("disk"));
}

#[test]
fn the_log_has_room_in_what_is_kept_for_root() {
    let bench = Bench::new(&["disk"]);
    bench.crash("disk", 5);
    let collected = bench.run_with(RESERVE);
    assert!(matches!(collected.areas[0].outcome, Ok(AreaOutcome::LogOnly { .. })), "{collected:?}");
}

#[test]
fn where_there_is_no_directory_yet_its_file_system_tells_how_much_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("var/crash");
    assert!(free(&missing, Content::Dump).unwrap() > 0);
}

#[test]
fn a_damaged_dump_stays_in_its_area_and_its_log_is_saved() {
    let bench = Bench::new(&["disk"]);
    bench.crash("disk", 5);
    bench.flip("disk", DUMP_OFFSET + 5);
    for _ in 0..2 {
        let collected = bench.run();
        let Ok(AreaOutcome::LogOnly { why, .. }) = &collected.areas[0].outcome else {
            panic!("{collected:?}")
        };
        let told = chain(why);
        assert!(told.contains("`holdover collect ") && told.contains("stays there"), "{told}");
        let named = told.split([' ', ':', ';', '`']).filter(|word| word.starts_with('/'));
        let gone: Vec<_> = named.filter(|path| !Path::new(path).exists()).collect();
        assert!(gone.is_empty(), "files are named that are not there: {gone:?} in {told}");
        assert_eq!(bench.folders().len(), 1);
    }
    assert!(!bench.is_free("disk"));
}

#[test]
fn one_bad_area_does_not_hinder_the_others() {
    let bench = Bench::new(&["bad", "good", "gone", "seal"]);
    for area in ["bad", "good", "seal"] {
        bench.crash(area, 5);
    }
    bench.flip("bad", 8 << 10);
    bench.flip("seal", SEAL_OFFSET + 100);
    fs::remove_file(bench.path("gone")).unwrap();
    let collected = bench.run();
    let outcomes: Vec<_> = collected.areas.iter().map(|report| report.outcome.is_ok()).collect();
    assert_eq!(outcomes, [false, true, false, true], "{collected:?}");
    assert!(matches!(collected.areas[1].outcome, Ok(AreaOutcome::Collected { .. })));
    assert!(matches!(collected.areas[3].outcome, Ok(AreaOutcome::LogOnly { .. })));
    assert_eq!((bench.folders().len(), collected.history.left_uncollected), (2, 3));
}

#[test]
fn a_run_that_ended_before_the_area_was_told_is_finished_without_a_second_copy() {
    let bench = Bench::new(&["disk"]);
    bench.crash("disk", 5);
    let before = fs::read(bench.path("disk")).unwrap();
    let first = bench.run();
    fs::write(bench.path("disk"), &before).unwrap();
    assert!(!bench.is_free("disk"));
    let second = bench.run();
    assert_eq!(folder(&first).path, folder(&second).path);
    assert!(bench.is_free("disk") && second.history.collected == 1);
    // A copy that has changed since is none.
    fs::write(bench.path("disk"), &before).unwrap();
    fs::write(folder(&first).path.join(DUMP), "changed").unwrap();
    let third = bench.run();
    assert_eq!((folder(&third).note.crash.content, bench.folders().len()), (FolderContent::Complete, 1));
}

/// A disk that was rolled back to a snapshot, or cloned, counts the same again.
#[test]
fn another_dump_of_the_same_count_is_copied_and_replaces_none() {
    let bench = Bench::new(&["disk"]);
    let snapshot = fs::read(bench.path("disk")).unwrap();
    bench.crash("disk", 90_000);
    bench.run();
    fs::write(bench.path("disk"), &snapshot).unwrap();
    let mut dump = bench.begin("disk", 90_000);
    let mut pages = begin_pages(&mut dump);
    (0..8).for_each(|pfn| write_page(&mut pages, 0x40 + pfn));
    let bytes = pages.finish().statistics.file_bytes;
    dump.seal(Completeness::Complete, bytes).unwrap();
    let collected = bench.run();
    assert!(matches!(collected.areas[0].outcome, Ok(AreaOutcome::Collected { .. })), "{collected:?}");
    assert_eq!((bench.folders().len(), collected.history.collected), (2, 2));
    let mut copy =
        kdump::Reader::open(BlockFile::open(&folder(&collected).path.join(DUMP)).unwrap()).unwrap();
    let mut page = [0; kdump::BLOCK];
    copy.read_page(2, &mut page).unwrap();
    assert_eq!(page[0], 0x42);
    // Two logs without a dump are told apart by their text.
    for uptime in [80_000, 80_001] {
        fs::write(bench.path("disk"), &snapshot).unwrap();
        drop(bench.begin("disk", uptime));
        assert_eq!(folder(&bench.run()).note.crash.uptime, Some(uptime));
    }
    assert_eq!((bench.folders().len(), bench.is_free("disk")), (4, true));
}

#[test]
fn what_an_interrupted_run_left_is_removed_and_pages_that_ended_it_are_not_made_again() {
    let bench = Bench::new(&["disk"]);
    bench.crash("disk", 5);
    let before = fs::read(bench.path("disk")).unwrap();
    let CrashFolder { path, note } = folder(&bench.run()).clone();
    let copied = CrashFolder { path: path.clone(), note: note.with_content(FolderContent::Copied) };
    fs::write(path.join(folder::NOTE), serde_json::to_string(&copied.note).unwrap()).unwrap();
    fs::rename(&path, path.with_extension("unfinished")).unwrap();
    fs::write(bench.path("disk"), &before).unwrap();
    let collected = bench.run();
    let Ok(AreaOutcome::Collected { folder, lacks, .. }) = &collected.areas[0].outcome else {
        panic!("{collected:?}")
    };
    assert_eq!((lacks.len(), bench.folders().len()), (1, 1));
    assert!(folder.path.join(DUMP).exists() && !folder.path.join("summary.html").exists());
}

#[test]
fn older_folders_go_and_before_the_copy_where_that_makes_its_room() {
    let bench = Bench::new(&["disk"]);
    let keep = |keep| CollectAllRequest {
        retention: Retention { keep: Some(keep), keep_bytes: None },
        ..bench.request.clone()
    };
    for _ in 0..3 {
        bench.crash("disk", 90_000);
        collect_where(&keep(2), &(), PLENTY, |_| Ok(Vec::new())).unwrap();
    }
    assert_eq!(bench.folders().len(), 2);
    bench.crash("disk", 90_000);
    // There is room as soon as a folder has gone.
    let once =
        |directory: &Path, _| Ok(if fs::read_dir(directory)?.count() < 2 { 1 << 40 } else { (16 << 20) + 1 });
    let collected = collect_where(&keep(2), &(), once, |_| Ok(Vec::new())).unwrap();
    assert!(matches!(collected.areas[0].outcome, Ok(AreaOutcome::Collected { .. })), "{collected:?}");
    assert_eq!((bench.folders().len(), collected.removed.len()), (2, 1));
    // Nothing goes in vain.
    bench.crash("disk", 90_000);
    let collected = collect_where(&keep(2), &(), LITTLE, |_| Ok(Vec::new())).unwrap();
    assert!(matches!(collected.areas[0].outcome, Ok(AreaOutcome::LogOnly { .. })), "{collected:?}");
}

#[test]
fn no_dump_goes_before_the_next_is_there_nor_for_a_log_or_another_host() {
    let bench = Bench::new(&["disk"]);
    let retention = Retention { keep: Some(1), keep_bytes: None };
    let keep_one = CollectAllRequest { retention, ..bench.request.clone() };
    bench.crash("disk", 90_000);
    let first = folder(&collect_where(&keep_one, &(), PLENTY, |_| Ok(Vec::new())).unwrap()).path.clone();
    bench.crash("disk", 90_000);
    // There would be room as soon as the dump has gone.
    let once =
        |directory: &Path, _| Ok(if fs::read_dir(directory)?.next().is_none() { 1 << 40 } else { 1 << 20 });
    let collected = collect_where(&keep_one, &(), once, |_| Ok(Vec::new())).unwrap();
    assert!(matches!(collected.areas[0].outcome, Ok(AreaOutcome::LogOnly { .. })), "{collected:?}");
    assert!(first.join(DUMP).exists(), "{collected:?}");
    let collected = collect_where(&keep_one, &(), PLENTY, |_| Ok(Vec::new())).unwrap();
    assert!(!first.exists() && bench.folders().len() == 1, "{collected:?}");
    let CrashFolder { path, note } = folder(&collected).clone();
    let others = FolderNote { host: "another host".into(), ..note };
    fs::write(path.join(folder::NOTE), serde_json::to_string(&others).unwrap()).unwrap();
    bench.crash("disk", 90_000);
    collect_where(&keep_one, &(), PLENTY, |_| Ok(Vec::new())).unwrap();
    assert_eq!(bench.folders().len(), 2, "another host's folder");
}

#[test]
fn of_a_boot_loop_the_first_and_the_newest_dump_are_kept_and_the_area_stays_free() {
    let bench = Bench::new(&["disk"]);
    for (count, uptime) in (1..).zip([90_000, 30, 30, 30, 30]) {
        bench.crash("disk", uptime);
        let collected = bench.run();
        assert_eq!(collected.boot_loop, Some(count).filter(|count| *count >= 3));
        assert!(bench.is_free("disk"));
    }
    let kept: Vec<_> =
        CrashFolder::list(&bench.path("crash")).iter().map(|folder| folder.note.crash.number).collect();
    assert_eq!(kept, [5, 1]);
}

#[test]
fn two_runs_at_once_do_not_meet() {
    let bench = Bench::new(&["disk"]);
    let _at_work = lock(&bench.path("crash")).unwrap();
    let refused = collect_all(&bench.request, &()).unwrap_err();
    assert!(matches!(refused, CollectAllError::Busy { .. }), "{refused:?}");
}

#[test]
fn a_directory_that_cannot_be_is_told() {
    let bench = Bench::new(&["disk"]);
    fs::write(bench.path("crash"), "a file").unwrap();
    let refused = collect_all(&bench.request, &()).unwrap_err().to_string();
    assert!(refused.contains("`directory` in [collect]"), "{refused}");
}

/// A bench with one area that is configured, and two that a search finds: one was formatted here, the other by a guest.
fn bench_with_a_guest(search: Search) -> (Bench, CollectedAll) {
    let mut bench = Bench::new(&["configured", "ours", "guest"]);
    for area in ["configured", "ours", "guest"] {
        bench.crash(area, 90_000);
    }
    bench.request.areas.truncate(1);
    bench.request.search = search;
    let candidates = ["configured", "ours", "guest"].map(|area| Candidate::on(bench.path(area)).unwrap());
    let own = OwnAreas::new(&bench.request.areas, candidates[1].uuid.into_iter().collect());
    let found = Place::on_disks(candidates.into(), &own).collect();
    let collected = collect_where(&bench.request, &(), PLENTY, |_| Ok(found)).unwrap();
    (bench, collected)
}

/// Else the dump of a guest would be in this host's folder, and its area free for the next one.
#[test]
fn an_area_of_a_guest_is_left_alone_and_told() {
    let (bench, collected) = bench_with_a_guest(Search::Own);
    assert_eq!(["configured", "ours", "guest"].map(|area| bench.is_free(area)), [true, true, false]);
    assert_eq!((collected.areas.len(), bench.folders().len()), (3, 2));
    let Ok(AreaOutcome::Skipped(skipped)) = &collected.areas[2].outcome else { panic!("{collected:?}") };
    assert!(skipped.to_string().contains("--everywhere"), "{skipped}");
    assert!(collected.is_whole() && collected.history.failures == 0, "it is no error");
}

#[test]
fn an_area_of_a_guest_is_collected_where_somebody_asks_for_all() {
    let (bench, collected) = bench_with_a_guest(Search::Everywhere);
    assert!(bench.is_free("guest") && collected.is_whole());
    assert_eq!((collected.areas.len(), bench.folders().len()), (3, 3));
}

/// It would fail each collect for ever. One that the configuration names may come.
#[test]
fn a_file_that_was_deleted_by_hand_is_told_with_the_remedy_and_fails_nothing() {
    let mut bench = Bench::new(&[]);
    bench.request.search = Search::Own;
    let gone = bench.path("gone");
    let search = || Ok(vec![Place::file(gone.clone())]);
    let collected = collect_where(&bench.request, &(), PLENTY, |_| search()).unwrap();
    let Ok(AreaOutcome::Skipped(skipped)) = &collected.areas[0].outcome else { panic!("{collected:?}") };
    assert!(skipped.to_string().contains(&format!("holdover remove {}", gone.display())), "{skipped}");
    assert!(collected.is_whole());
    bench.request.areas = vec![AreaName::Device(gone.clone())];
    let collected = collect_where(&bench.request, &(), PLENTY, |_| search()).unwrap();
    assert!(matches!(collected.areas[..], [AreaReport { outcome: Err(_), .. }]), "told once: {collected:?}");
}

/// A copy elsewhere may be the only one that outlives this disk.
#[test]
fn what_is_not_delivered_stays_until_the_disk_is_full_and_is_told() {
    let mut bench = Bench::new(&["disk"]);
    bench.request.retention.keep = Some(1);
    bench.request.actions_follow = true;
    for _ in 0..3 {
        bench.crash("disk", 90_000);
        bench.run();
    }
    let told = bench.run().warnings.concat();
    assert_eq!(bench.folders().len(), 3, "none was delivered");
    assert!(told.contains(&bench.folders()[0]) && told.contains("--retry-actions"), "{told}");
    // There is room as soon as a folder has gone.
    let once =
        |directory: &Path, _| Ok(if fs::read_dir(directory)?.count() < 3 { 1 << 40 } else { (16 << 20) + 1 });
    bench.crash("disk", 90_000);
    let collected = bench.run_with(once);
    assert!(bench.is_free("disk"), "else the next panic is not dumped: {collected:?}");
    assert_eq!(collected.removed.len(), 1, "no more than it takes");
    assert!(collected.warnings.concat().contains("is removed before all that [actions]"), "{collected:?}");
    bench.request.retention.keep_bytes = Some(1);
    let collected = bench.run();
    assert_eq!((collected.removed.len(), bench.folders().len()), (2, 1));
    assert!(collected.warnings.concat().contains("is removed before all that [actions]"), "{collected:?}");
}

#[test]
fn a_folder_that_somebody_delivers_stays() {
    let mut bench = Bench::new(&["disk"]);
    bench.request.retention = Retention { keep: Some(1), keep_bytes: Some(1) };
    bench.crash("disk", 90_000);
    let first = folder(&bench.run()).clone();
    bench.crash("disk", 90_000);
    let delivering = actions::lock(&first).unwrap();
    bench.run();
    assert!(first.path.join(DUMP).exists());
    drop(delivering);
    bench.run();
    assert!(!first.path.exists());
}

/// Else nobody would be told of the first crash: actions come after the collect.
#[test]
fn of_two_crashes_of_one_run_both_stay_until_their_actions_were_tried() {
    let mut bench = Bench::new(&["one", "two"]);
    bench.request.retention.keep = Some(1);
    bench.request.actions_follow = true;
    bench.crash("one", 90_000);
    bench.crash("two", 90_001);
    let collected = bench.run();
    assert_eq!((collected.removed.len(), bench.folders().len()), (0, 2), "{collected:?}");
    let fails = Actions { hook: Some("/no-such-hook".into()), ..Actions::default() };
    for crash in collected.crashes() {
        fails.run(crash, None, Which::Undone, &()).unwrap();
    }
    assert_eq!(bench.run().removed.len(), 1, "a hook that fails holds nothing up");
}

#[test]
fn a_log_that_somebody_delivers_stays_beside_its_dump() {
    let bench = Bench::new(&["disk"]);
    bench.crash("disk", 90_000);
    let collected = bench.run_with(LITTLE);
    let log = collected.crashes().next().unwrap().clone();
    let delivering = actions::lock(&log).unwrap();
    let collected = bench.run();
    assert!(log.path.join(LOG).exists() && bench.folders().len() == 2);
    let told = collected.warnings.concat();
    assert!(told.contains(&log.name()) && told.contains("stays"), "{told}");
    drop(delivering);
}
