//! Has the capture kernel loaded, to be started by a panic: checks this host, finds the areas, composes the command line. Removes it again.

mod command_line;
mod destinations;
mod error;
mod unload;

use std::fs;
use std::path::{Path, PathBuf};

use handoff::Areas;
use kdump::Codec;
use pci::Function;
use vmcore::Level;

pub use self::destinations::LeftOutArea;
pub use self::error::LoadError;
pub use self::unload::{Unloaded, unload};
use crate::areas::registry::Registry;
use crate::areas::{self, AreaCopy, AreaName, FoundArea, UncollectedDump};
use crate::config::PanicConfiguration;
use crate::crash_slot::{self, Rival};
use crate::fallback::{FallbackRequest, Packed};
use crate::image::{Image, Origin};
use crate::kexec::{self, Refusal};
use crate::loaded::LoadNote;
use crate::lockdown::Lockdown;
use crate::panic_settings::{self, PanicSettings};
use crate::{memory_encryption, reservation, sysfs};

pub use crate::areas::IfUncollected;
pub use crate::kexec::{KernelLog, KexecError, KexecSyscall, Refused};

/// The root folder of this system.
const ROOT: &str = "/";

/// The capture kernel to load, and its options.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// The capture kernel.
    pub image: Image,
    /// Where dumps go: the areas in the order in which they are tried, at least one and at most [`MOST_AREAS`].
    pub areas: Vec<AreaName>,
    /// PCI function of the first area's disk; `None` takes the one that `/sys` names.
    pub disk: Option<Function>,
    /// Which pages to leave out.
    pub level: Level,
    /// How to compress pages: one of [`Codec::EVERYWHERE`], which the capture kernel knows.
    pub codec: Codec,
    /// The system call that loads.
    pub syscall: KexecSyscall,
    /// More options for the capture kernel's command line.
    pub append: Option<String>,
    /// What becomes of dumps in the areas that nobody has collected.
    pub if_uncollected: IfUncollected,
    /// What becomes of another's crash kernel.
    pub if_taken: IfTaken,
    /// The kernel to which the capture kernel hands the machine over where it cannot write the dump itself. With one, there need be no
    /// area.
    pub fallback: Option<FallbackRequest>,
    /// Which events panic the kernel from then on.
    pub panic: PanicConfiguration,
}

/// What becomes of a crash kernel that is loaded and is not Holdover's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfTaken {
    /// It stays, and nothing is loaded.
    Refuse,
    /// It is replaced.
    Replace,
}

/// Most areas that can be named at once.
pub const MOST_AREAS: usize = Areas::MOST;

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Where the capture kernel was found.
    pub image: Origin,
    /// The dump areas' devices, in their order.
    pub devices: Vec<PathBuf>,
    /// The capture kernel's command line.
    pub command_line: String,
    /// Areas that were named and left out.
    pub left_out: Vec<LeftOutArea>,
    /// Other devices that could get the dump.
    pub copies: Vec<AreaCopy>,
    /// The dumps in these areas that nobody has collected.
    pub uncollected: Vec<UncollectedDump>,
    /// What becomes of them.
    pub if_uncollected: IfUncollected,
    /// Why `doctor` will not know what was loaded, if it will not.
    pub unnoted: Option<String>,
    /// Why an automatic collect will not know that the areas are this host's, if it will not.
    pub unregistered: Option<String>,
    /// Which events panic the kernel from now on, where that changed.
    pub panic: PanicSettings,
    /// Units that will load another crash kernel at the next boot.
    pub rivals: Vec<Rival>,
}

