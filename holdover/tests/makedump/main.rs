//! `holdover makedump` as a person runs it, on a small core made here.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

mod again;
mod bench;
mod damaged;
mod outputs;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use bench::{Bench, FIRST_PFN, INFO, MEMORY, PAGES, core_with, json, stderr, wrong_pages};
use dumpfile::{Dump, DumpError};
use fixtures::info;
use fixtures::kernel::vmcoreinfo;
use fixtures::note::note;
use kdump::{BLOCK, ReadError};
use serde_json::Value;

#[test]
fn every_page_of_the_core_is_in_the_dump_with_any_codec() {
    let bench = Bench::new();
    for codec in kdump::Codec::ALL.iter().map(|codec| codec.name()) {
        let output = bench.run(&["--codec", codec, "core", codec]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let said = json(&output);
        assert_eq!((&said["pages"], &said["complete"]), (&PAGES.into(), &true.into()));
        let dump = Dump::open(&bench.path(codec)).unwrap();
        assert!(dump.is_complete());
        assert_eq!((dump.release(), dump.vmcoreinfo().text()), ("6.1.0-test", INFO));
        assert_eq!(dump.pages(), PAGES);
        assert!(wrong_pages(&dump).is_empty(), "{codec}");
    }
}

#[test]
fn a_core_is_itself_a_dump_that_can_be_read() {
    let dump = Dump::open(&Bench::new().path("core")).unwrap();
    assert!(dump.is_complete());
    assert_eq!(dump.pages(), PAGES);
    assert_eq!(dump.next_page(0).unwrap(), Some(FIRST_PFN));
    assert_eq!(vmcore::notes_in(dump.notes().bytes()).count(), 2);
    assert!(wrong_pages(&dump).is_empty());
}

#[test]
fn an_elf_core_holds_the_same_pages_and_can_be_dumped_again() {
    let bench = Bench::new();
    assert_eq!(json(&bench.run(&["--elf", "core", "elf"]))["complete"], Value::from(true));
    assert_eq!(bench.run(&["elf", "again"]).status.code(), Some(0));
    for name in ["elf", "again"] {
        let dump = Dump::open(&bench.path(name)).unwrap();
        assert!(dump.is_complete());
        assert_eq!((dump.release(), dump.vmcoreinfo().text()), ("6.1.0-test", INFO));
        assert_eq!((dump.pages(), vmcore::notes_in(dump.notes().bytes()).count()), (PAGES, 2));
        assert!(wrong_pages(&dump).is_empty(), "{name}");
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
        let [file, alone] = [name, "alone"].map(|name| fs::metadata(bench.path(name)).unwrap());
        assert_eq!(json(&output)["bytes"], Value::from(file.len()));
        // Each thread writes to pieces of its own. What it does not fill of the last one is a hole.
        assert!(file.blocks().saturating_sub(alone.blocks()) * 512 <= 7 * BLOCK as u64, "{threads} threads");
        let dump = Dump::open(&bench.path(name)).unwrap();
        assert!(dump.is_complete() && wrong_pages(&dump).is_empty(), "{threads} threads");
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
    let dump = Dump::open(&bench.path("out")).unwrap();
    assert!(!dump.is_complete());
    assert_eq!(wrong_pages(&dump), (FIRST_PFN + 500..FIRST_PFN + 600).collect::<Vec<_>>());
}

#[test]
fn what_could_not_be_read_is_not_in_an_elf_core() {
    let bench = Bench::new();
    bench.edit(|bytes| bytes.truncate(MEMORY + 500 * BLOCK + 77));
    let output = bench.run(&["--elf", "core", "out"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(json(&output)["missing"], Value::from(100));
    let dump = Dump::open(&bench.path("out")).unwrap();
    assert_eq!(dump.pages(), 500);
    assert_eq!(wrong_pages(&dump), (FIRST_PFN + 500..FIRST_PFN + 600).collect::<Vec<_>>());
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
    bench.edit(|bytes| bytes[4] = 1);
    assert!(bench.fail(&["core", "out"]).contains("no ELF64 core header"));
    bench.edit(|bytes| bytes[0] = 0);
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
    for form in ["--elf", "--codec none --threads 1"] {
        let script = format!("trap '' XFSZ; ulimit -f 1200; exec {holdover} makedump {form} core out");
        let mut shell = Command::new("bash");
        let output = shell.current_dir(&bench.folder).args(["-c", &script]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(
            said.contains("out.unfinished has a part of it") && said.contains("File too large"),
            "{said}"
        );
        assert!(!bench.path("out").exists());
        let dump = Dump::open(&bench.path("out.unfinished")).unwrap();
        assert!(!dump.is_complete(), "{form}");
        assert!(wrong_pages(&dump).len() < PAGES as usize, "{form}: what was written can be read");
    }
    let dump = Dump::open(&bench.path("out.unfinished")).unwrap();
    let wrong = wrong_pages(&dump);
    let is_missing =
        |pfn: &u64| matches!(dump.check_page(*pfn), Err(DumpError::Kdump(ReadError::Missing(_))));
    assert!(wrong.iter().all(is_missing), "the others are named as missing");
}

#[test]
fn a_level_that_there_is_not_is_wrong_usage() {
    assert_eq!(Bench::new().run(&["-d", "32", "core", "out"]).status.code(), Some(2));
    assert_eq!(Bench::new().run(&["--threads", "0", "core", "out"]).status.code(), Some(2));
    assert_eq!(Bench::new().run(&["--codec", "lz4", "core", "out"]).status.code(), Some(2));
}
