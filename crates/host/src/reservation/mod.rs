//! The memory that is reserved for a crash kernel: how large it must be on this machine, and what is in it. The kernel says how
//! large it is ([`kexec::reserved`](crate::kexec::reserved)).

mod content;
mod needed;

pub(crate) use self::content::checksum;
pub(crate) use self::needed::needed;
