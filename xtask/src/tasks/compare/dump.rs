//! Checks and counts the dump on the disk afterwards: other readers must be able to read it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use dumpfile::BlockFile;
use kdump::Reader;
use machine::PAGE_SIZE;
use serde::Serialize;

use crate::machines::files::Files;
use crate::witnesses::{self, Readers};

/// A dump that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Dump {
    /// Pages that it keeps.
    #[serde(rename = "pages_in_dump")]
    pub(crate) pages: u64,
    /// Its size.
    #[serde(rename = "dump_bytes")]
    pub(crate) bytes: u64,
}

/// Makes a dump that was written to the beginning of an empty disk a file of its own.
pub(crate) fn trim(disk: &Path, dump: &Path) -> Result<()> {
    fs::rename(disk, dump)?;
    let file = File::options().read(true).write(true).open(dump)?;
    let end = used(&file)?;
    ensure!(end > 0, "the disk is empty");
    Ok(file.set_len(end)?)
}

/// Where the last page that is not all zero ends.
fn used(file: &File) -> Result<u64> {
    let mut page = [0; PAGE_SIZE as usize];
    let mut end = file.metadata()?.len();
    while let Some(start) = end.checked_sub(PAGE_SIZE) {
        file.read_exact_at(&mut page, start)?;
        if page.iter().any(|&byte| byte != 0) {
            break;
        }
        end = start;
    }
    Ok(end)
}

/// Checks that the dump is complete and shows the panic.
pub(crate) fn check(files: &Files, readers: &Readers) -> Result<Dump> {
    let path = files.dump();
    let readings = witnesses::read_log(readers, files);
    if let Some(problem) = readings.problems.first() {
        bail!("{problem}");
    }
    let reader = Reader::open(BlockFile::open(&path)?).context("not a dump")?;
    ensure!(reader.is_complete(), "the dump says that it is not complete");
    Ok(Dump { pages: reader.pages(), bytes: fs::metadata(&path)?.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_end_of_a_disk_is_cut_off_at_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, dump) = (dir.path().join("disk"), dir.path().join("dump"));
        let file = File::create(&disk).unwrap();
        file.set_len(4 * PAGE_SIZE).unwrap();
        file.write_all_at(b"end", PAGE_SIZE + 7).unwrap();
        trim(&disk, &dump).unwrap();
        assert_eq!(fs::metadata(dump).unwrap().len(), 2 * PAGE_SIZE);
    }

    #[test]
    fn an_empty_disk_holds_no_dump() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        File::create(&disk).unwrap().set_len(2 * PAGE_SIZE).unwrap();
        assert!(trim(&disk, &dir.path().join("dump")).is_err());
    }
}
