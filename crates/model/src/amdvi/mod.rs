//! AMD-Vi machines: what describes them, what their tables say, and their units.
//!
//! The rooms are those of VT-d. A unit differs in this: its device table says of each device what becomes of its requests,
//! its commands come through a buffer in memory, and it writes events, page requests and guest interrupts to memory.
//!
//! Section numbers are those of the specification that the crate `amdvi` names.

mod assemble;
pub mod damage;
mod old_kernel;
pub mod random;
pub mod scenario;
pub(crate) mod unit;
pub mod walk;

pub use scenario::Scenario;
