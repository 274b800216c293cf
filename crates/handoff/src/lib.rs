//! What the host and the capture kernel agree on: the command line, which `holdover load` composes and the capture kernel
//! reads, the lines of the capture kernel's console that programs read, and how the reservation is divided.
//!
//! | module | what it has |
//! |---|---|
//! | `options` | [`Options`]: the command line |
//! | `address` | [`Areas`]: the disks and the offsets of the dump areas, in their order, and what becomes of dumps in them |
//! | `serial` | [`SerialConsole`]: the port of the capture kernel's console |
//! | `console` | [`ConsoleLine`] and [`Event`]: the lines of the console that programs read |
//! | `fallback` | [`Fallback`]: another kernel that travels along, and [`HandOver`]: when the machine is handed over to it |
//! | [`setup_header`] | where the fields of a kernel's set-up header are |
//! | `bzimage` | [`BzImage`]: what must be known of that kernel to enter it |
//! | `summary` | [`Summary`]: the counts of a takeover and a dump |
//! | `reservation` | [`Remapping`]: how large the reservation must be; [`Share`]: which part of it is for what |
//!
//! Each type of text is written by its `Display` and read by its `parse`, and `parse` returns the value that was written.
//! Either text may come from anywhere: no input makes a parser panic, and no parser allocates.
//!
//! # Example
//!
//! ```
//! use handoff::{ConsoleLine, Event, Options};
//!
//! let options = Options::parse("quiet elfcorehdr=0x2e000000 holdover.level=31 console=ttyS0,115200");
//! assert_eq!(options.elfcorehdr, Some(0x2e00_0000));
//! assert_eq!(options.to_string(), "elfcorehdr=0x2e000000 holdover.level=31 console=ttyS0,115200");
//!
//! let line = ConsoleLine::parse("holdover: [1.250000] takeover done").unwrap();
//! assert_eq!(Event::parse(line.text), Some(Event::TakeoverDone));
//! ```

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

mod address;
mod bzimage;
mod console;
mod fallback;
mod options;
mod reservation;
mod serial;
pub mod setup_header;
mod summary;

pub use address::{AreaAddress, Areas, Uncollected};
pub use area::Completeness;
pub use bzimage::{BzImage, NotBootable};
pub use console::{ConsoleLine, Event};
pub use fallback::{CommandLineTooLong, Fallback, FallbackError, HandOver};
pub use options::Options;
pub use reservation::{Mode, Remapping, Share, tables_above};
pub use serial::SerialConsole;
pub use summary::Summary;

/// Reads a decimal number: digits only, without a sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)?.parse().ok()
}
