//! The old kernel's command buffer: waits until the unit has fetched what the old kernel asked for (2.4).

use amdvi::registers::{COMMAND_HEAD, COMMAND_TAIL};
use machine::{Clock, Registers};

use crate::amdvi::command::CommandedUnit;
use crate::patience::Waiting;
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
            unit.has_fetched_all() || !unit.status().command_buffer_runs()
        });
        let (head, tail) = (self.unit.offset(COMMAND_HEAD), self.unit.offset(COMMAND_TAIL));
        if head == tail { OldQueue::Drained } else { OldQueue::Stuck { head, tail } }
    }
}
