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
mod hand_over;
#[cfg(mutations)]
mod mutations;
mod platform;
mod recording;
mod remapping;
mod report;
mod take_over;
mod vmds;
mod watchdogs;

use capture::{acpi, listing, other_memory, root_pointer, units};
use handoff::{HandOver, Options};
use kdump::Codec;
use machine::{PhysicalAddress, Range};
use record::Record;
use screen::Stage;
use uuid::Uuid;
use vmcore::Level;

use crate::boot::{BootError, Booted};
#[cfg(not(mutations))]
use crate::discover::discover;
use crate::discover::{DiscoverError, Machine};
use crate::disk::{Destinations, Kept};
use crate::dump::{DumpError, Dumped, Form};
use crate::hand_over::HandOverError;
#[cfg(mutations)]
use crate::mutations::failures::{discover, take_over};
#[cfg(mutations)]
use crate::mutations::watchdogs::find as find_watchdogs;
use crate::platform::console::say;
use crate::platform::room::NoRoom;
use crate::remapping::Remapping;
use crate::take_over::TakeOverError;
#[cfg(not(mutations))]
use crate::take_over::take_over;
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
    NoDestination {
        /// What an area keeps because nobody has collected it.
        kept: Option<Kept>,
    },
    #[error("area {area}: {error}")]
    Dump {
        /// The area that was to take it.
        area: Uuid,
        error: DumpError,
    },
}

/// How an attempt to write the dump ended.
type Ended = Result<Dumped, CaptureError>;

/// Does the whole job, from the boot loader's parameters to a sealed dump, and says how it ended. The caller resets the machine.
fn capture(boot_params: u64) {
    let ended = boot::boot(boot_params).map_err(CaptureError::from).and_then(dump_of);
    if let Err(error) = &ended {
        say!("no sealed dump: {error}");
    }
    if !is_readable(&ended) {
        hand_over(HandOver::WhenNeeded, Default::default());
    }
    advice::give(&ended);
}

/// Writes the dump of the machine on which this kernel has booted.
fn dump_of(booted: Booted) -> Ended {
    let options = &Options::parse(booted.params.command_line());
    #[cfg(mutations)]
    mutations::choose(booted.params.command_line());
    let mut machine = discover(booted, options)?;
    say!("Holdover {}, {} KiB reserved", env!("CARGO_PKG_VERSION"), machine.reserved() >> 10);
    display::open(&mut machine);
    report::root_pointer(machine.root_pointer);
    find_watchdogs(&mut machine, options);
    display::begin(Stage::TakeOver);
    let mut remapping = take_over(&mut machine, options.areas)?;
    watchdogs::progress();
    hand_over::know_units(&remapping);
    let taken_over = recording::record(&remapping);
    report::units(&taken_over);
    if options.hand_over == HandOver::Always {
        hand_over(HandOver::Always, remapping.frames.never_used());
    }
    let dumped = dump_to_any(&mut machine, &mut remapping, options, &taken_over)?;
    report::dump(recording::record(&remapping).counts(), remapping.frames.used(), &dumped);
    Ok(dumped)
}

/// Hands the machine over to the fallback kernel, and returns if that is impossible. Where nothing was saved, a fallback that was
/// never loaded is not worth a word. `never_used` is memory in which there are no tables, as far as that is known.
fn hand_over(why: HandOver, never_used: [Range<PhysicalAddress>; 2]) {
    match hand_over::hand_over(never_used) {
        Err(HandOverError::NoRoom(NoRoom::NotLoaded)) if why == HandOver::WhenNeeded => {}
        Err(error) => say!("no hand-over to a fallback kernel: {error}"),
        Ok(never) => match never {},
    }
}

/// Writes the dump to the first area whose disk takes it; where none takes all of it, there are parts of it in several. Returns
/// what is known of the best one.
fn dump_to_any(
    machine: &mut Machine,
    remapping: &mut Remapping,
    options: &Options,
    taken_over: &Record,
) -> Ended {
    let level = options.level.unwrap_or(Level::ALL);
    let form = Form { level, codec: options.codec.unwrap_or(Codec::Zlib) };
    let mut destinations = Destinations::new(options);
    let mut best: Option<Ended> = None;
    display::begin(Stage::Disk);
    while let Some(destination) = destinations.next(machine, remapping) {
        let record = recording::record(remapping);
        report::attached(taken_over, &record);
        let old = &machine.old;
        #[cfg(mutations)]
        let old = &mutations::memory::DumpedMemory::new(old, &machine.header);
        let area = destination.uuid();
        let ended = dump::write(destination, old, &machine.header, record, form)
            .map_err(|error| CaptureError::Dump { area, error });
        match &ended {
            Ok(dumped) if !dumped.blames_disk() => return ended,
            Ok(dumped) => {
                report::disk_failed(dumped);
                display::begin(Stage::Disk);
            }
            Err(error) => say!("no sealed dump there: {error}; is there another area?"),
        }
        best = Some(better(best, ended));
    }
    best.unwrap_or(Err(CaptureError::NoDestination { kept: destinations.kept() }))
}

/// The attempt that left more: what readers open, then what has more pages; the earlier one, if there is no difference.
fn better(earlier: Option<Ended>, later: Ended) -> Ended {
    match earlier {
        Some(earlier) if left(&earlier) >= left(&later) => earlier,
        _ => later,
    }
}

/// Whether there is a dump that readers open.
fn is_readable(ended: &Ended) -> bool {
    left(ended).0
}

/// What an attempt left: whether readers open it, and how many pages are known to be in it.
fn left(ended: &Ended) -> (bool, u64) {
    match ended {
        Ok(dumped) => (dumped.is_readable(), dumped.written.done),
        Err(CaptureError::Dump { error: DumpError::Unsealed { is_readable, .. }, .. }) => (*is_readable, 0),
        Err(_) => (false, 0),
    }
}

/// On a host there is nothing to capture.
#[cfg(not(freestanding))]
fn main() {
    println!(
        "This program runs without an operating system: `cargo xtask build` makes the image that kexec loads."
    );
}

#[cfg(test)]
mod tests {
    use machine::BlockError;

    use super::*;

    fn unsealed(area: u128, is_readable: bool) -> Ended {
        let error = DumpError::Unsealed { error: BlockError::TimedOut, is_readable };
        Err(CaptureError::Dump { area: Uuid::from_u128(area), error })
    }

    fn area(ended: &Ended) -> Uuid {
        match ended {
            Err(CaptureError::Dump { area, .. }) => *area,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_readers_open_is_better_than_what_came_last() {
        let best = better(Some(better(None, unsealed(1, true))), unsealed(2, false));
        assert_eq!(area(&best), Uuid::from_u128(1));
        let best = better(Some(unsealed(1, false)), unsealed(2, true));
        assert_eq!(area(&best), Uuid::from_u128(2));
        let best = better(Some(unsealed(1, false)), unsealed(2, false));
        assert_eq!(area(&best), Uuid::from_u128(1), "nothing makes the later one better");
    }
}
