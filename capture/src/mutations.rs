//! Makes deliberate mistakes, in the test build only: `holdover.mutate=` names one, and a test checks that a witness
//! notices it.
//!
//! Each mistake is a wrapper with the same name as the type or the function that it wraps, so only these files contain faulty
//! behaviour. A wrapper uses what it wraps and [`tables`], and nothing else of this module.

pub(crate) mod dma;
pub(crate) mod failures;
pub(crate) mod machine_checks;
pub(crate) mod memory;
mod tables;
pub(crate) mod unit;
pub(crate) mod watchdogs;

use core::sync::atomic::{AtomicU8, Ordering};

/// The command line's name of each mistake; [`CHOSEN`] holds the position, from 1.
const NAMES: [&str; 16] = [
    "skip-table",
    "reuse-iova",
    "clear-te",
    "flip-byte",
    "open-own",
    "hang",
    "no-pings",
    "slow-unit",
    "second-machine-check",
    "panic",
    "page-fault",
    "fail-discover",
    "fail-take-over",
    "panic-taking-over",
    "block-entry",
    "skip-invalidation",
];
const SKIP_TABLE: u8 = 1;
const REUSE_IOVA: u8 = 2;
const CLEAR_TE: u8 = 3;
const FLIP_BYTE: u8 = 4;
const OPEN_OWN: u8 = 5;
const HANG: u8 = 6;
const NO_PINGS: u8 = 7;
const SLOW_UNIT: u8 = 8;
const SECOND_MACHINE_CHECK: u8 = 9;
const PANIC: u8 = 10;
const PAGE_FAULT: u8 = 11;
const FAIL_DISCOVER: u8 = 12;
const FAIL_TAKE_OVER: u8 = 13;
const PANIC_TAKING_OVER: u8 = 14;
const BLOCK_ENTRY: u8 = 15;
const SKIP_INVALIDATION: u8 = 16;

/// Which mistake to make; 0 for none.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Reads from the command line which mistake to make.
pub(crate) fn choose(command_line: &str) {
    let wanted = command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix("holdover.mutate="));
    let position = NAMES.iter().position(|name| Some(*name) == wanted);
    CHOSEN.store(position.map_or(0, |position| position as u8 + 1), Ordering::Relaxed);
    machine_checks::prepare();
}

/// Whether this mistake is to be made.
fn chosen(mistake: u8) -> bool {
    CHOSEN.load(Ordering::Relaxed) == mistake
}

/// Makes no more mistakes.
fn stop() {
    CHOSEN.store(0, Ordering::Relaxed);
}
