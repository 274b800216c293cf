//! The second witness: the guest's memory as a file. The dump must equal it, and the takeover must not have changed
//! old memory.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use dumpfile::BlockFile;
use kdump::{Bitmap, Reader};
use machine::PAGE_SIZE;
use serde::Serialize;

use super::writable::Writable;
use crate::machines::ram::{Page, Ram};
use crate::machines::reserved::Reserved;
use crate::machines::scenario::Codec;

/// What the comparisons found, in pages.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Remembered {
    /// Pages that the dump keeps.
    pub(crate) pages_in_dump: u64,
    /// Those of them that were read back and compared: all, unless something is wrong.
    pub(crate) pages_compared: u64,
    /// Differ, and no device may have written them.
    pub(crate) pages_different: u64,
    /// Differ, but belong to a buffer that a device could still write.
    pub(crate) pages_different_explained: u64,
    /// Pages of old memory that changed while Holdover ran.
    pub(crate) old_memory_pages_changed: u64,
    /// Those of them that no device may have written.
    pub(crate) old_memory_pages_changed_unexplained: u64,
    /// The first of each kind of trouble.
    #[serde(skip)]
    pub(crate) problems: Vec<String>,
}

/// Memory before and after, and who may have written to it.
pub(crate) struct States<'a> {
    /// Memory when Holdover started.
    pub(crate) before: &'a Ram,
    /// Memory when the machine had reset.
    pub(crate) after: &'a Ram,
    /// Memory that is Holdover's.
    pub(crate) reserved: &'a Reserved,
    /// What may have changed.
    pub(crate) writable: &'a Writable,
}

impl States<'_> {
    /// Compares every page of the dump, and every page of old memory, with memory as it was.
    pub(crate) fn check(&self, dump: &Path) -> Result<Remembered> {
        let mut found = Remembered::default();
        self.compare_dump(dump, &mut found)?;
        self.compare_old_memory(&mut found)?;
        Ok(found)
    }

    fn compare_dump(&self, dump: &Path, found: &mut Remembered) -> Result<()> {
        let mut dump = open(dump)?;
        found.pages_in_dump = dump.pages();
        let mut content = [0; PAGE_SIZE as usize];
        for frame in frames(&mut dump)? {
            let address = frame * PAGE_SIZE;
            if let Err(error) = dump.read_page(frame, &mut content) {
                found.different(&format!("the dump's page {address:#x} cannot be read: {error}"));
                continue;
            }
            found.pages_compared += 1;
            self.compare_page(address, &content, found);
        }
        Ok(())
    }

    fn compare_page(&self, address: u64, content: &Page, found: &mut Remembered) {
        match self.before.page(address) {
            Ok(page) if page == *content => {}
            Ok(page) if self.writable.explains(address, &page, content) => {
                found.pages_different_explained += 1;
            }
            Ok(page) => {
                let difference = difference(&page, content);
                found.different(&format!(
                    "the dump's page {address:#x} is not what was in memory: {difference}"
                ));
            }
            Err(error) => found.different(&format!("the dump's page {address:#x}: {error}")),
        }
    }

    fn compare_old_memory(&self, found: &mut Remembered) -> Result<()> {
        let changed = self.after.changed_since(self.before)?;
        let old: Vec<_> = changed.into_iter().filter(|&address| !self.reserved.contains(address)).collect();
        let mut unexplained = Vec::new();
        for &address in &old {
            let (before, after) = (self.before.page(address)?, self.after.page(address)?);
            if !self.writable.explains(address, &before, &after) {
                unexplained.push((address, difference(&before, &after)));
            }
        }
        found.old_memory_pages_changed = old.len() as u64;
        found.old_memory_pages_changed_unexplained = unexplained.len() as u64;
        if let Some((first, difference)) = unexplained.first() {
            let what =
                format!("old memory at {first:#x} changed, and no device may write there: {difference}");
            found.problems.push(what);
        }
        Ok(())
    }
}

impl Remembered {
    fn different(&mut self, problem: &str) {
        self.pages_different += 1;
        if self.pages_different == 1 {
            self.problems.push(problem.to_owned());
        }
    }
}

