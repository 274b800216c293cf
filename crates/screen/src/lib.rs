//! Shows how a dump gets on, on the framebuffer that firmware left.
//!
//! A [`Mode`] says where the framebuffer is and how its pixels look; it is made from `screen_info`, which nobody vouches for. A
//! [`Panel`] is the text in the upper part of the display: [`Stage`]s, [`Progress`], a verdict. It remembers what it shows and
//! draws only the cells that change, because a framebuffer can be slow to write.

#![no_std]
#![forbid(unsafe_code)]

mod mode;
mod panel;
mod progress;

pub use mode::{Mode, Unusable, scale};
pub use panel::{CELL_HEIGHT, CELL_WIDTH, COLUMNS, Ink, Panel, Pixels, ROWS, Stage, Standing, glyph};
pub use progress::Progress;

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
