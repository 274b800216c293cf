//! Checks the sources without a guest: the walls between the rooms, the packages for others, and that libraries need
//! no operating system.

mod architecture;
pub(crate) mod freestanding;
mod imports;
mod members;
pub(crate) mod packages;
pub(crate) mod walls;
