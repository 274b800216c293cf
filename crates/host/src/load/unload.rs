//! Removes the capture kernel again, and lets the files go that it would have written.

use std::path::Path;

use super::ROOT;
use crate::areas::{AreaError, FoundArea, UncollectedDump};
use crate::crash_slot::{self, OtherCrashKernel};
use crate::kexec::{self, KexecError};
use crate::loaded::{self, LoadNote};
use crate::panic_settings::{self, PanicSettings};

/// What was left when the capture kernel was removed.
#[derive(Debug)]
pub struct Unloaded {
    /// Files that stay pinned, because they hold dumps that nobody has collected.
    pub holding: Vec<UncollectedDump>,
    /// Why files that need no pin any more still have theirs.
    pub pinned: Vec<AreaError>,
    /// The crash kernel that stays, because it is not Holdover's.
    pub other: Option<OtherCrashKernel>,
    /// Which events panic the kernel no more, or again.
    pub panic: PanicSettings,
}

/// Has the running kernel remove the capture kernel: from then on a panic is not dumped. Another's crash kernel stays. Files that the
/// capture kernel would have written need not stay in their places, unless there is a dump in them.
pub fn unload() -> Result<Unloaded, KexecError> {
    let areas = loaded::areas();
    let other = crash_slot::other(Path::new(ROOT), crash_slot::owner()?);
    if other.is_none() {
        kexec::unload()?;
    }
    LoadNote::remove();
    let panic = panic_settings::restore(Path::new(ROOT));
    let mut unloaded = Unloaded { holding: Vec::new(), pinned: Vec::new(), other, panic };
    // A file that is lost has no pin.
    for found in areas.iter().filter_map(|area| FoundArea::again(&area.device, area.uuid).ok()) {
        match found.uncollected() {
            Ok(Some(dump)) => unloaded.holding.push(dump),
            Ok(None) | Err(_) => unloaded.pinned.extend(found.unpin().err()),
        }
    }
    Ok(unloaded)
}
