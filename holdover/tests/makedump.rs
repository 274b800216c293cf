//! `holdover makedump` as a person runs it, on a small core made here.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use dumpfile::{Dump, DumpError};
use fixtures::info;
use fixtures::kernel::vmcoreinfo;
use fixtures::note::note;
use kdump::{BLOCK, Page, ReadError};
use serde_json::Value;
use tempfile::TempDir;

const PAGES: u64 = 600;
/// Where in the core the first page is.
const MEMORY: usize = 0x1000;
const FIRST_PFN: u64 = 0x100;
const INFO: &[u8] = b"OSRELEASE=6.1.0-test\nPAGESIZE=4096\n";

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(bench.path("core"), core()).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the core.
    fn edit(&self, change: impl Fn(&mut Vec<u8>)) {
        let mut bytes = core();
        change(&mut bytes);
        fs::write(self.path("core"), bytes).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
        command.current_dir(&self.folder).args(["makedump", "--json"]).args(arguments).output().unwrap()
    }

    /// Runs what must not make a dump; returns what it says.
    fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(!self.path("out").exists());
        stderr(&output)
    }
}

/// A page of a made-up machine: zeros, something that repeats, or noise.
fn page(pfn: u64) -> Page {
    let mut state = pfn + 1;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    match pfn % 3 {
        0 => [0; BLOCK],
        1 => std::array::from_fn(|at| (at as u64 / 64 * pfn) as u8),
        _ => std::array::from_fn(|_| noise()),
    }
}

/// An ELF core with two notes and one segment.
fn core() -> Vec<u8> {
    core_with(INFO)
}

