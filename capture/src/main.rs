//! The capture kernel: it starts when Linux has died, accepts the IOMMU as Linux left it, writes the dump, and resets
//! the machine.
//!
//! ```text
//! boot → discover → take over → attach → dump → seal → reset
//! ```
//!
//! A failure costs only what depends on the failed part. The console reports it, and the machine is reset in the end:
//! every wait has a deadline, and neither an exception nor a panic stops the machine.
//!
//! Compiled for a host, this is an ordinary program that does nothing, so that clippy, rust-analyzer and `cargo test`
//! work on it. `xtask` sets `--cfg freestanding` when it builds the image.
#![cfg_attr(freestanding, no_std, no_main)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(freestanding), allow(dead_code, reason = "on a host only the unit tests run"))]

extern crate alloc;

mod advice;
mod boot;
mod discover;
mod disk;
mod display;
mod dma;
mod dump;
#[cfg(mutations)]
mod mutations;
mod platform;
mod recording;
mod remapping;
mod report;
mod take_over;
mod vmds;
mod watchdogs;

use capture::{acpi, amd, other_memory, root_pointer, units};
use handoff::Options;
use kdump::Codec;
use record::Record;
use screen::Stage;
use vmcore::Level;

use crate::boot::{BootError, Booted};
use crate::discover::{DiscoverError, Machine};
use crate::disk::Destinations;
use crate::dump::{DumpError, Dumped, Form};
#[cfg(mutations)]
use crate::mutations::watchdogs::find as find_watchdogs;
use crate::platform::console::say;
use crate::remapping::Remapping;
use crate::take_over::TakeOverError;
#[cfg(not(mutations))]
use crate::watchdogs::find as find_watchdogs;

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
enum CaptureError {
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    #[error("no disk takes the dump; the lines above say why")]
    NoDestination,
    #[error(transparent)]
    Dump(#[from] DumpError),
}

/// Does the whole job, from the boot loader's parameters to a sealed dump, and says how it ended. The caller resets the machine.
fn capture(boot_params: u64) {
    let booted = match boot::boot(boot_params) {
        Ok(booted) => booted,
        Err(error) => return say!("no sealed dump: {error}"),
    };
    let options = Options::parse(booted.params.command_line());
    let ended = dump_of(booted, &options);
    if let Err(error) = &ended {
        say!("no sealed dump: {error}");
    }
    advice::give(&ended, options.areas);
}

/// Writes the dump of the machine on which this kernel has booted.
fn dump_of(booted: Booted, options: &Options) -> Result<Dumped, CaptureError> {
    #[cfg(mutations)]
    mutations::choose(booted.params.command_line());
    let mut machine = discover::discover(booted, options)?;
    say!("Holdover {}, {} KiB reserved", env!("CARGO_PKG_VERSION"), machine.reserved() >> 10);
    display::open(&mut machine);
    report::root_pointer(machine.root_pointer);
    find_watchdogs(&mut machine, options);
    display::begin(Stage::TakeOver);
    let mut remapping = take_over::take_over(&mut machine, options.areas)?;
    watchdogs::progress();
    let taken_over = recording::record(&remapping);
    report::units(&taken_over);
    let dumped = dump_to_any(&mut machine, &mut remapping, options, &taken_over)?;
    report::dump(recording::record(&remapping).counts(), remapping.frames.used(), &dumped);
    Ok(dumped)
}

/// Writes the dump to the first area whose disk takes it; where none takes all of it, there are parts of it in several. Returns
/// what is known of the best one.
fn dump_to_any(
    machine: &mut Machine,
    remapping: &mut Remapping,
    options: &Options,
    taken_over: &Record,
) -> Result<Dumped, CaptureError> {
    let level = options.level.unwrap_or(Level::ALL);
    let form = Form { level, codec: options.codec.unwrap_or(Codec::Zlib) };
    let mut destinations = Destinations::new(options);
    let mut best = Err(CaptureError::NoDestination);
    display::begin(Stage::Disk);
    while let Some(destination) = destinations.next(machine, remapping) {
        let record = recording::record(remapping);
        report::attached(taken_over, &record);
        let old = &machine.old;
        #[cfg(mutations)]
        let old = &mutations::memory::DumpedMemory::new(old, &machine.header);
        match dump::write(destination, old, &machine.header, record, form) {
            Ok(dumped) if !dumped.blames_disk() => return Ok(dumped),
            Ok(dumped) => {
                report::disk_failed(&dumped);
                display::begin(Stage::Disk);
                best = Ok(dumped.or_better(best.ok()));
            }
            Err(error) => {
                say!("no sealed dump there: {error}; is there another area?");
                best = best.or(Err(error.into()));
            }
        }
    }
    best
}

/// On a host there is nothing to capture.
#[cfg(not(freestanding))]
fn main() {
    println!(
        "This program runs without an operating system: `cargo xtask build` makes the image that kexec loads."
    );
}
