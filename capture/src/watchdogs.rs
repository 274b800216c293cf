//! Keeps the dead kernel's watchdogs quiet while the dump makes progress.
//!
//! An armed watchdog goes on counting when its kernel has died, and would reset the machine in the middle of the dump. It is given
//! a longer countdown and pinged, but never stopped: if this kernel hangs, the machine is reset all the same.
//!
//! Whoever waits for a device uses [`WaitClock`], because such a wait, which has a deadline, can be longer than a countdown.

use core::time::Duration;

use handoff::Options;
use machine::{BlockDevice, BlockError, Clock, PhysicalAddress, Range};
use watchdog::{Armed, KcsPlace, Kind, Kinds};

use crate::discover::Machine;
use crate::platform::clock::Tsc;
use crate::platform::console::say;
use crate::platform::mmio::Mmio;
use crate::platform::ports::IoPorts;
use crate::platform::shared::Shared;

/// The watchdogs that run; none before they were found.
static RUNNING: Shared<Watchdogs> = Shared::none();

type Watchdogs = watchdog::Watchdogs<IoPorts, Mmio, Tsc>;

/// Finds the watchdogs that run, and pings them for the first time.
pub(crate) fn find(machine: &mut Machine, options: &Options) {
    let mut watchdogs = Watchdogs::new(IoPorts, Tsc);
    let mut search = Search { machine, watchdogs: &mut watchdogs, found: Kinds::default() };
    search.look_at_table(options.watchdog.contains(Kind::Wdat));
    search.look_at_functions();
    search.look_at_bmc(options.ipmi);
    let found = search.found;
    for kind in options.watchdog.iter().filter(|kind| !found.contains(*kind)) {
        say!("watchdog {kind} was armed when this kernel was loaded, and is not found running");
    }
    RUNNING.set(watchdogs);
}

/// Takes note that the dump makes progress.
pub(crate) fn progress() {
    RUNNING.with(Watchdogs::progress);
}

/// How many pings were done, of all watchdogs together.
pub(crate) fn pings() -> u64 {
    RUNNING.with(|watchdogs| watchdogs.pings()).unwrap_or(0)
}

/// The watchdogs that pings do not reach any more.
pub(crate) fn lost() -> Kinds {
    RUNNING.with(|watchdogs| watchdogs.lost().fold(Kinds::default(), Kinds::with)).unwrap_or_default()
}

/// The clock for waits that have a deadline: such waits are progress, within limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitClock;

impl Clock for WaitClock {
    fn now(&self) -> Duration {
        RUNNING.with(Watchdogs::waiting);
        Tsc.now()
    }
}

struct Search<'a> {
    machine: &'a mut Machine,
    watchdogs: &'a mut Watchdogs,
    found: Kinds,
}

impl Search<'_> {
    fn look_at_table(&mut self, is_armed: bool) {
        let Some(table) = self.machine.tables.wdat.take() else { return };
        let armed = self.watchdogs.look_at_wdat(table.bytes(), is_armed, |range| map(self.machine, range));
        self.tell(armed);
    }

    fn look_at_functions(&mut self) {
        for index in 0..self.machine.devices.len() {
            let device = self.machine.devices[index];
            let armed = self.watchdogs.look_at_function(&device, |range| map(self.machine, range));
            self.tell(armed);
        }
    }

    fn look_at_bmc(&mut self, told: Option<KcsPlace>) {
        let listed = self.machine.tables.spmi.as_ref().and_then(|table| KcsPlace::of_spmi(table.bytes()));
        let armed = told.or(listed).and_then(|place| self.watchdogs.look_at_bmc(place));
        self.tell(armed);
    }

    fn tell(&mut self, armed: Option<Armed>) {
        let Some(Armed { kind, extended }) = armed else { return };
        self.found = self.found.with(kind);
        match extended.as_ref().map(Duration::as_secs) {
            Some(seconds) => say!("watchdog {kind} runs: it now bites after {seconds} s without progress"),
            None => say!("watchdog {kind} runs: it keeps its own time"),
        }
    }
}

/// Maps registers, if there can be no memory at these addresses.
fn map(machine: &mut Machine, range: Range<PhysicalAddress>) -> Option<Mmio> {
    if machine.may_be_memory(range) { None } else { Mmio::map(&mut machine.space, range).ok() }
}

/// A disk, each of whose accesses that succeeds is progress.
pub(crate) struct Attended<'a, D>(pub(crate) &'a mut D);

fn after(result: Result<(), BlockError>) -> Result<(), BlockError> {
    if result.is_ok() {
        progress();
    }
    result
}

impl<D: BlockDevice> BlockDevice for Attended<'_, D> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn block_size(&self) -> u32 {
        self.0.block_size()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        after(self.0.read(offset, into))
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        after(self.0.write(offset, from))
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        after(self.0.flush())
    }
}
