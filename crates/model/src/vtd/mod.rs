//! VT-d machines: what describes them, what their tables say, and their units.

mod assemble;
pub mod damage;
mod old_kernel;
pub mod random;
pub mod scenario;
pub(crate) mod unit;
pub mod vast;
pub mod walk;
