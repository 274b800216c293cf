//! The old kernel's command buffer: waits until the unit has fetched what the old kernel asked for (2.4).

use amdvi::control::BUFFER_OFFSET;
use amdvi::registers::{COMMAND_HEAD, COMMAND_TAIL};
use machine::{Clock, Registers};

use crate::amdvi::command::CommandedUnit;
use crate::amdvi::unit::Unit;
use crate::report::OldQueue;

impl<R: Registers, C: Clock> CommandedUnit<'_, R, C> {
    /// Waits until the unit has fetched all of the old kernel's commands, or has stopped, or is late; returns what became of
    /// them.
    ///
    /// A command that was fetched may still be at work. When fetching is turned off, the unit finishes it: that is awaited later
    /// ([`stop_old_buffers`](Self::stop_old_buffers)). What was not fetched is dropped: the invalidation of everything later
    /// covers it.
    pub(crate) fn drain_old_queue(&mut self) -> OldQueue {
        if !self.unit.control().command_buffer() {
            return OldQueue::Off;
        }
        // Late or done: the registers show which.
        let _ = self.wait(COMMAND_HEAD.name, "its end", |unit| {
            is_fetched(unit) || !unit.status().command_buffer_runs()
        });
        let offset = |register| self.unit.read(register) & BUFFER_OFFSET;
        let (head, tail) = (offset(COMMAND_HEAD), offset(COMMAND_TAIL));
        if head == tail { OldQueue::Drained } else { OldQueue::Stuck { head, tail } }
    }
}

fn is_fetched<R: Registers, C>(unit: &Unit<'_, R, C>) -> bool {
    unit.read(COMMAND_HEAD) & BUFFER_OFFSET == unit.read(COMMAND_TAIL) & BUFFER_OFFSET
}
