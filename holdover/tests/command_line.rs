//! Runs the commands on files, as a person would.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use area::{Area, Completeness, Dump, LeftOut, read_label};
use dumpfile::BlockFile;
use kdump::{Codec, Header, NoteSegment, Page, Pages, Statistics, Utsname, begin, layout::Name};
use machine::{BlockDevice, BlockError};
use serde_json::Value;
use tempfile::TempDir;

const AREA_LEN: u64 = 8 << 20;

/// A folder with a file for a dump area.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Self { folder };
        fs::File::create(bench.disk()).unwrap().set_len(AREA_LEN).unwrap();
        bench
    }

    fn formatted() -> Self {
        let bench = Self::new();
        assert!(bench.run(&["format", "disk"]).status.success());
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn disk(&self) -> PathBuf {
        self.path("disk")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
        command.current_dir(&self.folder).args(arguments).output().unwrap()
    }

    /// Writes a dump as the capture kernel does; returns its length.
    fn dump(&self, completeness: Completeness) -> u64 {
        self.dump_through(|file| file, completeness)
    }

    /// The same, through a disk that is made of the file.
    fn dump_through<D: BlockDevice>(
        &self,
        disk: impl FnOnce(BlockFile) -> D,
        completeness: Completeness,
    ) -> u64 {
        let mut file = BlockFile::open_exclusive(&self.disk()).unwrap();
        let uuid = read_label(&mut file, 0).unwrap().uuid;
        let mut dump = Area::open(disk(file), 0, uuid).unwrap().begin().unwrap();
        let statistics = write_pages(&mut dump, completeness);
        dump.seal(completeness, statistics.file_bytes).unwrap();
        statistics.file_bytes
    }
}

/// A disk that complains once, late, of something that it had queued.
struct Complaining {
    file: BlockFile,
    flushes: u32,
}

impl BlockDevice for Complaining {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn block_size(&self) -> u32 {
        self.file.block_size()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        self.file.read(offset, into)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        self.file.write(offset, from)
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.flushes += 1;
        // The first is the one that says that a dump has begun.
        if self.flushes == 2 { Err(BlockError::Device(1)) } else { self.file.flush() }
    }
}

/// Writes all of a dump of eight pages but these.
fn begin_pages<D: BlockDevice>(dump: &mut Dump<D>) -> Pages<'_, Dump<D>> {
    let utsname = Utsname { release: Name::new("6.1.0-test"), ..Utsname::default() };
    let header = Header { utsname, crashed_at: 0, cpus: 1, frames: 1 << 17, phys_base: 0, dump_level: 31 };
    let mut bitmaps = begin(dump, &header, &NoteSegment::default(), Codec::Zlib).unwrap();
    bitmaps.push(&[0xFF], &[0xFF]).unwrap();
    bitmaps.finish().unwrap()
}

/// Writes eight pages, the last of them only if the dump is to be complete.
fn write_pages<D: BlockDevice>(dump: &mut Dump<D>, completeness: Completeness) -> Statistics {
    let mut pages = begin_pages(dump);
    for pfn in 0..7 {
        write_page(&mut pages, pfn);
    }
    if completeness == Completeness::Partial {
        return pages.abandon().statistics;
    }
    write_page(&mut pages, 7);
    let ended = pages.finish();
    assert_eq!(ended.error, None);
    ended.statistics
}

