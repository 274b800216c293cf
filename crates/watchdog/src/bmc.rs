//! The watchdog timer of a baseboard management controller (IPMI 2.0, chapter 27).

use core::time::Duration;

use machine::{Clock, Ports, wait_until};

use crate::kcs::{Kcs, Message, Step};
use crate::place::KcsPlace;
use crate::timer::EXTENDED;

/// Network function of the application commands (table 5-1), in the upper six bits of a request's first byte.
const APPLICATION: u8 = 0x06 << 2;
/// What an answer's first byte has besides: it is one.
const ANSWER: u8 = 1 << 2;

// Commands (section 27.5 to 27.7).
const RESET_WATCHDOG: u8 = 0x22;
const SET_WATCHDOG: u8 = 0x24;
const GET_WATCHDOG: u8 = 0x25;

/// The timer's use: in an answer, it runs; in a request, it goes on running.
const RUNS: u8 = 1 << 6;

/// Longest wait for the first answers, before there is other work to do.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// A timer that runs.
#[derive(Debug)]
pub(crate) struct Bmc {
    kcs: Kcs,
    /// Milliseconds of the countdown; `None` if it could not be set.
    pub(crate) extended: Option<u64>,
    has_failed: bool,
}

/// The settings in the answer to [`GET_WATCHDOG`].
struct Settings {
    timer_use: u8,
    actions: u8,
    pretimeout: u8,
    /// Tenths of a second.
    initial: u16,
}

impl Bmc {
    /// Asks the controller behind this interface whether its timer runs, and sets its countdown to [`EXTENDED`], unless it is
    /// longer. The clock bounds the wait for each answer.
    pub(crate) fn find(place: KcsPlace, ports: &mut impl Ports, clock: &impl Clock) -> Option<Self> {
        let (data, status) = place.ports();
        let mut kcs = Kcs::new(data, status, ports)?;
        let settings = ask(&mut kcs, request(GET_WATCHDOG, &[]), ports, clock)?;
        let settings = Settings::decode(&settings).filter(|settings| settings.timer_use & RUNS != 0)?;
        let (countdown, message) = settings.extended();
        let set = ask(&mut kcs, message, ports, clock);
        let extended = set.map(|_| u64::from(countdown) * 100);
        Some(Self { kcs, extended, has_failed: false })
    }

    /// Begins to ping, if no ping is under way.
    pub(crate) fn ping(&mut self, now: Duration) {
        if !self.has_failed && !self.kcs.is_busy() {
            self.kcs.begin(request(RESET_WATCHDOG, &[]), now);
        }
    }

    /// Goes on with a ping under way, without waiting; returns how many were done by this. After an error none is done any
    /// more.
    pub(crate) fn step(&mut self, now: Duration, ports: &mut impl Ports) -> u64 {
        match self.kcs.step(now, ports) {
            Step::Answer(answer) if data(RESET_WATCHDOG, &answer).is_some() => 1,
            Step::Answer(_) | Step::Failed => {
                self.has_failed = true;
                0
            }
            Step::Waiting => 0,
        }
    }

    /// Whether the controller does not answer any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }
}

impl Settings {
    fn decode(data: &[u8]) -> Option<Self> {
        let [timer_use, actions, pretimeout, _, low, high, ..] = *data else { return None };
        Some(Self { timer_use, actions, pretimeout, initial: u16::from_le_bytes([low, high]) })
    }

    /// The countdown that it shall have, in tenths of a second, and the request for it: all else stays, and the timer goes on.
    fn extended(&self) -> (u16, Message) {
        let countdown = self.initial.max((EXTENDED.as_millis() / 100) as u16);
        let [low, high] = countdown.to_le_bytes();
        let settings = [self.timer_use | RUNS, self.actions, self.pretimeout, 0, low, high];
        (countdown, request(SET_WATCHDOG, &settings))
    }
}

fn request(command: u8, data: &[u8]) -> Message {
    let mut message = Message::new();
    for byte in [APPLICATION, command].iter().chain(data) {
        message.push(*byte);
    }
    message
}

/// The data of a successful answer to this command.
fn data(command: u8, answer: &[u8]) -> Option<&[u8]> {
    answer.strip_prefix(&[APPLICATION | ANSWER, command, 0])
}

/// Has a command done, and waits for its answer's data.
fn ask(kcs: &mut Kcs, request: Message, ports: &mut impl Ports, clock: &impl Clock) -> Option<Message> {
    let command = request[1];
    kcs.begin(request, clock.now());
    let mut step = Step::Waiting;
    wait_until(clock, FIRST_ANSWER, || {
        step = kcs.step(clock.now(), ports);
        step != Step::Waiting
    })
    .ok()?;
    let Step::Answer(answer) = step else { return None };
    data(command, &answer)?.try_into().ok()
}
