//! Commands to the controller itself (5), one at a time.

use machine::{Clock, Dma, DmaMemory, Registers, TimedOut, rest, wait_until};

use super::port::{Doorbells, Port, QueueAddresses};
use super::queue::{Answer, QueuePair};
use super::requests::PAUSE;
use super::spec::{ADMIN, Command, EndStatus, admin, identify};
use crate::error::StartError;

/// Entries of the admin queues: as many as drivers usually ask for, although one command at a time is in flight.
const ENTRIES: u16 = 32;

/// The registers of a controller, and its admin queues.
pub(super) struct Admin<R, M> {
    port: Port<R>,
    doorbells: Doorbells<R>,
    queue: QueuePair<M>,
    /// The identifier of the last command.
    identifier: u16,
}

impl<R: Registers, M: DmaMemory> Admin<R, M> {
    /// Takes memory for the queues; `None` if there is none.
    pub(super) fn allocate(
        dma: &mut impl Dma<Memory = M>,
        port: Port<R>,
        doorbells: Doorbells<R>,
    ) -> Option<Self> {
        Some(Self { port, doorbells, queue: QueuePair::allocate(dma, ADMIN, ENTRIES)?, identifier: 0 })
    }

    /// The controller's registers.
    pub(super) fn port(&mut self) -> &mut Port<R> {
        &mut self.port
    }

    /// The controller's doorbells.
    pub(super) fn doorbells(&mut self) -> &mut Doorbells<R> {
        &mut self.doorbells
    }

    /// Turns a controller that is off on.
    pub(super) fn turn_on(&mut self, clock: &impl Clock) -> Result<(), StartError> {
        self.queue.reset();
        self.port.turn_on(clock, self.queue.addresses())
    }

    /// Has a structure written to the first 4096 bytes of `buffer`; `what` names it in messages.
    pub(super) fn identify(
        &mut self,
        clock: &impl Clock,
        what: &'static str,
        structure: u32,
        namespace: u32,
        buffer: &mut M,
    ) -> Result<(), StartError> {
        // A controller that answers and writes nothing does not describe a disk by what it said of another.
        buffer.write(0, &[0; identify::SIZE]);
        let pointers = [buffer.device_address().get(), 0];
        let arguments = [structure, 0, 0];
        self.execute(clock, what, Command { opcode: admin::IDENTIFY, namespace, pointers, arguments })
    }

    /// Makes a pair of queues for reads and writes (5.4, 5.5).
    pub(super) fn create_queues(
        &mut self,
        clock: &impl Clock,
        number: u16,
        addresses: QueueAddresses,
    ) -> Result<(), StartError> {
        self.ask_for_one_queue(clock)?;
        let QueueAddresses { submission, completion, entries } = addresses;
        let size = u32::from(entries.saturating_sub(1)) << 16 | u32::from(number);
        let mut create = |what, opcode, address, flags| {
            let arguments = [size, flags | admin::CONTIGUOUS, 0];
            self.execute(clock, what, Command { opcode, namespace: 0, pointers: [address, 0], arguments })
        };
        create("to make a completion queue", admin::CREATE_COMPLETION_QUEUE, completion.get(), 0)?;
        let flags = u32::from(number) << 16 | admin::MEDIUM_PRIORITY;
        create("to make a submission queue", admin::CREATE_SUBMISSION_QUEUE, submission.get(), flags)
    }

    /// Asks for one queue of each kind (5.27.1.5). A controller that refuses may still make one.
    fn ask_for_one_queue(&mut self, clock: &impl Clock) -> Result<(), StartError> {
        let arguments = [admin::NUMBER_OF_QUEUES, 0, 0];
        let ask = Command { opcode: admin::SET_FEATURES, arguments, ..Command::default() };
        match self.execute(clock, "to have one queue", ask) {
            Err(StartError::Refused { .. }) => Ok(()),
            result => result,
        }
    }

    /// Executes a command, again and again while the controller is not ready for it; `what` says what it does, after "the device
    /// refuses".
    fn execute(
        &mut self,
        clock: &impl Clock,
        what: &'static str,
        command: Command,
    ) -> Result<(), StartError> {
        let (start, limit) = (clock.now(), self.port.patience());
        loop {
            let status = self.ask(clock, command)?;
            if status.is_success() {
                return Ok(());
            }
            if !status.passes() {
                return Err(StartError::Refused { what, status: status.code() });
            }
            if clock.now().saturating_sub(start) >= limit {
                return Err(TimedOut { limit }.into());
            }
            rest(clock, PAUSE);
        }
    }

    /// Gives the controller a command, and waits for its answer.
    fn ask(&mut self, clock: &impl Clock, command: Command) -> Result<EndStatus, StartError> {
        self.identifier = self.identifier.wrapping_add(1);
        self.queue.submit(self.identifier, command);
        self.queue.ring(&mut self.doorbells);
        let Answer { command, status } = self.wait_for_answer(clock)?;
        if command == self.identifier { Ok(status) } else { Err(StartError::Unasked) }
    }

    fn wait_for_answer(&mut self, clock: &impl Clock) -> Result<Answer, StartError> {
        let Self { port, queue, .. } = self;
        let mut answer = Ok(None);
        wait_until(clock, port.patience(), || {
            answer = match queue.take() {
                Some(answer) => Ok(Some(answer)),
                None => port.check_alive().map(|()| None),
            };
            answer != Ok(None)
        })?;
        self.port.was_answered();
        // The wait ends well only with an answer or an error.
        answer?.ok_or(StartError::Unasked)
    }
}