fn write_page<D: BlockDevice>(pages: &mut Pages<Dump<D>>, byte: u8) {
    let fill = |_, page: &mut Page| {
        page.fill(byte);
        Ok(())
    };
    pages.write_next(|_| true, fill).unwrap();
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn flip_byte(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn format_prints_the_uuid_that_is_in_the_label() {
    let bench = Bench::new();
    let output = bench.run(&["format", "disk", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let label = read_label(&mut BlockFile::open(&bench.disk()).unwrap(), 0).unwrap();
    assert_eq!(json(&output)["uuid"], label.uuid.to_string());
    assert_eq!(label.length, AREA_LEN);
}

#[test]
fn format_refuses_what_looks_used_and_overwrites_it_by_force() {
    let bench = Bench::formatted();
    let output = bench.run(&["format", "disk"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("holds a Holdover dump area"), "{}", stderr(&output));
    assert!(bench.run(&["format", "disk", "--force"]).status.success());
}

#[test]
fn an_area_is_neither_made_anew_nor_removed_while_it_holds_a_dump() {
    let bench = Bench::formatted();
    bench.dump(Completeness::Complete);
    for command in [&["format", "--force", "disk"][..], &["remove", "disk"]] {
        let said = stderr(&bench.run(command));
        assert!(
            said.contains("was not collected") && said.contains("`--discard-dump` gives it up"),
            "{said}"
        );
    }
    assert!(bench.run(&["format", "--force", "--discard-dump", "disk"]).status.success());
    bench.dump(Completeness::Complete);
    assert!(bench.run(&["remove", "--discard-dump", "disk"]).status.success());
    let said = stderr(&bench.run(&["collect", "disk", "vmcore"]));
    assert!(said.contains("is not a dump area"), "{said}");
    assert!(bench.run(&["format", "--force", "disk"]).status.success());
}

#[test]
fn format_names_what_it_found() {
    let found = [
        (1080, &b"\x53\xef"[..], "ext4"),
        (510, b"\x55\xaa", "partition table"),
        (512, b"EFI PART", "GUID"),
        (4086, b"SWAPSPACE2", "swap"),
        (777, b"\x01", "unknown kind at byte 777"),
        (AREA_LEN as usize - 512, b"EFI PART", "unknown kind at byte 8388096"),
    ];
    for (offset, bytes, expected) in found {
        let bench = Bench::new();
        let mut disk = vec![0; AREA_LEN as usize];
        disk[offset..offset + bytes.len()].copy_from_slice(bytes);
        fs::write(bench.disk(), disk).unwrap();
        let output = bench.run(&["format", "disk"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn format_says_how_to_make_a_file_that_is_not_there() {
    let output = Bench::new().run(&["format", "absent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("truncate -s 1G absent"), "{}", stderr(&output));
}

#[test]
fn format_of_a_device_that_is_not_there_advises_no_file_among_devices() {
    let said = stderr(&Bench::new().run(&["format", "/dev/no-such-disk"]));
    assert!(said.contains("`lsblk` lists") && !said.contains("truncate"), "{said}");
}

#[test]
fn a_complete_dump_is_collected_byte_for_byte_and_sparse() {
    let bench = Bench::formatted();
    let len = bench.dump(Completeness::Complete);
    let output = bench.run(&["collect", "disk", "vmcore", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = json(&output);
    assert_eq!((&report["complete"], &report["bytes"]), (&true.into(), &len.into()));
    assert_eq!((&report["kernel"], &report["pages"]), (&"6.1.0-test".into(), &8.into()));
    let dump = fs::read(bench.path("vmcore")).unwrap();
    let start = area::DUMP_OFFSET as usize;
    assert!(dump == fs::read(bench.disk()).unwrap()[start..start + len as usize]);
    let metadata = fs::metadata(bench.path("vmcore")).unwrap();
    assert!(metadata.blocks() * 512 < len, "{} of {len} bytes are stored", metadata.blocks() * 512);
    assert!(!bench.path("vmcore.unfinished").exists());
}

#[test]
fn a_partial_dump_is_collected_with_a_clear_word_and_its_own_exit_status() {
    let bench = Bench::formatted();
    bench.dump(Completeness::Partial);
    let output = bench.run(&["collect", "disk", "vmcore"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("partial: the capture kernel"));
    assert!(bench.path("vmcore").exists());
}

#[test]
fn a_damaged_dump_never_gets_the_name_that_was_asked_for() {
    let bench = Bench::formatted();
    let len = bench.dump(Completeness::Complete);
    flip_byte(&bench.disk(), (area::DUMP_OFFSET + len - 4096) as usize);
    let output = bench.run(&["collect", "disk", "vmcore"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("checksum"), "{}", stderr(&output));
    assert!(!bench.path("vmcore").exists());
    assert!(bench.path("vmcore.damaged").exists());
}

#[test]
fn a_block_that_the_disk_refused_makes_a_dump_partial_and_not_damaged() {
    let bench = Bench::formatted();
    let len = bench.dump_through(|file| Complaining { file, flushes: 0 }, Completeness::Partial);
    flip_byte(&bench.disk(), (area::DUMP_OFFSET + len - 4096) as usize);
    let output = bench.run(&["collect", "disk", "vmcore"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("some blocks are not what was written"), "{said}");
    assert!(bench.path("vmcore").exists() && !bench.path("vmcore.damaged").exists());
}

#[test]
fn what_there_was_no_room_for_is_told() {
    let bench = Bench::formatted();
    let mut file = BlockFile::open_exclusive(&bench.disk()).unwrap();
    let uuid = read_label(&mut file, 0).unwrap().uuid;
    let mut dump = Area::open(file, 0, uuid).unwrap().begin().unwrap();
    let statistics = write_pages(&mut dump, Completeness::Partial);
    dump.leave_out(LeftOut { pages: 1, reached: Some(31) });
    dump.seal(Completeness::Partial, statistics.file_bytes).unwrap();
    let output = bench.run(&["collect", "disk", "vmcore"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 pages; all that a dump of level 31 has are there"), "{said}");
    let report = json(&bench.run(&["--json", "collect", "disk", "vmcore", "--force"]));
    assert_eq!((&report["pages_left_out"], &report["level_reached"]), (&1.into(), &31.into()));
}

#[test]
fn the_log_is_printed_or_saved_even_where_no_page_was_safe() {
    let bench = Bench::formatted();
    assert!(stderr(&bench.run(&["collect", "disk", "--dmesg"])).contains("no log of a dead kernel"));
    let mut file = BlockFile::open_exclusive(&bench.disk()).unwrap();
    let uuid = read_label(&mut file, 0).unwrap().uuid;
    let mut dump = Area::open(file, 0, uuid).unwrap().begin().unwrap();
    let text = b"[    0.000000] one\n[    1.000000] \x1b[2J\xff\n";
    let mut log = dump.log(text.len() as u64);
    log.write(text).unwrap();
    log.store().unwrap();
    drop(dump);
    let printable = "[    0.000000] one\n[    1.000000] \\x1b[2J\\xff\n";
    for arguments in [&["collect", "disk", "--dmesg"][..], &["collect", "disk", "-", "--dmesg"]] {
        let output = bench.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), printable);
    }
    let saved = bench.run(&["collect", "--dmesg", "disk", "log.txt"]);
    assert!(String::from_utf8_lossy(&saved.stdout).contains("log.txt"), "{}", stderr(&saved));
    assert_eq!(fs::read_to_string(bench.path("log.txt")).unwrap(), printable);
    assert!(stderr(&bench.run(&["collect", "--dmesg", "disk", "log.txt"])).contains("--force"));
    assert_eq!(json(&bench.run(&["collect", "--json", "--dmesg", "disk"]))["log"], printable);
    assert_eq!(bench.run(&["collect", "disk"]).status.code(), Some(2));
}

/// The power may go while the seal is written.
#[test]
fn the_log_is_printed_though_the_seal_is_damaged() {
    let bench = Bench::formatted();
    let mut file = BlockFile::open_exclusive(&bench.disk()).unwrap();
    let uuid = read_label(&mut file, 0).unwrap().uuid;
    let mut dump = Area::open(file, 0, uuid).unwrap().begin().unwrap();
    let mut log = dump.log(4);
    log.write(b"one\n").unwrap();
    log.store().unwrap();
    drop(dump);
    flip_byte(&bench.disk(), (1 << 20) - 4096 + 40);
    assert!(stderr(&bench.run(&["collect", "disk", "vmcore"])).contains("seal"));
    let output = bench.run(&["collect", "disk", "--dmesg"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\n", "{}", stderr(&output));
}

#[test]
fn an_area_without_a_dump_says_so() {
    let bench = Bench::formatted();
    let output = bench.run(&["collect", "disk", "vmcore"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing was dumped"), "{}", stderr(&output));
    drop(bench_with_open_dump(&bench));
    let output = bench.run(&["collect", "disk", "vmcore"]);
    assert!(stderr(&output).contains("cut off before anything of it was safe"), "{}", stderr(&output));
    assert!(!bench.path("vmcore").exists());
}

#[test]
fn a_dump_that_was_cut_off_is_collected_as_far_as_it_was_safe() {
    let bench = Bench::formatted();
    let mut dump = bench_with_open_dump(&bench);
    let mut pages = begin_pages(&mut dump);
    (0..3).for_each(|pfn| write_page(&mut pages, pfn));
    pages.save().unwrap();
    write_page(&mut pages, 3);
    drop(dump);
    let output = bench.run(&["collect", "disk", "vmcore"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("partial: the machine was reset") && said.contains("3 of 8"), "{said}");
    let mut dump = kdump::Reader::open(BlockFile::open(&bench.path("vmcore")).unwrap()).unwrap();
    let mut page = [9; kdump::BLOCK];
    assert_eq!((dump.read_page(2, &mut page), page[7]), (Ok(()), 2));
    assert_eq!(dump.read_page(3, &mut page), Err(kdump::ReadError::Missing(3)));
    assert!(!dump.is_complete());
}

fn bench_with_open_dump(bench: &Bench) -> Dump<BlockFile> {
    let mut file = BlockFile::open_exclusive(&bench.disk()).unwrap();
    let uuid = read_label(&mut file, 0).unwrap().uuid;
    Area::open(file, 0, uuid).unwrap().begin().unwrap()
}

#[test]
fn collect_refuses_what_is_no_area_and_does_not_replace_a_file() {
    let bench = Bench::new();
    let output = bench.run(&["collect", "disk", "vmcore"]);
    assert!(stderr(&output).contains("`holdover format disk` makes it one"), "{}", stderr(&output));
    let formatted = Bench::formatted();
    fs::File::options().write(true).open(formatted.disk()).unwrap().set_len(AREA_LEN / 2).unwrap();
    let said = stderr(&formatted.run(&["collect", "disk", "vmcore"]));
    assert!(said.contains("was it cut") && !said.contains("format"), "{said}");
    fs::write(bench.path("vmcore"), "precious").unwrap();
    let output = bench.run(&["collect", "disk", "vmcore"]);
    assert!(stderr(&output).contains("`--force` replaces it"), "{}", stderr(&output));
    assert_eq!(fs::read(bench.path("vmcore")).unwrap(), b"precious");
}

#[test]
fn load_checks_its_options_before_it_touches_anything() {
    let bench = Bench::formatted();
    let output = bench.run(&["load", "--image", "image", "--area", "disk", "--level", "32"]);
    assert_eq!(output.status.code(), Some(2));
    let output = bench.run(&["load", "--image", "image", "--area", "disk", "--codec", "snappy"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there are none, zlib, lzo, zstd"), "{}", stderr(&output));
    let output = bench.run(&["load", "--image", "image", "--area", "disk", "--disk", "4.0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("0000:00:04.0"), "{}", stderr(&output));
}

#[test]
fn doctor_lists_every_check_and_its_exit_status_says_whether_one_failed() {
    let output = Bench::new().run(&["doctor", "--json"]);
    let report = json(&output);
    let names = [
        "crash reservation",
        "IOMMU",
        "devices after a panic",
        "ACPI root pointer",
        "permission to load",
        "disks",
        "dump area",
        "watchdogs",
        "other crash kernels",
        "capture kernel",
        "last test",
        "panic settings",
        "room for collected dumps",
    ];
    let findings = report["findings"].as_array().unwrap();
    let mut found: Vec<_> = findings.iter().map(|finding| &finding["what"]).collect();
    found.dedup();
    assert!(found.into_iter().eq(names), "{report}");
    let expected = if report["ready"] == true { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(expected));
    for finding in findings {
        let is_ok = finding["state"] == "ok";
        assert!(["remedy", "why"].iter().all(|key| (finding[key] == "") == is_ok), "{finding}");
        assert_eq!(finding["code"].is_null(), is_ok, "{finding}");
    }
}

#[test]
fn a_configuration_is_checked_and_shown_and_a_mistake_has_its_line() {
    let bench = Bench::new();
    fs::write(bench.path("good.toml"), "areas = ['/dev/vdb']\nlevel = 1\n").unwrap();
    fs::write(bench.path("bad.toml"), "level = 1\ncodecs = 'lzo'\n").unwrap();
    let good = bench.run(&["config", "check", "good.toml"]);
    assert!(good.status.success(), "{good:?}");
    assert!(String::from_utf8_lossy(&good.stdout).contains("it names a dump area"), "{good:?}");
    let bad = bench.run(&["config", "check", "bad.toml"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&bad.stderr).contains("bad.toml, line 2: there is no key `codecs`"),
        "{bad:?}"
    );
    let shown = bench.run(&["--json", "config", "show", "good.toml"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["level"], &shown["codec"]), (&1.into(), &"zlib".into()));
    assert_eq!(shown["collect"]["directory"], "/var/crash");
}

#[test]
fn collect_without_an_area_makes_a_folder_for_each_crash() {
    let bench = Bench::formatted();
    let bytes = bench.dump(Completeness::Complete);
    let disk = bench.disk();
    fs::create_dir_all(bench.path("root/etc")).unwrap();
    fs::write(bench.path("root/etc/holdover.toml"), format!("areas = [{disk:?}]\n")).unwrap();
    let output = bench.run(&["collect", "--root", "root", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = json(&output);
    let folder = PathBuf::from(told["areas"][0]["folder"].as_str().unwrap());
    assert!(folder.starts_with("root/var/crash"), "{folder:?}");
    assert_eq!(fs::metadata(bench.path("").join(&folder).join("vmcore")).unwrap().len(), bytes);
    let told = &told["areas"][0]["crash"];
    assert_eq!((&told["content"], &told["kernel"]), (&"complete".into(), &"6.1.0-test".into()));
    assert!(bench.path("root/var/lib/holdover/collected.json").exists());
    let again = bench.run(&["collect", "--root", "root"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to collect"), "{}", stderr(&again));
    bench.dump(Completeness::Partial);
    let partial = bench.run(&["collect", "--root", "root"]);
    let said = String::from_utf8_lossy(&partial.stdout).into_owned();
    assert_eq!(partial.status.code(), Some(3), "{}", stderr(&partial));
    assert!(
        said.contains("partial: the capture kernel") && said.contains("no record of a takeover"),
        "{said}"
    );
}

#[test]
fn collect_without_an_area_tells_of_an_area_that_is_gone_and_of_none() {
    let bench = Bench::new();
    fs::write(bench.path("config"), "areas = ['/no-such-folder/area']\n").unwrap();
    let output = bench.run(&["collect", "--root", "root", "--config", "config"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(said.contains(
        "/no-such-folder/area  not collected: /no-such-folder/area is a dump area, and is not there"
    ));
    assert!(said.contains("`holdover remove /no-such-folder/area`"), "{said}");
    let output = bench.run(&["collect", "--root", "other"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("`holdover setup` makes one"));
}
