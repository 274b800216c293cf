//! Checks of the sources that need no guest: the walls between the rooms, packages for others, programs without an operating
//! system.

mod architecture;
pub(crate) mod freestanding;
mod imports;
mod members;
pub(crate) mod packages;
pub(crate) mod walls;
