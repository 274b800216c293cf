//! Dumps that `holdover makedump` makes of the machine's memory: every reader must open them, whatever the codec.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::super::memory::{compare_dumps, kept_frames};
use super::pages::Sample;
use super::selection::{LEVEL, refilter};
use super::{Dump, Readings};
use crate::guests::tool::Tool;
use crate::machines::ram::Ram;

/// Those that readers of every age know.
const CODECS: [&str; 3] = ["zlib", "lzo", "none"];
/// Those that Debian 12's makedumpfile does not know.
const NEWER_CODECS: [&str; 2] = ["snappy", "zstd"];
/// Leaves out zeros and free pages, so that makedumpfile finds more to leave out.
const COARSE: &str = "17";

/// Makes dumps of a core, and has all readers read them. `memory` is what the core is of.
pub(crate) fn read_made(core: Dump, tool: &Tool, memory: &Ram, readings: &mut Readings) -> Result<()> {
    ensure!(core.kernel.is_some(), "`crash` and drgn need a kernel with debug information");
    let reference = core.files.scratch("reference");
    refilter(core.programs, core.path, &reference, LEVEL)?;
    for codec in CODECS {
        let made = core.files.scratch(&format!("made-{codec}"));
        tool.makedump(codec, COARSE, core.path, &made)?;
        let made = Dump { path: &made, ..core };
        let refiltered = refilter_again(made, &reference);
        if let Some(refiltered) = readings.take(&format!("makedumpfile on {codec}"), refiltered) {
            let ours = core.files.scratch("refiltered-by-holdover");
            tool.makedump("zlib", LEVEL, core.path, &ours)?;
            readings.problems.extend(compare_dumps(&ours, &refiltered, &BTreeSet::new(), |_| false)?);
            let refiltered = Dump { path: &refiltered, ..made };
            Sample::of(refiltered, memory, |_| false)?.read_with_kdumpfile(readings);
        }
        made.read(readings);
        Sample::of(made, memory, |_| false)?.read(readings);
    }
    for codec in NEWER_CODECS {
        let made = core.files.scratch(&format!("made-{codec}"));
        tool.makedump(codec, COARSE, core.path, &made)?;
        Sample::of(Dump { path: &made, ..core }, memory, |_| false)?.read(readings);
    }
    read_elf(core, tool, &reference, readings)
}

/// Makes an ELF core of a core: all readers read it, and makedumpfile finds in it what it finds in the one it was made of.
fn read_elf(core: Dump, tool: &Tool, reference: &Path, readings: &mut Readings) -> Result<()> {
    let made = core.files.scratch("made-elf");
    tool.make_elf(COARSE, core.path, &made)?;
    let made = Dump { path: &made, ..core };
    readings.take("makedumpfile on an ELF core", refilter_again(made, reference));
    made.read(readings);
    Ok(())
}

/// What makedumpfile leaves of a dump must be what it leaves of the core.
pub(super) fn refilter_again(dump: Dump, reference: &Path) -> Result<PathBuf> {
    let refiltered = dump.files.scratch("refiltered");
    refilter(dump.programs, dump.path, &refiltered, LEVEL)?;
    ensure!(kept_frames(&refiltered)? == kept_frames(reference)?, "other pages are left than of the core");
    Ok(refiltered)
}
