//! The keyboard-controller-style interface, through which software talks to a baseboard management controller (IPMI 2.0,
//! chapter 9).
//!
//! A transaction goes on byte by byte. [`Kcs::step`] does what can be done at once and never waits, so that whoever has other work
//! goes on with it. The first error ends the interface's use, except that an exchange which the dead kernel left half done is
//! aborted once.

use core::ops::ControlFlow::{self, Break, Continue};
use core::time::Duration;

use arrayvec::ArrayVec;
use machine::Ports;

/// Longest request and answer that the watchdog's commands have, in bytes.
const LONGEST: usize = 16;
/// Longest time from one byte of a transaction to the next, of which a transaction has few. Controllers take milliseconds, and
/// now and then, when they are busy, seconds. Where the processor waited for something else meanwhile, there is a next byte.
const LIMIT: Duration = Duration::from_secs(5);

// Bits of the status register (section 9.2).
const OUTPUT_FULL: u8 = 1 << 0;
const INPUT_FULL: u8 = 1 << 1;
/// What a port reads as that nothing answers at.
const ABSENT: u8 = 0xFF;

// Control codes (section 9.10).
const GET_STATUS_OR_ABORT: u8 = 0x60;
const WRITE_START: u8 = 0x61;
const WRITE_END: u8 = 0x62;
const READ: u8 = 0x68;

/// Bits 7 and 6 of the status (section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Read,
    Write,
    Error,
}

/// What comes next in a transaction, once the controller has taken what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Start,
    /// The request's byte of this number, or the announcement of the last one.
    Write(usize),
    /// The request's last byte.
    WriteLast,
    Read,
    // An abort (figure 9-8): ask why, take the answer, read on until the controller is idle.
    Abort,
    AbortAsked,
    AbortStatus,
}

/// A request or an answer: network function, command, and what they need.
pub(crate) type Message = ArrayVec<u8, LONGEST>;

/// What a step led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The controller is not ready for more.
    Waiting,
    /// The controller's answer.
    Answer(Message),
    /// The interface cannot be used any more.
    Failed,
}

/// A transaction under way.
#[derive(Clone, Debug)]
struct Transaction {
    request: Message,
    answer: Message,
    phase: Phase,
    deadline: Duration,
}

/// The interface.
#[derive(Debug)]
pub(crate) struct Kcs {
    data: u16,
    /// Status when it is read, command when it is written.
    status: u16,
    transaction: Option<Transaction>,
    may_abort: bool,
}

impl Kcs {
    /// The interface whose registers are at these ports; `None` if nothing answers there.
    pub(crate) fn new(data: u16, status: u16, ports: &mut impl Ports) -> Option<Self> {
        let answers = ports.read8(status) != ABSENT;
        answers.then_some(Self { data, status, transaction: None, may_abort: true })
    }

    /// Whether a transaction is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.transaction.is_some()
    }

    /// Begins a transaction, in place of one under way.
    pub(crate) fn begin(&mut self, request: Message, now: Duration) {
        let (answer, deadline) = (Message::new(), now + LIMIT);
        self.transaction = Some(Transaction { request, answer, phase: Phase::Start, deadline });
    }

    /// Goes on until the controller needs time. Without a transaction there is nothing to wait for.
    pub(crate) fn step(&mut self, now: Duration, ports: &mut impl Ports) -> Step {
        let Some(mut transaction) = self.transaction.take() else { return Step::Waiting };
        // A request, an answer and an abort have no more bytes together.
        for _ in 0..4 * LONGEST {
            match self.advance(&mut transaction, ports) {
                Break(Step::Waiting) if now < transaction.deadline => {
                    self.transaction = Some(transaction);
                    return Step::Waiting;
                }
                Break(Step::Waiting) => return Step::Failed,
                Break(end) => return end,
                Continue(()) => transaction.deadline = now + LIMIT,
            }
        }
        Step::Failed
    }

    /// Does the next byte, if the controller is ready for it.
    fn advance(&mut self, transaction: &mut Transaction, ports: &mut impl Ports) -> ControlFlow<Step> {
        let status = ports.read8(self.status);
        let is_full = status & OUTPUT_FULL != 0;
        if status & INPUT_FULL != 0 {
            return Break(Step::Waiting);
        }
        transaction.phase = match (transaction.phase, State::of(status)) {
            (Phase::Start, State::Idle) => self.command(WRITE_START, Phase::Write(0), ports),
            (Phase::Write(at), State::Write) => self.write(&transaction.request, at, ports),
            (Phase::WriteLast, State::Write) => self.write_last(&transaction.request, ports),
            (Phase::Read, State::Idle) => return Break(self.end(&transaction.answer, ports)),
            (Phase::Read | Phase::AbortStatus, State::Read) if !is_full => return Break(Step::Waiting),
            (Phase::Read, State::Read) => return self.read(&mut transaction.answer, ports),
            (Phase::Abort, _) => self.command(GET_STATUS_OR_ABORT, Phase::AbortAsked, ports),
            (Phase::AbortAsked, _) => self.data(0, Phase::AbortStatus, ports),
            (Phase::AbortStatus, State::Read) => self.data(READ, Phase::AbortStatus, ports),
            (Phase::AbortStatus, State::Idle) => Phase::Start,
            _ if core::mem::take(&mut self.may_abort) => Phase::Abort,
            _ => return Break(Step::Failed),
        };
        Continue(())
    }

    fn write(&mut self, request: &Message, at: usize, ports: &mut impl Ports) -> Phase {
        if at + 1 < request.len() {
            self.data(request[at], Phase::Write(at + 1), ports)
        } else {
            self.command(WRITE_END, Phase::WriteLast, ports)
        }
    }

    fn write_last(&mut self, request: &Message, ports: &mut impl Ports) -> Phase {
        self.data(request.last().copied().unwrap_or(0), Phase::Read, ports)
    }

    fn read(&mut self, answer: &mut Message, ports: &mut impl Ports) -> ControlFlow<Step> {
        let byte = ports.read8(self.data);
        if answer.try_push(byte).is_err() {
            return Break(Step::Failed);
        }
        ports.write8(self.data, READ);
        Continue(())
    }

    /// Takes the byte that ends an answer. Some controllers send none.
    fn end(&mut self, answer: &Message, ports: &mut impl Ports) -> Step {
        self.drain(ports);
        self.may_abort = false;
        Step::Answer(answer.clone())
    }

    fn command(&mut self, code: u8, next: Phase, ports: &mut impl Ports) -> Phase {
        self.drain(ports);
        ports.write8(self.status, code);
        next
    }

    fn data(&mut self, byte: u8, next: Phase, ports: &mut impl Ports) -> Phase {
        self.drain(ports);
        ports.write8(self.data, byte);
        next
    }

    /// Reads a byte that nobody waits for, so that the controller can go on.
    fn drain(&mut self, ports: &mut impl Ports) {
        ports.read8(self.data);
    }
}

impl State {
    fn of(status: u8) -> Self {
        match status >> 6 {
            0 => Self::Idle,
            1 => Self::Read,
            2 => Self::Write,
            _ => Self::Error,
        }
    }
}
