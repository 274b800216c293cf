//! What a host does with Holdover.

#![forbid(unsafe_code)]
#![expect(unreachable_pub, reason = "the command line moves out next")]

pub mod areas;
mod codec;
pub mod collect;
pub mod doctor;
pub mod inspect;
mod kexec;
pub mod load;
pub mod makedump;
pub mod report;
mod sysfs;
mod unfinished;
