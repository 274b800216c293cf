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

mod boot;
mod discover;
mod disk;
mod dma;
mod dump;
#[cfg(mutations)]
mod mutations;
mod platform;
mod recording;
mod remapping;
mod report;
mod take_over;
mod watchdogs;

use capture::{acpi, amd, other_memory, root_pointer, units};
use handoff::Options;
use kdump::Codec;
use vmcore::Level;

use crate::boot::BootError;
use crate::discover::DiscoverError;
use crate::dump::{DumpError, Form};
#[cfg(mutations)]
use crate::mutations::watchdogs::find as find_watchdogs;
use crate::platform::console::say;
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
    #[error("no disk with the dump area")]
    NoDestination,
    #[error(transparent)]
    Dump(#[from] DumpError),
}

/// Does the whole job, from the boot loader's parameters to a sealed dump. The caller resets the machine.
fn capture(boot_params: u64) -> Result<(), CaptureError> {
    let booted = boot::boot(boot_params)?;
    let options = Options::parse(booted.params.command_line());
    #[cfg(mutations)]
    mutations::choose(booted.params.command_line());
    let mut machine = discover::discover(booted, &options)?;
    say!("Holdover {}, {} KiB reserved", env!("CARGO_PKG_VERSION"), machine.reserved() >> 10);
    report::root_pointer(machine.root_pointer);
    find_watchdogs(&mut machine, &options);
    let mut remapping = take_over::take_over(&mut machine, options.disk)?;
    watchdogs::progress();
    let taken_over = recording::record(&remapping);
    report::units(&taken_over);
    let destination = disk::find_destination(&mut machine, &mut remapping, &options);
    let destination = destination.ok_or(CaptureError::NoDestination)?;
    let record = recording::record(&remapping);
    report::attached(&taken_over, &record);
    let level = options.level.unwrap_or(Level::ALL);
    let form = Form { level, codec: options.codec.unwrap_or(Codec::Zlib) };
    let old = &machine.old;
    #[cfg(mutations)]
    let old = &mutations::memory::DumpedMemory::new(old, &machine.header);
    let counts = record.counts();
    let dumped = dump::write(destination, old, &machine.header, record, form)?;
    report::dump(counts, remapping.frames.used(), &dumped);
    Ok(())
}

/// On a host there is nothing to capture.
#[cfg(not(freestanding))]
fn main() {
    println!(
        "This program runs without an operating system: `cargo xtask build` makes the image that kexec loads."
    );
}