fn core_with(info: &[u8]) -> Vec<u8> {
    let notes = [note(b"CORE\0", 1, &[0; 336]), note(b"VMCOREINFO\0", 0, info)].concat();
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend(0x0000_0001_003e_0004u64.to_le_bytes());
    bytes.extend([0u64, 64, 0, 0x0038_0040_0000_0000, 2].map(u64::to_le_bytes).as_flattened());
    let len = PAGES * BLOCK as u64;
    for [kind, offset, physical, len] in
        [[4, 0xB0, 0, notes.len() as u64], [1, MEMORY as u64, FIRST_PFN * BLOCK as u64, len]]
    {
        bytes.extend([kind, offset, 0, physical, len, len, 0].map(u64::to_le_bytes).as_flattened());
    }
    bytes.extend(notes);
    bytes.resize(MEMORY, 0);
    bytes.extend((FIRST_PFN..FIRST_PFN + PAGES).flat_map(page));
    bytes
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The page frames of a dump whose content is not that of the machine.
fn wrong_pages(dump: &mut Dump) -> Vec<u64> {
    let frames = FIRST_PFN..FIRST_PFN + PAGES;
    let mut content = [0; BLOCK];
    frames.filter(|pfn| dump.read_page(*pfn, &mut content).is_err() || content != page(*pfn)).collect()
}

#[test]
fn every_page_of_the_core_is_in_the_dump_with_any_codec() {
    let bench = Bench::new();
    for codec in kdump::Codec::ALL.iter().map(|codec| codec.name()) {
        let output = bench.run(&["--codec", codec, "core", codec]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let said = json(&output);
        assert_eq!((&said["pages"], &said["complete"]), (&PAGES.into(), &true.into()));
        let mut dump = Dump::open(&bench.path(codec)).unwrap();
        assert!(dump.is_complete());
        assert_eq!((dump.release(), dump.vmcoreinfo().text()), ("6.1.0-test", INFO));
        assert_eq!(dump.pages(), PAGES);
        assert!(wrong_pages(&mut dump).is_empty(), "{codec}");
    }
}

#[test]
fn a_core_is_itself_a_dump_that_can_be_read() {
    let mut dump = Dump::open(&Bench::new().path("core")).unwrap();
    assert!(dump.is_complete());
    assert_eq!(dump.pages(), PAGES);
    assert_eq!(dump.next_page(0).unwrap(), Some(FIRST_PFN));
    assert_eq!(vmcore::notes_in(dump.notes()).count(), 2);
    assert!(wrong_pages(&mut dump).is_empty());
}

#[test]
fn an_elf_core_holds_the_same_pages_and_can_be_dumped_again() {
    let bench = Bench::new();
    assert_eq!(json(&bench.run(&["--elf", "core", "elf"]))["complete"], Value::from(true));
    assert_eq!(bench.run(&["elf", "again"]).status.code(), Some(0));
    for name in ["elf", "again"] {
        let mut dump = Dump::open(&bench.path(name)).unwrap();
        assert!(dump.is_complete());
        assert_eq!((dump.release(), dump.vmcoreinfo().text()), ("6.1.0-test", INFO));
        assert_eq!((dump.pages(), vmcore::notes_in(dump.notes()).count()), (PAGES, 2));
        assert!(wrong_pages(&mut dump).is_empty(), "{name}");
    }
    let elf = fs::metadata(bench.path("elf")).unwrap();
    assert!(elf.blocks() * 512 < elf.len() * 3 / 4, "zeros take no room");
}

#[test]
fn any_number_of_threads_stores_the_same_pages() {
    let bench = Bench::new();
    for (threads, name) in [("1", "alone"), ("2", "two"), ("7", "seven")] {
        let output = bench.run(&["--threads", threads, "core", name]);
        assert_eq!(output.status.code(), Some(0));
        let len = fs::metadata(bench.path(name)).unwrap().len();
        assert_eq!(json(&output)["bytes"], Value::from(len));
        assert_eq!(len, fs::metadata(bench.path("alone")).unwrap().len());
        let mut dump = Dump::open(&bench.path(name)).unwrap();
        assert!(dump.is_complete() && wrong_pages(&mut dump).is_empty(), "{threads} threads");
    }
}

#[test]
fn one_thread_always_writes_the_same_file() {
    let bench = Bench::new();
    let dump = |name| {
        assert_eq!(bench.run(&["--threads", "1", "core", name]).status.code(), Some(0));
        fs::read(bench.path(name)).unwrap()
    };
    assert!(dump("one") == dump("another"));
}

#[test]
fn a_core_that_was_cut_short_makes_a_dump_that_says_so() {
    let bench = Bench::new();
    bench.edit(|bytes| bytes.truncate(MEMORY + 500 * BLOCK + 77));
    let output = bench.run(&["core", "out"]);
    assert_eq!(output.status.code(), Some(3));
    let said = json(&output);
    assert_eq!((&said["missing"], &said["complete"]), (&100.into(), &false.into()));
    assert!(said["state"].as_str().unwrap().contains("cut short by"), "{said}");
    let mut dump = Dump::open(&bench.path("out")).unwrap();
    assert!(!dump.is_complete());
    assert_eq!(wrong_pages(&mut dump), (FIRST_PFN + 500..FIRST_PFN + 600).collect::<Vec<_>>());
}

#[test]
fn what_could_not_be_read_is_not_in_an_elf_core() {
    let bench = Bench::new();
    bench.edit(|bytes| bytes.truncate(MEMORY + 500 * BLOCK + 77));
    let output = bench.run(&["--elf", "core", "out"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(json(&output)["missing"], Value::from(100));
    let mut dump = Dump::open(&bench.path("out")).unwrap();
    assert_eq!(dump.pages(), 500);
    assert_eq!(wrong_pages(&mut dump), (FIRST_PFN + 500..FIRST_PFN + 600).collect::<Vec<_>>());
}

#[test]
fn a_damaged_note_makes_a_dump_that_says_so() {
    let bench = Bench::new();
    let after_info = 0xB0 + note(b"CORE\0", 1, &[0; 336]).len() + note(b"VMCOREINFO\0", 0, INFO).len();
    bench.edit(|bytes| {
        let len = (after_info + 16 - 0xB0) as u64;
        bytes[64 + 32..64 + 48].copy_from_slice([len, len].map(u64::to_le_bytes).as_flattened());
        bytes[after_info..after_info + 16].fill(0xFF);
    });
    let output = bench.run(&["core", "out"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(json(&output)["state"].as_str().unwrap().contains("notes are damaged"));
    assert!(!Dump::open(&bench.path("out")).unwrap().is_complete());
}

#[test]
fn a_core_that_ends_before_its_memory_is_refused_as_cut_short() {
    let bench = Bench::new();
    bench.edit(|bytes| bytes.truncate(0x100));
    assert!(bench.fail(&["core", "out"]).contains("cut short by 2.35 MiB, and VMCOREINFO is lost"));
    bench.edit(|bytes| bytes.truncate(0x50));
    assert!(bench.fail(&["core", "out"]).contains("not even its headers are within its 80 bytes"));
}

#[test]
fn pages_whose_description_is_not_in_the_core_are_kept_and_the_dump_says_why() {
    let bench = Bench::new();
    // What it speaks of lies below the core's memory.
    let info = vmcoreinfo(info::UP_TO_6_2);
    fs::write(bench.path("core"), core_with(info.as_bytes())).unwrap();
    let said = json(&bench.run(&["core", "out"]));
    assert_eq!((&said["pages"], &said["unknown"]), (&PAGES.into(), &PAGES.into()));
    let why = format!("what describes {PAGES} pages could not be read");
    assert_eq!(said["unknown_facts"], Value::from(vec![why]));
}

#[test]
fn a_core_without_vmcoreinfo_is_refused() {
    let bench = Bench::new();
    bench.edit(|bytes| bytes[0xB0..0xB4].fill(0xFF));
    assert!(bench.fail(&["core", "out"]).contains("notes are damaged"));
    bench.edit(|bytes| bytes[0xB0..MEMORY].fill(0));
    assert!(bench.fail(&["core", "out"]).contains("no VMCOREINFO"));
}

#[test]
fn what_is_no_core_is_refused() {
    let bench = Bench::new();
    assert_eq!(bench.run(&["core", "dump"]).status.code(), Some(0));
    assert!(bench.fail(&["dump", "out"]).contains("kdump-compressed dump already"));
    bench.edit(|bytes| bytes[4] = 1);
    assert!(bench.fail(&["core", "out"]).contains("no ELF64 core header"));
    bench.edit(Vec::clear);
    assert!(bench.fail(&["core", "out"]).contains("neither an ELF core of an x86-64 kernel nor"));
    assert!(bench.fail(&["nothing", "out"]).contains("cannot read nothing"));
}

#[test]
fn a_file_in_the_way_is_replaced_only_when_asked() {
    let bench = Bench::new();
    fs::write(bench.path("here"), "precious").unwrap();
    assert!(bench.fail(&["core", "here"]).contains("--force"));
    assert_eq!(fs::read(bench.path("here")).unwrap(), b"precious");
    assert_eq!(bench.run(&["--force", "core", "here"]).status.code(), Some(0));
    assert!(Dump::open(&bench.path("here")).unwrap().is_complete());
}

/// The largest file that may be written is smaller than the dump, and the signal that says so is ignored.
#[test]
fn a_disk_that_is_full_leaves_no_dump_that_looks_complete() {
    let bench = Bench::new();
    let holdover = env!("CARGO_BIN_EXE_holdover");
    for form in ["--elf", "--codec none"] {
        let script = format!("trap '' XFSZ; ulimit -f 400; exec {holdover} makedump {form} core out");
        let mut shell = Command::new("bash");
        let output = shell.current_dir(&bench.folder).args(["-c", &script]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(
            said.contains("out.unfinished has a part of it") && said.contains("File too large"),
            "{said}"
        );
        assert!(!bench.path("out").exists());
        assert!(!Dump::open(&bench.path("out.unfinished")).is_ok_and(|dump| dump.is_complete()), "{form}");
    }
    let mut dump = Dump::open(&bench.path("out.unfinished")).unwrap();
    let wrong = wrong_pages(&mut dump);
    assert!(wrong.len() < PAGES as usize, "what was written can be read");
    let mut content = [0; BLOCK];
    let are_missing = wrong.iter().all(|pfn| {
        matches!(dump.read_page(*pfn, &mut content), Err(DumpError::Kdump(ReadError::Missing(_))))
    });
    assert!(are_missing, "the others are named as missing");
}

#[test]
fn a_level_that_there_is_not_is_wrong_usage() {
    assert_eq!(Bench::new().run(&["-d", "32", "core", "out"]).status.code(), Some(2));
    assert_eq!(Bench::new().run(&["--threads", "0", "core", "out"]).status.code(), Some(2));
    assert_eq!(Bench::new().run(&["--codec", "lz4", "core", "out"]).status.code(), Some(2));
}
