//! The second witness: the guest's memory as a file. The dump must equal it, and old memory must have been left alone.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use blockfile::BlockFile;
use kdump::{Bitmap, Reader};
use machine::PAGE_SIZE;
use serde::Serialize;

use super::writable::Writable;
use crate::ram::{Page, Ram};
use crate::reserved::Reserved;

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
pub(crate) struct Case<'a> {
    /// Memory when Holdover started.
    pub(crate) before: &'a Ram,
    /// Memory when the machine had reset.
    pub(crate) after: &'a Ram,
    /// Memory that is Holdover's.
    pub(crate) reserved: &'a Reserved,
    /// What may have changed.
    pub(crate) writable: &'a Writable,
}

impl Case<'_> {
    /// Compares every page of the dump, and every page of old memory, with memory as it was.
    pub(crate) fn judge(&self, dump: &Path) -> Result<Remembered> {
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
