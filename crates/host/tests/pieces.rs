//! Counts how often the host's kernel is called to collect a dump. Alone in its program, because the kernel counts the calls of
//! a whole process.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs::{self, File};

use area::{Area, Completeness};
use dumpfile::BlockFile;
use host::IfExists;
use host::areas::{self, AreaName, IfUsed};
use host::collect::{CollectRequest, collect};
use machine::BlockDevice;

/// Bytes of the dump: about those of a small machine at level 31.
const LEN: usize = 39 << 20;
/// A piece is at least this large on average.
const PIECE: usize = 512 << 10;

/// A value of `/proc/self/io` (proc_pid_io(5)).
fn calls(key: &str) -> usize {
    let text = fs::read_to_string("/proc/self/io").unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    value.trim_start_matches(':').trim().parse().unwrap()
}

#[test]
fn a_dump_is_read_and_written_in_large_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    File::create(&disk).unwrap().set_len(48 << 20).unwrap();
    let uuid = areas::format(&disk, IfUsed::Refuse, folder.path()).unwrap().uuid;
    let mut dump = Area::open(BlockFile::open_exclusive(&disk).unwrap(), 0, uuid).unwrap().begin().unwrap();
    dump.write(0, &vec![7; LEN]).unwrap();
    dump.seal(Completeness::Complete, LEN as u64).unwrap();
    let before = ["syscr", "syscw"].map(calls);
    let (area, out) = (AreaName::Device(disk), folder.path().join("vmcore"));
    let request = CollectRequest { area, out: out.clone(), if_exists: IfExists::Refuse, root: "/".into() };
    assert_eq!(collect(&request, &()).unwrap().bytes, LEN as u64);
    let after = ["syscr", "syscw"].map(calls);
    let [reads, writes] = [after[0] - before[0], after[1] - before[1]];
    assert!(reads < LEN / PIECE + 64, "{reads} reads");
    assert!(writes < LEN / PIECE, "{writes} writes");
    assert!(fs::read(&out).unwrap() == vec![7; LEN]);
}
