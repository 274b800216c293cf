//! The stop between the dead kernel and the one that takes the dump, at the latter's first instruction: to damage memory, and to copy
//! it.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use handoff::BzImage;
use handoff::setup_header::ENTRY_64;

use super::{Crash, ENTRY};
use crate::crashes::damage::{Damage, Wound};
use crate::guests::kernels::Kernel;
use crate::machines::files::Files;
use crate::machines::gdb::{Gdb, RSI};
use crate::machines::qemu::{self, Machine};
use crate::machines::ram::{self, Ram};
use crate::machines::reserved::Reserved;
use crate::machines::scenario::capture::Capture;
use crate::witnesses::tables::Tables;
use crate::witnesses::trace::Trace;

/// A stop between the dead kernel and Holdover.
pub(crate) struct Stop {
    /// When.
    pub(crate) entered: SystemTime,
    /// What was done to the dead kernel's tables.
    pub(crate) wound: Option<Wound>,
}

impl Crash<'_> {
    /// Lets the guest crash, and stops it between the dead kernel and Holdover to damage and to copy its memory.
    pub(super) fn stop_at_entry(
        &self,
        machine: &mut Machine,
        files: &Files,
        reserved: &Reserved,
    ) -> Result<Stop> {
        let entry = self.entry()?.find(files, reserved)?;
        let mut gdb = Gdb::connect(&qemu::gdb_socket(files))?;
        gdb.break_at(entry)?;
        self.let_go(machine)?;
        gdb.run_to_breakpoint(ENTRY)?;
        let entered = SystemTime::now();
        if let Some(loss) = self.scenario.loss {
            // At the 64-bit entry, RSI has the address of boot_params (boot.rst, "64-bit Boot Protocol").
            loss.inflict(&Ram::open_writable(&files.ram())?, gdb.register(RSI)?)?;
        }
        let wound = self.scenario.damage.map(|damage| inflict(damage, files, reserved)).transpose()?;
        ram::copy(&files.ram(), &files.snapshot())?;
        gdb.detach()?;
        Ok(Stop { entered, wound })
    }

    /// The entry of the kernel that takes the dump.
    fn entry(&self) -> Result<Entry> {
        match self.scenario.capture {
            Capture::Holdover | Capture::HandedOver | Capture::Fallback => entry_of(self.image),
            Capture::Stock => entry_of(&Kernel::load(self.scenario.crash_kernel())?.image),
        }
    }
}

fn inflict(damage: Damage, files: &Files, reserved: &Reserved) -> Result<Wound> {
    let ram = Ram::open_writable(&files.ram())?;
    let trace = Trace::read(&files.trace(), SystemTime::now())?;
    let iova = trace.lowest_iova(damage.victim().source_id()).context("the victim does no DMA")?;
    damage.inflict(&ram, &Tables::new(&ram, trace.dead_root()?), reserved, iova)
}

/// The first instructions of an image's 64-bit entry.
struct Entry {
    code: Vec<u8>,
}

/// Reads the instructions at the 64-bit entry of a bzImage.
fn entry_of(image: &Path) -> Result<Entry> {
    let image = fs::read(image)?;
    let first = image.first_chunk().context("the image is too short for a bzImage")?;
    let program = BzImage::parse(first, image.len() as u64)?.program();
    let start = (program.start + ENTRY_64) as usize;
    let code = image.get(start..start + 256).context("the image is too short for a bzImage")?;
    Ok(Entry { code: code.to_vec() })
}

impl Entry {
    /// Physical address of the loaded entry.
    fn find(&self, files: &Files, reserved: &Reserved) -> Result<u64> {
        Ram::open(&files.ram())?
            .find(reserved.pieces(), 0x200, &self.code)
            .context("cannot find the loaded capture kernel in memory")
    }
}
