//! Dumps that `holdover makedump` made of the real `/proc/vmcore`, in a stock crash kernel: they must be what makedumpfile made
//! of it there, and what was in memory.

use anyhow::Result;

use super::super::memory;
use super::made::refilter_again;
use super::pages::Sample;
use super::{Case, Readings};
use crate::crashes::crash::{MADE, REFERENCE};
use crate::guests::stock::take_file;
use crate::machines::ram::Ram;

/// Takes the dumps from the crash kernel's disk and has all readers read them. `case` is of the first of them, and the
/// memory what that is of: before the crash kernel started, and at its end.
pub(crate) fn read_stock(case: Case, [before, after]: [&Ram; 2], readings: &mut Readings) -> Result<()> {
    let disk = case.files.disk();
    let (reference, core) = (case.files.scratch("reference"), case.files.scratch("core"));
    let [compressed, elf] = MADE;
    for (name, file) in [(REFERENCE, &reference), (compressed, &case.dump.to_owned()), (elf, &core)] {
        take_file(&disk, name, file)?;
    }
    // Devices do not rest until the crash kernel starts them anew.
    let changed = |frame: u64| memory::differ(before, after, frame);
    readings.problems.extend(memory::compare_dumps(case.dump, &reference, changed)?);
    let sample = Sample::of(case, before, changed)?;
    for case in [case, Case { dump: &core, ..case }] {
        readings.take("makedumpfile", refilter_again(case, &reference));
        case.read(readings);
    }
    sample.read(readings);
    Ok(())
}