/// Has the running kernel load the capture kernel, to be started by a panic.
pub fn load(request: &LoadRequest) -> Result<Loaded, LoadError> {
    let (reserved, needed) = (kexec::reserved()?, reservation::needed(Path::new(sysfs::SYS)));
    check_reservation(reserved, needed)?;
    if let Some(Refusal { found, remedy }) = kexec::refusal() {
        return Err(LoadError::Forbidden { found, remedy });
    }
    if memory_encryption::is_on(Path::new(ROOT)) {
        return Err(LoadError::MemoryEncrypted);
    }
    check_slot(request.if_taken, Path::new(ROOT))?;
    let fallback = request.fallback.as_ref().map(|fallback| pack(fallback, reserved, needed)).transpose()?;
    let (found, left_out) = match (&fallback, &request.areas[..]) {
        (Some(_), []) => (Vec::new(), Vec::new()),
        (_, areas) => destinations::find(areas)?,
    };
    // First: after a boot nothing keeps a file in its place, and there may be a dump in it.
    found.iter().try_for_each(FoundArea::pin)?;
    let is_first_there = left_out.iter().all(|area| Some(&area.name) != request.areas.first());
    let uncollected = destinations::uncollected(&found)?;
    request.if_uncollected.check(&uncollected, found.len())?;
    let addresses = destinations::addresses(&found, request.disk.filter(|_| is_first_there))?;
    let running = fs::read_to_string("/proc/cmdline").map_err(LoadError::NoCommandLine)?;
    let all = areas::all()?;
    let mut loaded = Loaded {
        image: request.image.origin().clone(),
        command_line: command_line::compose(request, addresses, &running)?,
        left_out,
        copies: found.iter().flat_map(|found| found.copies(&all)).collect(),
        uncollected,
        if_uncollected: request.if_uncollected,
        devices: found.iter().map(|found| found.device.clone()).collect(),
        unnoted: None,
        unregistered: None,
        panic: PanicSettings::default(),
        rivals: crash_slot::rivals(Path::new(ROOT)).into_iter().filter(|rival| rival.is_enabled).collect(),
    };
    let initramfs = fallback.as_ref().map(|packed| &packed.file);
    kexec::load(&request.image, initramfs, &loaded.command_line, request.syscall)?;
    let noted = LoadNote::write(&request.image, &loaded.command_line, &found, request.fallback.as_ref());
    loaded.unnoted = noted.err().map(|error| error.to_string());
    loaded.unregistered = Registry::of_host().add_found(&found).err().map(|error| error.to_string());
    // Last: a panic more is no use before it is dumped.
    loaded.panic = panic_settings::apply(Path::new(ROOT), &request.panic);
    Ok(loaded)
}

/// Refuses a reservation in which tables for this machine's devices would not fit.
fn check_reservation(reserved: u64, needed: u64) -> Result<(), LoadError> {
    if reserved >= needed {
        return Ok(());
    }
    Err(LoadError::ReservedTooLittle { reserved, needed })
}

/// Leaves another's crash kernel where it is, unless it may be replaced.
fn check_slot(if_taken: IfTaken, root: &Path) -> Result<(), LoadError> {
    if if_taken == IfTaken::Replace {
        return Ok(());
    }
    match crash_slot::other(root, crash_slot::owner()?) {
        Some(other) => Err(LoadError::Taken(other)),
        None => Ok(()),
    }
}

/// Packs the fallback kernel. The reservation must have room for it beside what the capture kernel keeps.
fn pack(fallback: &FallbackRequest, reserved: u64, kept: u64) -> Result<Packed, LoadError> {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let packed = fallback.pack(kept, Lockdown::now(), &processors)?;
    let needed = packed.weighed.needed.saturating_add(kept);
    if needed > reserved {
        return Err(LoadError::ReservedTooLittleForFallback { reserved, needed });
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_that_is_too_small_is_refused_with_the_one_that_is_needed() {
        assert!(check_reservation(16 << 20, 16 << 20).is_ok());
        let refused = check_reservation(16 << 20, 75 << 20).unwrap_err().to_string();
        assert!(
            refused.starts_with("16.00 MiB are reserved") && refused.ends_with("crashkernel=75M"),
            "{refused}"
        );
    }
}
