//! Pictures of a simulation: for a terminal and for a page.

mod moment;
mod svg;
mod text;
mod words;

pub use svg::svg;
pub use text::{Ink, text};
