//! What a dead kernel left in an area and nobody has collected, and what becomes of it.

use std::fmt;
use std::path::PathBuf;

use area::Held;

use crate::Bytes;

/// What becomes of a dump that is in an area and in no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfUncollected {
    /// It stays, and what would replace it is refused.
    Keep,
    /// It may be lost.
    Discard,
}

/// What a dead kernel left in an area and is in no file: a dump, a part of one, its log, or what cannot be told. Its text says how to
/// get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UncollectedDump {
    /// The area's device.
    pub device: PathBuf,
    /// What is there.
    pub held: Held,
}

impl fmt::Display for UncollectedDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device.display();
        match self.held {
            Held::Nothing => write!(f, "{device} holds no dump"),
            Held::Dump(bytes) => write!(
                f,
                "{device} holds a dump of {} that was not collected; `holdover collect {device} FILE` fetches it",
                Bytes(bytes)
            ),
            Held::Log(_) => write!(
                f,
                "{device} holds the log of a dead kernel, without a dump, that was not collected; `holdover collect --dmesg {device} FILE` fetches it"
            ),
            Held::Unknown(why) => write!(
                f,
                "{device} may hold a dump, but does not tell ({why}); `holdover collect --dmesg {device}` fetches the log if there is one"
            ),
        }
    }
}
