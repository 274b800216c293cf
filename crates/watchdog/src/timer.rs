//! A timer that runs, of any kind.

use core::time::Duration;

use machine::{Ports, Registers};

use crate::Kind;
use crate::bmc::Bmc;
use crate::i6300esb::I6300esb;
use crate::tco::Tco;
use crate::wdat::Wdat;

/// The countdown that timers get, where they can: longer than any wait that has a deadline of its own, such as a disk's, so that
/// these end first, and not so long that a machine which hangs stays away.
pub(crate) const EXTENDED: Duration = Duration::from_secs(120);

/// A timer that runs.
#[derive(Debug)]
pub(crate) enum Timer<R> {
    Wdat(Wdat<R>),
    Tco(Tco),
    I6300esb(I6300esb<R>),
    Bmc(Bmc),
}

impl<R: Registers> Timer<R> {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Wdat(_) => Kind::Wdat,
            Self::Tco(_) => Kind::Tco,
            Self::I6300esb(_) => Kind::I6300esb,
            Self::Bmc(_) => Kind::Ipmi,
        }
    }

    /// Makes the countdown as long as it may be; returns that in milliseconds, or `None` if it stays as it was.
    pub(crate) fn extend(&mut self, ports: &mut impl Ports) -> Option<u64> {
        match self {
            Self::Wdat(timer) => timer.extend(ports),
            Self::Tco(timer) => Some(timer.extend(ports)),
            Self::I6300esb(timer) => timer.extend(),
            Self::Bmc(timer) => timer.extended,
        }
    }

    /// Starts the countdown over, or begins to; returns how many pings were done by this.
    pub(crate) fn ping(&mut self, now: Duration, ports: &mut impl Ports) -> u64 {
        match self {
            Self::Wdat(timer) => timer.ping(ports),
            Self::Tco(timer) => timer.ping(ports),
            Self::I6300esb(timer) => timer.ping(),
            Self::Bmc(timer) => {
                timer.ping(now);
                return 0;
            }
        }
        1
    }

    /// Goes on with a ping that takes several steps; returns how many were done by this.
    pub(crate) fn step(&mut self, now: Duration, ports: &mut impl Ports) -> u64 {
        match self {
            Self::Bmc(timer) => timer.step(now, ports),
            Self::Wdat(_) | Self::Tco(_) | Self::I6300esb(_) => 0,
        }
    }

    /// Whether pings do not reach it any more.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self, Self::Bmc(timer) if timer.has_failed())
    }
}
