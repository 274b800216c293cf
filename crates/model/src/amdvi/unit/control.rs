//! Control and status (3.4): what the control register turns on runs some time later, and the status says whether it does.

use super::AmdViUnit;
use super::logs::ring;
use crate::amdvi::scenario::Lock;
use crate::amdvi::walk::ExcludedFor;
use crate::habits::{Chore, Countdown};
use crate::trace::Event;
use amdvi::control::{Control, Status};
use amdvi::registers::STATUS;
use machine::{PhysicalAddress, Range};

/// Something that the control register turns on, and that then runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// Fetching commands.
    Commands,
    /// Logging events.
    Events,
    /// Logging page requests.
    Pages,
    /// Logging guest interrupts.
    Guests,
}

impl Activity {
    const ALL: [Self; 4] = [Self::Commands, Self::Events, Self::Pages, Self::Guests];

    fn is_wanted(self, control: Control) -> bool {
        match self {
            Self::Commands => control.command_buffer(),
            Self::Events => control.event_log(),
            Self::Pages => control.ppr_log(),
            Self::Guests => control.ga_log(),
        }
    }

    fn chore(self, on: bool) -> Chore {
        match (self, on) {
            (Self::Commands, true) => Chore::StartCommands,
            (Self::Commands, false) => Chore::StopCommands,
            (Self::Events, _) => Chore::SwitchEvents,
            (Self::Pages | Self::Guests, _) => Chore::SwitchLogs,
        }
    }
}

/// What runs, and what is starting or stopping.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Runs([Run; 4]);

#[derive(Clone, Copy, Debug, Default)]
struct Run {
    running: bool,
    change: Option<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    on: bool,
    left: Countdown,
}

impl Runs {
    pub(super) fn is_running(&self, activity: Activity) -> bool {
        self.0[activity as usize].running
    }

    /// Stops on its own, after an error or when a log is full; the control register has to turn it off and on again.
    pub(super) fn stop(&mut self, activity: Activity) {
        self.0[activity as usize] = Run::default();
    }
}

impl AmdViUnit {
    /// Takes a new value of the control register.
    pub(super) fn command(&mut self, value: Control) {
        let before = self.control();
        self.check_switches(before, value);
        self.set(amdvi::registers::CONTROL.offset, value.into_bits());
        self.events.push(Event::Controlled { control: value });
        for activity in Activity::ALL {
            let on = activity.is_wanted(value);
            if on != activity.is_wanted(before) {
                let left = self.countdown(activity.chore(on));
                let run = &mut self.runs.0[activity as usize];
                // What has stopped on its own has nothing to stop.
                if on || run.running || run.change.is_some() {
                    run.change = Some(Change { on, left });
                }
            }
        }
    }

    /// Reports a misuse when a command turns off what no takeover may turn off, or turns something on or off again before it has
    /// started or stopped.
    fn check_switches(&mut self, before: Control, value: Control) {
        if before.enabled() && !value.enabled() {
            self.complain("translation was turned off");
        }
        if interrupt_remapping(before) != interrupt_remapping(value) {
            self.complain("interrupt remapping was changed");
        }
        if before.guest_translation() != value.guest_translation() {
            self.complain("guest translation was changed");
        }
        if before.device_table_segments() != value.device_table_segments() {
            self.complain("the device table's segments were changed");
        }
        for activity in Activity::ALL {
            let switched = activity.is_wanted(before) != activity.is_wanted(value);
            let in_time = self.runs.0[activity as usize].change.is_none_or(|change| change.left.0.is_none());
            if switched && !in_time {
                self.complain("a buffer was turned on or off before it had stopped or started");
            }
        }
    }

    /// Goes on with starting and stopping. Fetching has stopped only when all that was fetched is done.
    pub(super) fn advance_runs(&mut self) {
        for activity in Activity::ALL {
            let idle = activity != Activity::Commands || self.commands.are_done();
            let run = &mut self.runs.0[activity as usize];
            let Some(change) = &mut run.change else { continue };
            change.left.tick();
            if change.left.is_over() && (change.on || idle) {
                *run = Run { running: change.on, change: None };
            }
        }
    }

    /// Whether the unit fetches: it runs, and was not told to stop.
    pub(super) fn is_fetching(&self) -> bool {
        self.runs.is_running(Activity::Commands) && self.control().command_buffer()
    }

    /// The status register.
    pub(super) fn status(&self) -> Status {
        Status::from_bits(self.get(STATUS.offset))
            .with_command_buffer_runs(self.runs.is_running(Activity::Commands))
            .with_event_log_runs(self.runs.is_running(Activity::Events))
            .with_ppr_log_runs(self.runs.is_running(Activity::Pages))
            .with_ga_log_runs(self.runs.is_running(Activity::Guests))
    }

    /// Clears the bits that are written as one, if they can be cleared.
    pub(super) fn clear_status(&mut self, value: u64) {
        self.set(STATUS.offset, self.get(STATUS.offset) & !(value & Status::CLEARABLE.into_bits()));
    }

    pub(super) fn raise(&mut self, bits: Status) {
        self.set(STATUS.offset, self.get(STATUS.offset) | bits.into_bits());
    }

    /// Moves the command buffer or a log, whose head and tail become zero.
    pub(super) fn move_ring(&mut self, activity: Activity, value: u64) {
        if self.runs.is_running(activity) {
            self.complain("a buffer was moved while the unit used it");
        }
        let ring = ring(activity);
        self.set(ring.base, value);
        self.set(ring.head, 0);
        self.set(ring.tail, 0);
    }

    /// The exclusion range, and for which devices it is. Where registers are locked there is none.
    pub(super) fn exclusion(&self) -> (Range<PhysicalAddress>, ExcludedFor) {
        let (base, range) = self.exclusion_registers();
        let excluded = if base.all() { ExcludedFor::All } else { ExcludedFor::Some };
        let is_there = base.enabled() && self.lock == Lock::Open;
        (if is_there { range } else { Range::default() }, excluded)
    }
}

/// The bits that decide what becomes of interrupts.
fn interrupt_remapping(control: Control) -> [u8; 5] {
    let bits = [control.ga(), control.xt(), control.interrupt_cache_disable()].map(u8::from);
    [bits[0], bits[1], bits[2], control.ga_mode(), control.interrupts()]
}
