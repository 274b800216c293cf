//! Checks dumps that `holdover makedump` made of the real `/proc/vmcore`, in a stock crash kernel: they must equal
//! the dump that makedumpfile made there, and the machine's memory.

use anyhow::Result;

use super::super::memory;
use super::made::refilter_again;
use super::pages::Sample;
use super::{Dump, Readings};
use crate::crashes::crash::{MADE, REFERENCE};
use crate::guests::stock::take_file;
use crate::machines::ram::Ram;

/// Takes the dumps from the crash kernel's disk and has all readers read them. `dump` is the first of them, and the
/// memory what that is of: before the crash kernel started, and at its end.
pub(crate) fn read_stock(dump: Dump, [before, after]: [&Ram; 2], readings: &mut Readings) -> Result<()> {
    let disk = dump.files.disk();
    let (reference, core) = (dump.files.scratch("reference"), dump.files.scratch("core"));
    let [compressed, elf] = MADE;
    for (name, file) in [(REFERENCE, &reference), (compressed, &dump.path.to_owned()), (elf, &core)] {
        take_file(&disk, name, file)?;
    }
    // Devices do not rest until the crash kernel starts them anew.
    let changed = |frame: u64| memory::differ(before, after, frame);
    readings.problems.extend(memory::compare_dumps(dump.path, &reference, changed)?);
    let sample = Sample::of(dump, before, changed)?;
    for dump in [dump, Dump { path: &core, ..dump }] {
        readings.take("makedumpfile", refilter_again(dump, &reference));
        dump.read(readings);
    }
    sample.read(readings);
    Ok(())
}
