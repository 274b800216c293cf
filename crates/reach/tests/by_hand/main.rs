//! Tables whose words are written by hand, by the layouts of the specifications, and tables of any words.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod amdvi;
mod anything;
mod vtd;
mod words;
