//! Dumps that `holdover makedump` makes of the machine's memory: every reader must open them, whatever the codec.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::super::memory::{compare_dumps, kept_frames};
use super::pages::Sample;
use super::selection::{LEVEL, refilter};
use super::{Case, Readings};
use crate::guests::tool::Tool;
use crate::machines::ram::Ram;

/// Those that readers of every age know.
const CODECS: [&str; 3] = ["zlib", "lzo", "none"];
/// Those that Debian 12's makedumpfile does not know.
const NEWER_CODECS: [&str; 2] = ["snappy", "zstd"];
/// Leaves out zeros and free pages, so that makedumpfile finds more to leave out.
const COARSE: &str = "17";

/// Makes dumps of a core, and has all readers read them. `case` is of the core, and `memory` what that is of.
pub(crate) fn read_made(case: Case, tool: &Tool, memory: &Ram, readings: &mut Readings) -> Result<()> {
    ensure!(case.kernel.is_some(), "`crash` and drgn need a kernel with debug information");
    let reference = case.files.scratch("reference");
    refilter(case.programs, case.dump, &reference, LEVEL)?;
    for codec in CODECS {
        let dump = case.files.scratch(&format!("made-{codec}"));
        tool.makedump(codec, COARSE, case.dump, &dump)?;
        let case = Case { dump: &dump, ..case };
        let refiltered = refilter_again(case, &reference);
        if let Some(refiltered) = readings.take(&format!("makedumpfile on {codec}"), refiltered) {
            let ours = case.files.scratch("refiltered-by-holdover");
            tool.makedump("zlib", LEVEL, case.dump, &ours)?;
            readings.problems.extend(compare_dumps(&ours, &refiltered, |_| false)?);
            let case = Case { dump: &refiltered, ..case };
            Sample::of(case, memory, |_| false)?.read_with_kdumpfile(readings);
        }
        case.read(readings);
        Sample::of(case, memory, |_| false)?.read(readings);
    }
    for codec in NEWER_CODECS {
        let dump = case.files.scratch(&format!("made-{codec}"));
        tool.makedump(codec, COARSE, case.dump, &dump)?;
        Sample::of(Case { dump: &dump, ..case }, memory, |_| false)?.read(readings);
    }
    read_elf(case, tool, &reference, readings)
}

/// Makes an ELF core of a core: all readers read it, and makedumpfile finds in it what it finds in the one it was made of.
fn read_elf(case: Case, tool: &Tool, reference: &Path, readings: &mut Readings) -> Result<()> {
    let core = case.files.scratch("made-elf");
    tool.make_elf(COARSE, case.dump, &core)?;
    let case = Case { dump: &core, ..case };
    readings.take("makedumpfile on an ELF core", refilter_again(case, reference));
    case.read(readings);
    Ok(())
}

/// What makedumpfile leaves of a dump must be what it leaves of the core.
pub(super) fn refilter_again(case: Case, reference: &Path) -> Result<PathBuf> {
    let refiltered = case.files.scratch("refiltered");
    refilter(case.programs, case.dump, &refiltered, LEVEL)?;
    ensure!(kept_frames(&refiltered)? == kept_frames(reference)?, "other pages are left than of the core");
    Ok(refiltered)
}
