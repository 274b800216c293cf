//! Checks dumps that `holdover makedump` made of the real `/proc/vmcore`, in a stock crash kernel: they must equal
//! the dump that makedumpfile made there, and the machine's memory.

use std::fs;

use anyhow::{Context, Result};

use super::super::memory;
use super::made::refilter_again;
use super::pages::Sample;
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
    readings.problems.extend(memory::compare_dumps(dump.path, &reference, changed)?);
    let sample = Sample::of(dump, before, changed)?;
    for path in &made {
        let dump = Dump { path, ..dump };
        readings.take("makedumpfile", refilter_again(dump, &reference));
        dump.read(readings);
    }
    sample.read(readings);
    Ok(())
}