/// Where two states of a page differ first and last, with the start of both: enough to know whose data it is.
fn difference(before: &Page, after: &Page) -> String {
    let differs = |&at: &usize| before[at] != after[at];
    let first = (0..before.len()).find(differs).unwrap_or_default();
    let last = (0..before.len()).rfind(differs).unwrap_or_default();
    let shown = first..before.len().min(first + 16);
    let [was, is] = [before, after].map(|page| &page[shown.clone()]);
    format!("bytes {first:#x} to {last:#x}, from {was:02x?} to {is:02x?}")
}

/// The page frames that a dump keeps.
pub(crate) fn kept_frames(dump: &Path) -> Result<BTreeSet<u64>> {
    frames(&mut open(dump)?)
}

/// The codec that the header of a dump names; `None` if it is none that Holdover was asked for.
///
/// makedumpfile, `diskdump_mod.h`: `status` follows `signature`, `header_version`, `utsname` and `timestamp`, and has
/// `DUMP_DH_COMPRESSED_ZLIB` (1) or `DUMP_DH_COMPRESSED_LZO` (2).
pub(crate) fn codec_of(dump: &Path) -> Result<Option<Codec>> {
    let mut status = [0; 4];
    File::open(dump)?.read_exact_at(&mut status, 424)?;
    Ok(match u32::from_le_bytes(status) {
        0 => Some(Codec::None),
        1 => Some(Codec::Zlib),
        2 => Some(Codec::Lzo),
        32 => Some(Codec::Zstd),
        _ => None,
    })
}

/// Whether a page of memory is not the same in two states.
pub(crate) fn differ(before: &Ram, after: &Ram, frame: u64) -> bool {
    before.page(frame * PAGE_SIZE).ok() != after.page(frame * PAGE_SIZE).ok()
}

/// In what two dumps of the same memory differ, but for the content of pages that may, and for frames that the reference lacks.
pub(crate) fn compare_dumps(
    dump: &Path,
    reference: &Path,
    lacks: &BTreeSet<u64>,
    may_differ: impl Fn(u64) -> bool,
) -> Result<Vec<String>> {
    let (mut dump, mut reference) = (open(dump)?, open(reference)?);
    let (ours, theirs) = (frames(&mut dump)?, frames(&mut reference)?);
    let mut problems = Vec::new();
    let mut expect = |what: &str, holds: bool| {
        if !holds {
            problems.push(format!("the dump {what}"));
        }
    };
    expect("says that it is not complete", dump.is_complete());
    expect("has another header than the reference", dump.header() == reference.header());
    expect("has other notes than the reference", dump.notes()? == reference.notes()?);
    expect("has another VMCOREINFO than the reference", dump.vmcoreinfo()? == reference.vmcoreinfo()?);
    let theirs_and_lacking: BTreeSet<_> = theirs.union(lacks).copied().collect();
    let alone = ours.symmetric_difference(&theirs_and_lacking).next();
    problems.extend(alone.map(|frame| format!("page frame {frame:#x} is in one of both dumps only")));
    for frame in ours.intersection(&theirs).copied().filter(|&frame| !may_differ(frame)) {
        if content(&mut dump, frame)? != content(&mut reference, frame)? {
            problems.push(format!("page frame {frame:#x} is not the same as in the reference"));
            break;
        }
    }
    Ok(problems)
}

fn content(dump: &mut Reader<BlockFile>, frame: u64) -> Result<Page> {
    let mut page = [0; PAGE_SIZE as usize];
    dump.read_page(frame, &mut page).with_context(|| format!("page frame {frame:#x}"))?;
    Ok(page)
}

fn open(dump: &Path) -> Result<Reader<BlockFile>> {
    let file = BlockFile::open(dump).with_context(|| format!("no dump in {}", dump.display()))?;
    Reader::open(file).with_context(|| format!("{} cannot be read", dump.display()))
}

fn frames(dump: &mut Reader<BlockFile>) -> Result<BTreeSet<u64>> {
    let mut frames = BTreeSet::new();
    let mut next = 0;
    while let Some(frame) = dump.next_set(Bitmap::Kept, next)? {
        frames.insert(frame);
        next = frame + 1;
    }
    Ok(frames)
}
