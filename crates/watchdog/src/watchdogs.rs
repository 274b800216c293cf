//! The watchdogs of a machine, found and pinged.

use core::time::Duration;

use arrayvec::ArrayVec;
use machine::{Clock, PhysicalAddress, Ports, Range, Registers};
use pci::Device;

use crate::bmc::Bmc;
use crate::i6300esb::I6300esb;
use crate::tco::Tco;
use crate::timer::Timer;
use crate::wdat::Wdat;
use crate::{KcsPlace, Kind};

/// Most timers; machines have one or two.
const MOST: usize = 8;
/// Time between two pings of a timer.
const INTERVAL: Duration = Duration::from_secs(1);
/// For how long waits are taken for progress: as long as the capture of a machine may wait for its devices together, and not so
/// long that a machine which hangs stays away.
const PATIENCE: Duration = Duration::from_secs(180);

/// The timers of a machine that run: another kernel started them.
///
/// They are never stopped, and none is started. [`progress`](Self::progress) and for some time [`waiting`](Self::waiting) ping
/// them, so that a machine which makes no progress is reset in the end.
#[derive(Debug)]
pub struct Watchdogs<P, R, C> {
    ports: P,
    clock: C,
    timers: ArrayVec<Timer<R>, MOST>,
    /// How long waits are taken for progress, on this clock.
    patient_until: Duration,
    /// When they are pinged again.
    next: Duration,
    pings: u64,
}

/// A timer that was found running, and pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    /// What it is.
    pub kind: Kind,
    /// The countdown that it was given; `None` if it keeps its own.
    pub extended: Option<Duration>,
}

impl<P: Ports, R: Registers, C: Clock> Watchdogs<P, R, C> {
    /// No watchdogs, on a machine with these ports and this clock.
    pub fn new(ports: P, clock: C) -> Self {
        let patient_until = clock.now() + PATIENCE;
        Self { ports, clock, timers: ArrayVec::new(), patient_until, next: Duration::ZERO, pings: 0 }
    }

    /// Looks at the timer that ACPI's table WDAT describes. If the table gives no way to ask whether it runs, `is_armed` decides.
    /// `map` gives access to registers at these addresses; it must refuse addresses where there can be memory.
    pub fn look_at_wdat(
        &mut self,
        table: &[u8],
        is_armed: bool,
        map: impl FnMut(Range<PhysicalAddress>) -> Option<R>,
    ) -> Option<Armed> {
        let timer = Wdat::find(table, is_armed, &mut self.ports, map)?;
        self.keep(Timer::Wdat(timer))
    }

    /// Looks whether a PCI function is a timer or has one. `map` is as for WDAT. Intel's TCO timer is left alone if WDAT describes
    /// a timer that runs: it is the same.
    pub fn look_at_function(
        &mut self,
        device: &Device<impl Registers>,
        map: impl FnOnce(Range<PhysicalAddress>) -> Option<R>,
    ) -> Option<Armed> {
        if let Some(timer) = I6300esb::find(device, map) {
            return self.keep(Timer::I6300esb(timer));
        }
        let is_known = self.timers.iter().any(|timer| matches!(timer.kind(), Kind::Wdat | Kind::Tco));
        let tco = (!is_known).then(|| Tco::find(device, &mut self.ports))?;
        self.keep(Timer::Tco(tco?))
    }

    /// Asks a baseboard management controller. If it does not answer, this takes a second.
    pub fn look_at_bmc(&mut self, place: KcsPlace) -> Option<Armed> {
        let timer = Bmc::find(place, &mut self.ports, &self.clock)?;
        self.keep(Timer::Bmc(timer))
    }

    /// Extends a timer, and pings it for the first time.
    fn keep(&mut self, mut timer: Timer<R>) -> Option<Armed> {
        let kind = timer.kind();
        if self.timers.is_full() {
            return None;
        }
        let extended = timer.extend(&mut self.ports).map(Duration::from_millis);
        self.pings += timer.ping(self.clock.now(), &mut self.ports);
        self.timers.push(timer);
        Some(Armed { kind, extended })
    }

    /// Takes note that the work made progress: pings all timers, if a second has passed since the last time. This never waits.
    pub fn progress(&mut self) {
        let Self { ports, timers, pings, .. } = self;
        if timers.is_empty() {
            return;
        }
        let now = self.clock.now();
        for timer in timers.iter_mut() {
            *pings += timer.step(now, ports);
            if now >= self.next {
                *pings += timer.ping(now, ports) + timer.step(now, ports);
            }
        }
        if now >= self.next {
            self.next = now + INTERVAL;
        }
    }

    /// Takes note that the work polls something, with a deadline of its own: counts as progress, until three minutes after the
    /// watchdogs were found. Later a poll proves nothing.
    pub fn waiting(&mut self) {
        if self.clock.now() < self.patient_until {
            self.progress();
        }
    }

    /// How many pings were done, of all timers together.
    pub fn pings(&self) -> u64 {
        self.pings
    }

    /// The timers that pings do not reach any more.
    pub fn lost(&self) -> impl Iterator<Item = Kind> {
        self.timers.iter().filter(|timer| timer.has_failed()).map(Timer::kind)
    }
}
