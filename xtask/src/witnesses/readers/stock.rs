//! Checks dumps that `holdover makedump` made of the real `/proc/vmcore`, in a stock crash kernel: they must equal
//! the dump that makedumpfile made there, and the machine's memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::super::{elf_core, memory};
use super::made::refilter_again;
use super::pages::Sample;
use super::selection::{LEVEL, refilter};
use super::{Dump, Readings};
use crate::crashes::crash::REFERENCE;
use crate::guests::target::Target;
use crate::machines::ram::Ram;

/// Takes the dumps from where the crash kernel has written them and has all readers read them. `dump` is the first of them, and the
/// memory what that is of: before the crash kernel started, and at its end.
pub(crate) fn read_stock(
    dump: Dump,
    target: Target,
    [before, after]: [&Ram; 2],
    readings: &mut Readings,
) -> Result<()> {
    let folder = target.take(dump.files)?;
    let reference = folder.join(REFERENCE);
    let made: Vec<_> = target.made().iter().map(|name| folder.join(name)).collect();
    let first = made.first().context("no dump was asked for")?;
    fs::copy(first, dump.path).context("the server has no dump")?;
    // Devices do not rest until the crash kernel starts them anew.
    let changed = |frame: u64| memory::differ(before, after, frame);
    let lost = lost_by_makedumpfile(dump, &made, &reference)?;
    if !lost.is_empty() {
        let (count, reference) = (lost.len(), reference.display());
        eprintln!(
            "note  {reference} lacks {count} pages: makedumpfile knows OFFSET(page.compound_info) by its old name only"
        );
    }
    readings.problems.extend(memory::compare_dumps(dump.path, &reference, &lost, changed)?);
    let sample = Sample::of(dump, before, changed)?;
    for path in &made {
        let dump = Dump { path, ..dump };
        readings.take("makedumpfile", refilter_again(dump, &reference));
        dump.read(readings);
    }
    sample.read(readings);
    Ok(())
}

/// The frames that makedumpfile leaves out of the real `/proc/vmcore` because it knows a field of `struct page` by its old name only (see
/// [`elf_core`]), and takes tails of the slab allocator's pages for pages of programs: those that it keeps of the same memory where the
/// field has that name. None where the kernel calls the field so itself.
fn lost_by_makedumpfile(dump: Dump, made: &[PathBuf], reference: &Path) -> Result<BTreeSet<u64>> {
    let Some(core) = made.iter().find(|path| path.extension().is_some_and(|extension| extension == "elf"))
    else {
        return Ok(BTreeSet::new());
    };
    let [renamed, kept] = ["renamed.elf", "kept-by-old-name"].map(|name| dump.files.scratch(name));
    fs::copy(core, &renamed)?;
    if !elf_core::use_old_name(&renamed)? {
        return Ok(BTreeSet::new());
    }
    refilter(dump.programs, &renamed, &kept, LEVEL)?;
    Ok(memory::kept_frames(&kept)?.difference(&memory::kept_frames(reference)?).copied().collect())
}
