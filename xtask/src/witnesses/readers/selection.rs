//! Checks which pages are in a dump: makedumpfile decides which belong there.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::memory::kept_frames;
use super::super::reader::Readers;
use super::{LIMIT, Readings};
use crate::guests::tool::Tool;
use crate::machines::files::Files;
use crate::process;

/// The level whose pages are compared: everything that can be left out is.
pub(super) const LEVEL: &str = "31";
/// Levels that leave out one kind of pages each. (1 is about pages' content, and changes no bitmap.)
const SINGLE_LEVELS: [u8; 5] = [0, 2, 4, 8, 16];
/// Why pages are left out, in the words of `holdover makedump`.
const KINDS: [&str; 6] = ["free", "cache", "private_cache", "user", "poisoned", "offline"];

/// Compares the dump's pages with those that `makedumpfile` keeps of the same memory.
///
/// What may differ is not compared.
pub(crate) fn compare_selection(
    programs: &Readers,
    files: &Files,
    core: &Path,
    may_differ: impl Fn(u64) -> bool,
    readings: &mut Readings,
) -> Result<()> {
    let reference = kept_by_makedumpfile(programs, files, core, LEVEL)?;
    let dump = kept_frames(&files.dump())?;
    let only = |these: &BTreeSet<u64>, those: &BTreeSet<u64>| {
        these.difference(those).filter(|&&frame| !may_differ(frame)).copied().collect::<Vec<_>>()
    };
    let (missing, more) = (only(&reference, &dump), only(&dump, &reference));
    if let Some(first) = missing.first() {
        readings
            .problems
            .push(format!("page frame {first:#x} should be in the dump, as makedumpfile has it"));
    }
    if let Some(first) = more.first() {
        readings.problems.push(format!("page frame {first:#x} is in the dump, and makedumpfile left it out"));
    }
    readings.pages_only_in_reference = Some(missing.len() as u64);
    readings.pages_only_in_dump = Some(more.len() as u64);
    Ok(())
}

/// Compares the pages that `holdover makedump` and `makedumpfile` keep of the same memory, at levels that each leave out one
/// kind of pages.
pub(crate) fn compare_levels(
    programs: &Readers,
    tool: &Tool,
    files: &Files,
    core: &Path,
    readings: &mut Readings,
) -> Result<()> {
    for level in SINGLE_LEVELS {
        compare_level(programs, tool, files, core, level, readings)?;
    }
    Ok(())
}

/// The same at every level, of a memory in which pages of every kind are in use.
pub(crate) fn compare_every_level(
    programs: &Readers,
    tool: &Tool,
    files: &Files,
    core: &Path,
    readings: &mut Readings,
) -> Result<()> {
    let mut left_out = Value::Null;
    // Level 1 is about pages' content, and changes no bitmap.
    for level in (0..=30).step_by(2) {
        left_out = compare_level(programs, tool, files, core, level, readings)?;
    }
    let absent = KINDS.into_iter().filter(|kind| left_out[kind].as_u64().is_none_or(|pages| pages == 0));
    readings.problems.extend(absent.map(|kind| format!("the last level leaves out no {kind} pages")));
    Ok(())
}

/// Returns how many pages of which kind `holdover makedump` says that it leaves out.
fn compare_level(
    programs: &Readers,
    tool: &Tool,
    files: &Files,
    core: &Path,
    level: u8,
    readings: &mut Readings,
) -> Result<Value> {
    let (dump, level) = (files.scratch("dump"), level.to_string());
    let mut said = tool.makedump("lzo", &level, core, &dump)?;
    if kept_frames(&dump)? != kept_by_makedumpfile(programs, files, core, &level)? {
        readings.problems.push(format!("level {level}: `holdover makedump` keeps other pages"));
    }
    Ok(said["left_out"].take())
}

fn kept_by_makedumpfile(
    programs: &Readers,
    files: &Files,
    core: &Path,
    level: &str,
) -> Result<BTreeSet<u64>> {
    let reference = files.scratch("reference");
    refilter(programs, core, &reference, level)?;
    kept_frames(&reference)
}

/// Has makedumpfile leave out pages of a core, or of a dump that has them.
pub(super) fn refilter(programs: &Readers, core: &Path, reference: &Path, level: &str) -> Result<()> {
    let mut makedumpfile = programs.makedumpfile();
    makedumpfile.args(["-f", "-l", "-d", level]).arg(core).arg(reference);
    process::stdout_within(&mut makedumpfile, "", LIMIT)
        .with_context(|| format!("makedumpfile cannot read {}", core.display()))?;
    Ok(())
}
