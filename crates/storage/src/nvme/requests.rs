//! The requests that the controller has. One that failed for a while is given again: the controller says whether that can help
//! (3.3.3.2.1, DNR).

use alloc::vec::Vec;
use core::time::Duration;

use machine::BlockError;
use machine::growth::filled;

use super::queue::Answer;
use super::spec::Command;
use crate::disk::{Completion, REQUEST_LIMIT, UNASKED};

/// How often a request is given again at once, where nothing says that what it failed of passes.
const MOST_REPEATS: u8 = 3;
/// How long a controller that is not ready for a request is left alone before it gets it again.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Requests by their slots.
pub(super) struct Requests(Vec<Option<Given>>);

/// A request that the controller has, or will have again.
#[derive(Clone, Copy, Debug)]
struct Given {
    command: Command,
    repeats: u8,
    /// When the controller said for the first time that it is not ready.
    unready_since: Option<Duration>,
    /// When it is given again; `None` while the controller has it.
    due: Option<Duration>,
}

impl Requests {
    /// No requests, of so many slots; `None` if there is no memory.
    pub(super) fn allocate(slots: usize) -> Option<Self> {
        filled(None, slots).ok().map(Self)
    }

    /// Forgets all requests.
    pub(super) fn clear(&mut self) {
        self.0.fill(None);
    }

    /// Notes a request that the controller gets.
    pub(super) fn begin(&mut self, slot: usize, command: Command) {
        if let Some(given) = self.0.get_mut(slot) {
            *given = Some(Given { command, repeats: 0, unready_since: None, due: None });
        }
    }

    /// Takes notice of an answer; `None` if the request will be given again.
    pub(super) fn end(
        &mut self,
        answer: Answer,
        now: impl FnOnce() -> Duration,
    ) -> Result<Option<Completion>, BlockError> {
        let Answer { command, status } = answer;
        let asked = self.0.get_mut(usize::from(command));
        let asked = asked.filter(|given| given.is_some_and(|given| given.due.is_none()));
        let asked = asked.ok_or(BlockError::Device(UNASKED))?;
        if !status.is_success() && asked.as_mut().is_some_and(|given| given.fails(answer, now())) {
            return Ok(None);
        }
        *asked = None;
        let result = if status.is_success() { Ok(()) } else { Err(BlockError::Device(status.code())) };
        Ok(Some(Completion { slot: command.into(), result }))
    }

    /// Whether a request will be given again.
    pub(super) fn any_waits(&self) -> bool {
        self.0.iter().flatten().any(|given| given.due.is_some())
    }

    /// Takes a request that the controller is to get again now.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<(u16, Command)> {
        let is_due = |given: &Given| given.due.is_some_and(|due| due <= now);
        let (slot, given) = self.0.iter_mut().zip(0_u16..).find_map(|(given, slot)| {
            given.as_mut().filter(|given| is_due(given)).map(|given| (slot, given))
        })?;
        given.due = None;
        Some((slot, given.command))
    }
}

impl Given {
    /// Decides on a request that has failed; tells whether it will be given again.
    fn fails(&mut self, Answer { status, .. }: Answer, now: Duration) -> bool {
        self.due = match status.passes() {
            _ if status.is_final() => None,
            true => {
                let since = *self.unready_since.get_or_insert(now);
                (now.saturating_sub(since) < REQUEST_LIMIT).then(|| now.saturating_add(PAUSE))
            }
            false => {
                self.repeats += 1;
                (self.repeats <= MOST_REPEATS).then_some(now)
            }
        };
        self.due.is_some()
    }
}
