//! Runs `holdover makedump` on a small core made here.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use dumpfile::Dump;
use fixtures::note::note;
use kdump::{BLOCK, Page};
use machine::OldMemory;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PAGES: u64 = 600;
/// Where in the core the first page is.
pub(crate) const MEMORY: usize = 0x1000;
pub(crate) const FIRST_PFN: u64 = 0x100;
pub(crate) const INFO: &[u8] = b"OSRELEASE=6.1.0-test\nPAGESIZE=4096\n";

pub(crate) struct Bench {
    pub(crate) folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(bench.path("core"), core()).unwrap();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the core.
    pub(crate) fn edit(&self, change: impl Fn(&mut Vec<u8>)) {
        let mut bytes = core();
        change(&mut bytes);
        fs::write(self.path("core"), bytes).unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
        command.current_dir(&self.folder).args(["makedump", "--json"]).args(arguments).output().unwrap()
    }

    /// Runs what must not make a dump; returns what it says.
    pub(crate) fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(!self.path("out").exists());
        stderr(&output)
    }
}

/// A page of a made-up machine: zeros, something that repeats, or noise.
pub(crate) fn page(pfn: u64) -> Page {
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
pub(crate) fn core() -> Vec<u8> {
    core_with(INFO)
}

pub(crate) fn core_with(info: &[u8]) -> Vec<u8> {
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

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The page frames of a dump whose content is not that of the machine.
pub(crate) fn wrong_pages(dump: &Dump) -> Vec<u64> {
    let frames = FIRST_PFN..FIRST_PFN + PAGES;
    let mut content = [0; BLOCK];
    frames.filter(|pfn| dump.read_page(*pfn, &mut content).is_err() || content != page(*pfn)).collect()
}
