//! Collects dumps through the library, without the program `holdover`.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::cell::RefCell;
use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use area::{Area, Completeness, DUMP_OFFSET};
use dumpfile::BlockFile;
use host::areas::{self, AreaName, Held, IfUsed};
use host::collect::{CollectError, CollectRequest, Collected, NoDump, collect};
use host::{IfExists, Progress, dmesg};
use machine::BlockDevice;
use tempfile::TempDir;

/// Bytes of the dump.
const LEN: usize = 3 << 20;

/// A folder with a file that is a dump area.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        File::create(bench.path("disk")).unwrap().set_len(8 << 20).unwrap();
        areas::format(&bench.path("disk"), IfUsed::Refuse, bench.folder.path()).unwrap();
        bench
    }

    /// With something in it that is as long as a dump.
    fn with_dump() -> Self {
        let bench = Self::new();
        let mut dump = bench.begin();
        dump.write(0, &vec![7; LEN]).unwrap();
        dump.seal(Completeness::Complete, LEN as u64).unwrap();
        bench
    }

    /// Begins a dump as the capture kernel does.
    fn begin(&self) -> area::Dump<BlockFile> {
        let uuid = areas::find(&AreaName::Device(self.path("disk"))).unwrap().label.uuid;
        let disk = BlockFile::open_exclusive(&self.path("disk")).unwrap();
        Area::open(disk, 0, uuid).unwrap().begin().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn collect(&self, progress: &dyn Progress) -> Result<Collected, CollectError> {
        let (area, out) = (AreaName::Device(self.path("disk")), self.path("vmcore"));
        collect(&CollectRequest { area, out, if_exists: IfExists::Refuse, root: "/".into() }, progress)
    }
}

/// What was shown.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Begin(u64),
    Done(u64),
    End,
}

#[derive(Default)]
struct Recorder(RefCell<Vec<Shown>>);

impl Progress for Recorder {
    fn begin(&self, steps: u64) {
        self.0.borrow_mut().push(Shown::Begin(steps));
    }

    fn advance_to(&self, done: u64) {
        self.0.borrow_mut().push(Shown::Done(done));
    }

    fn end(&self) {
        self.0.borrow_mut().push(Shown::End);
    }
}

#[test]
fn progress_begins_advances_to_the_last_byte_and_ends() {
    let bench = Bench::with_dump();
    let recorder = Recorder::default();
    let collected = bench.collect(&recorder).unwrap();
    assert_eq!(collected.bytes, LEN as u64);
    assert!(collected.about.is_none() && !collected.is_whole(), "sevens are no dump");
    let shown = recorder.0.into_inner();
    assert_eq!(shown[0], Shown::Begin(LEN as u64));
    assert_eq!(shown[shown.len() - 2..], [Shown::Done(LEN as u64), Shown::End]);
    let is_between = |shown: &Shown| matches!(shown, Shown::Done(_));
    assert!(shown[1..shown.len() - 1].iter().all(is_between) && shown.len() > 3);
}

#[test]
fn progress_ends_when_the_dump_is_damaged_too() {
    let bench = Bench::with_dump();
    let mut disk = fs::read(bench.path("disk")).unwrap();
    disk[DUMP_OFFSET as usize + 5] ^= 1;
    fs::write(bench.path("disk"), disk).unwrap();
    let recorder = Recorder::default();
    let Err(CollectError::Damaged { path, source }) = bench.collect(&recorder) else {
        panic!("it is damaged");
    };
    assert_eq!(path, bench.path("vmcore.damaged"));
    assert!(source.to_string().contains("checksum"), "{source}");
    assert_eq!(recorder.0.into_inner().last(), Some(&Shown::End));
}

#[test]
fn an_area_without_a_dump_is_told_by_type_and_with_its_reason() {
    let error = Bench::new().collect(&()).unwrap_err();
    assert!(matches!(error, CollectError::NoDump { source: NoDump::Empty, .. }), "{error:?}");
    assert_eq!(error.source().unwrap().to_string(), "nothing was dumped since it was formatted");
}

#[test]
fn nobody_else_may_read_a_dump() {
    let bench = Bench::with_dump();
    bench.collect(&()).unwrap();
    assert_eq!(fs::metadata(bench.path("vmcore")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_dump_counts_as_uncollected_until_it_is_in_a_file() {
    let bench = Bench::new();
    let uncollected =
        |bench: &Bench| areas::find(&AreaName::Device(bench.path("disk"))).unwrap().uncollected().unwrap();
    assert_eq!(uncollected(&bench), None, "an area that was just made holds none");
    let bench = Bench::with_dump();
    assert_eq!(uncollected(&bench).unwrap().held, Held::Dump(LEN as u64));
    assert!(bench.collect(&()).unwrap().mark.is_ok());
    assert_eq!(uncollected(&bench), None);
}

#[test]
fn a_damaged_dump_still_counts_as_uncollected() {
    let bench = Bench::with_dump();
    let mut disk = fs::read(bench.path("disk")).unwrap();
    disk[DUMP_OFFSET as usize + 5] ^= 1;
    fs::write(bench.path("disk"), disk).unwrap();
    bench.collect(&()).unwrap_err();
    assert!(areas::find(&AreaName::Device(bench.path("disk"))).unwrap().uncollected().unwrap().is_some());
}

#[test]
fn a_log_without_a_dump_counts_as_uncollected_until_it_is_in_a_file() {
    let bench = Bench::new();
    let mut dump = bench.begin();
    let mut log = dump.log(6);
    log.write(b"dying\n").unwrap();
    log.store().unwrap();
    drop(dump);
    let name = AreaName::Device(bench.path("disk"));
    let uncollected = || areas::find(&name).unwrap().uncollected().unwrap();
    let told = uncollected().unwrap().to_string();
    assert!(told.contains("holdover collect --dmesg"), "{told}");
    let error = bench.collect(&()).unwrap_err();
    assert!(matches!(error, CollectError::NoDump { source: NoDump::CutOff { log: true }, .. }), "{error:?}");
    assert!(error.source().unwrap().to_string().contains("--dmesg"));
    assert_eq!(dmesg::read(&name).unwrap().text, "dying\n");
    assert!(uncollected().is_some(), "it is in no file yet");
    let collected = dmesg::collect(&name, &bench.path("log"), IfExists::Refuse).unwrap();
    assert!(matches!(collected.mark, Some(Ok(()))));
    assert_eq!(uncollected(), None);
}

#[test]
fn the_log_of_a_dump_that_is_there_does_not_give_the_dump_up() {
    let bench = Bench::new();
    let mut dump = bench.begin();
    let mut log = dump.log(6);
    log.write(b"dying\n").unwrap();
    log.store().unwrap();
    dump.write(0, &[7; 4096]).unwrap();
    dump.seal(Completeness::Complete, 4096).unwrap();
    let name = AreaName::Device(bench.path("disk"));
    let collected = dmesg::collect(&name, &bench.path("log"), IfExists::Refuse).unwrap();
    assert!(collected.mark.is_none());
    assert!(areas::find(&name).unwrap().uncollected().unwrap().is_some());
}

#[test]
fn an_area_whose_seal_cannot_be_read_may_hold_a_dump() {
    let bench = Bench::with_dump();
    let mut disk = fs::read(bench.path("disk")).unwrap();
    disk[area::SEAL_OFFSET as usize + 100] ^= 1;
    fs::write(bench.path("disk"), disk).unwrap();
    let held = areas::find(&AreaName::Device(bench.path("disk"))).unwrap().uncollected().unwrap();
    assert!(held.is_some_and(|held| held.to_string().contains("may hold a dump")));
}
