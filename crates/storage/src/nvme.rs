//! NVMe controllers on PCI Express.
//!
//! Section numbers are of the NVM Express Base Specification, revision 2.0; those that begin with *NVM* are of the NVM Command
//! Set Specification, revision 1.0, and those that begin with *PCIe* of the NVMe over PCIe Transport Specification, revision
//! 1.0. Controllers of 1.0 to 1.4 are driven too.
//!
//! ```text
//! driver      a controller as `Controller`: brings it up, goes through its namespaces, carries requests
//!   admin       commands to the controller itself, one at a time
//!   namespace   which namespaces there are, and whether one can be used
//!   requests    what was asked for, and is asked for again
//!   transfer    where a request's data is: PRP entries
//!     queue       a pair of queues
//!     port        the registers: off, on, doorbells
//!       quirks      what some controllers need beyond the specification
//!       spec        layouts
//! ```

mod admin;
mod driver;
mod namespace;
mod port;
mod queue;
mod quirks;
mod requests;
mod spec;
mod transfer;

pub use driver::Nvme;
pub(crate) use driver::{DRIVEN, start};
