//! Headers that claim what is not so, and inputs of other machines and programs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use dumpfile::Dump;
use fixtures::info;
use fixtures::kernel::{machine, vmcoreinfo};
use fixtures::note::note;
use kdump::BLOCK;
use machine::OldMemory;

use crate::bench::{Bench, FIRST_PFN, INFO, MEMORY, PAGES, core, json, stderr, wrong_pages};

/// Offsets in the core of the fields of its second program header, which is that of its memory.
const KIND: usize = 64 + 56;
const PHYSICAL: usize = KIND + 24;
const FILE_SIZE: usize = KIND + 32;
const MEMORY_SIZE: usize = KIND + 40;
/// Where a kdump-compressed dump has its version, and `max_mapnr_64`.
const VERSION: usize = 8;
const FRAMES_64: usize = BLOCK + 96;

fn put(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

/// A change to the core's headers, and how many of its pages are still to be found.
type Damage = (&'static [(usize, u64)], u64);

#[test]
fn a_claim_beyond_any_memory_is_told_and_what_is_in_the_file_is_taken() {
    let damages: [Damage; 6] = [
        (&[(MEMORY_SIZE, 1 << 60)], PAGES),
        (&[(MEMORY_SIZE, 1 << 60), (FILE_SIZE, 1 << 60)], PAGES),
        (&[(MEMORY_SIZE, 1 << 50)], PAGES),
        (&[(FILE_SIZE, 1 << 60)], PAGES),
        (&[(PHYSICAL, 1 << 60)], 0),
        (&[(KIND, 0x7_0000_0005)], 0),
    ];
    for (changes, there) in damages {
        for form in ["--elf", "--codec=none"] {
            let bench = Bench::new();
            bench.edit(|bytes| {
                for (at, number) in changes {
                    put(bytes, *at, *number);
                }
                // Memory that no damage concerns: the first page once more, at 0x2000.
                bytes[56] = 3;
                let other = [0x7_0000_0001, MEMORY as u64, 0, 0x2000, 4096, 4096, 0].map(u64::to_le_bytes);
                bytes.splice(KIND + 56..KIND + 56, other.as_flattened().iter().copied());
                bytes.drain(MEMORY - 56..MEMORY);
                put(bytes, 64 + 8, 0xB0 + 56);
            });
            let output = bench.run(&["--force", form, "core", "out"]);
            assert_eq!(output.status.code(), Some(3), "{changes:x?} {}", stderr(&output));
            let said = json(&output);
            assert!(said["state"].as_str().unwrap().contains("header"), "{said}");
            assert_eq!(wrong_pages(&Dump::open(&bench.path("out")).unwrap()).len() as u64, PAGES - there);
        }
    }
}

/// As `/proc/kcore` gives it: no size in memory for notes, and no physical address for what is no RAM.
#[test]
fn notes_are_as_long_as_they_are_in_the_file() {
    let bench = Bench::new();
    bench.edit(|bytes| put(bytes, 64 + 40, 0));
    let output = bench.run(&["core", "out"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(Dump::open(&bench.path("out")).unwrap().vmcoreinfo().text(), INFO);
}

/// The limit counts seconds of the processors: a dump of one range at 64 TiB, and a dump of that dump, whose bitmaps have 2 GiB.
#[test]
fn holes_between_memory_take_no_time() {
    let bench = Bench::new();
    bench.edit(|bytes| put(bytes, PHYSICAL, 1 << 46));
    let holdover = env!("CARGO_BIN_EXE_holdover");
    for (input, out) in [("core", "dump"), ("dump", "again")] {
        let script = format!("ulimit -t 2; exec {holdover} makedump --codec none {input} {out}");
        let output = Command::new("bash").current_dir(&bench.folder).args(["-c", &script]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{input}: {} {}", output.status, stderr(&output));
    }
    let dump = Dump::open(&bench.path("again")).unwrap();
    assert_eq!((dump.is_complete(), dump.pages()), (true, PAGES));
    let mut page = [0; BLOCK];
    assert!(dump.read_page((1 << 34) + 1, &mut page).is_ok() && page == crate::bench::page(FIRST_PFN + 1));
}

/// Memory that is far from all other, which the file has.
#[test]
fn holes_between_memory_take_no_room() {
    let at = |address: u64| {
        let bench = Bench::new();
        bench.edit(|bytes| put(bytes, PHYSICAL, address));
        bench
    };
    let bench = at(1 << 45);
    let output = bench.run(&["core", "out"]);
    assert_eq!(
        (output.status.code(), &json(&output)["pages"]),
        (Some(0), &PAGES.into()),
        "{}",
        stderr(&output)
    );
    let file = fs::metadata(bench.path("out")).unwrap();
    assert!(file.blocks() * 512 < 3 << 20 && file.len() > 2 << 30, "{file:?}");
    let bench = at(1 << 50);
    assert!(bench.fail(&["core", "out"]).contains("`--elf` has none"));
    let output = bench.run(&["--elf", "core", "out"]);
    assert_eq!(
        (output.status.code(), &json(&output)["pages"]),
        (Some(0), &PAGES.into()),
        "{}",
        stderr(&output)
    );
}

/// As QEMU dumps a guest that it knows nothing of.
#[test]
fn vmcoreinfo_is_found_in_memory_where_no_note_has_it() {
    const LEN: usize = 16 << 20;
    let bench = Bench::new();
    let text = vmcoreinfo(info::UP_TO_6_2);
    let dump = |notes: &[(u64, &str)]| {
        let mut memory = machine(1);
        for (address, text) in notes {
            memory.write(*address, &note(b"VMCOREINFO\0", 0, text.as_bytes()));
        }
        let mut bytes = core();
        bytes.truncate(0xB0);
        put(&mut bytes, 64, 0);
        [PHYSICAL, FILE_SIZE, MEMORY_SIZE]
            .into_iter()
            .zip([0, LEN, LEN])
            .for_each(|(at, n)| put(&mut bytes, at, n as u64));
        bytes.resize(MEMORY, 0);
        let mut content = vec![0; LEN];
        memory.read(0.into(), &mut content).unwrap();
        bytes.extend(content);
        fs::write(bench.path("core"), bytes).unwrap();
        bench.run(&["--force", "-d", "31", "core", "out"])
    };
    // The other one is of a kernel that is gone.
    let other = text.replace("6.1.0", "5.1.0");
    let output = dump(&[(0x9000, &text), (0xf0_0040, &other)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let made = Dump::open(&bench.path("out")).unwrap();
    assert_eq!((made.vmcoreinfo().text(), made.release()), (text.as_bytes(), "6.1.0-56-amd64"));
    let output = dump(&[(0x9000, &other)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`-d 0` and `-d 1` do without"));
    for level in ["0", "1"] {
        assert_eq!(bench.run(&["--force", "-d", level, "core", "out"]).status.code(), Some(0));
    }
}

#[test]
fn a_dump_of_another_machine_is_refused() {
    let bench = Bench::new();
    bench.edit(|bytes| bytes[18] = 0xb7);
    assert!(bench.fail(&["core", "out"]).contains("an ELF core of an arm64 machine"));
    let bench = Bench::with_dump(&[]);
    bench.change("dump", |bytes| bytes[12 + 4 * 65..][..8].copy_from_slice(b"aarch64\0"));
    for arguments in [&["dump", "out"][..], &["-d", "0", "--elf", "dump", "out"]] {
        assert!(bench.fail(arguments).contains("a dump of an aarch64 machine"));
    }
}

#[test]
fn older_versions_of_the_format_are_read() {
    for version in [1u8, 2, 3, 4, 5] {
        let bench = Bench::with_dump(&[]);
        bench.change("dump", |bytes| {
            bytes[VERSION] = version;
            // What the version does not have is garbage.
            let from = [12, 32, 48, 64, 80][usize::from(version - 1)];
            bytes[BLOCK + from..BLOCK + 104].fill(0xEE);
        });
        let output = bench.run(&["-d", "1", "dump", "out"]);
        assert_eq!(output.status.code(), Some(0), "version {version}: {}", stderr(&output));
        let dump = Dump::open(&bench.path("out")).unwrap();
        assert!(wrong_pages(&dump).is_empty());
        assert_eq!(dump.vmcoreinfo().text(), if version < 3 { &b""[..] } else { INFO });
    }
    let bench = Bench::with_dump(&[]);
    bench.change("dump", |bytes| bytes[VERSION] = 7);
    assert!(bench.fail(&["dump", "out"]).contains("version 7"));
}

#[test]
fn pages_that_the_list_of_memory_lacks_are_taken_and_told() {
    let bench = Bench::with_dump(&[]);
    bench.change("dump", |bytes| bytes[2 * BLOCK + FIRST_PFN as usize / 8] = 0);
    let output = bench.run(&["dump", "out"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(json(&output)["state"].as_str().unwrap().contains("8 pages that its list of memory lacks"));
    assert!(wrong_pages(&Dump::open(&bench.path("out")).unwrap()).is_empty());
}

#[test]
fn a_level_that_there_is_not_makes_a_dump_that_says_so() {
    let bench = Bench::with_dump(&[]);
    bench.change("dump", |bytes| bytes[BLOCK + 8] = 64);
    let output = bench.run(&["dump", "out"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let bench = Bench::with_dump(&[]);
    bench.change("dump", |bytes| put(bytes, FRAMES_64, 1 << 60));
    assert!(bench.fail(&["dump", "out"]).contains("outside the file"));
}

#[test]
fn what_is_no_dump_is_called_what_it_is() {
    let bench = Bench::new();
    let cases: [(&[u8], &str); 5] = [
        (b"", "it is empty"),
        (&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0], "a gzip file: unpack it first"),
        (&[0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0], "a zstd file: unpack it first"),
        (b"KDUMP   \x06\0\0\0", "not even its headers are within its 12 bytes"),
        (b"makedumpfile\0\0\0\0\0\0\0", "not even its headers are within its 19 bytes"),
    ];
    for (content, why) in cases {
        fs::write(bench.path("core"), content).unwrap();
        let said = bench.fail(&["core", "out"]);
        assert!(said.contains(why), "{said}");
    }
    bench.edit(|bytes| bytes[16] = 2);
    assert!(bench.fail(&["core", "out"]).contains("an ELF file that is no core"));
    assert!(bench.fail(&[".", "out"]).contains("directory"));
}
