//! A machine with a TCO timer and a baseboard management controller, made by hand.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use fixtures::ConfigSpace;
use machine::{Clock, Ports};
use pci::{Device, Function};

const TCO: core::ops::Range<u16> = 0x660..0x680;
const KCS: u16 = 0xCA2;

/// The machine; clones are the same one. Its time passes with each reading of the clock.
#[derive(Clone, Default)]
pub(crate) struct Machine(Rc<State>);

#[derive(Default)]
struct State {
    micros: Cell<u64>,
    /// Words at even ports; others read as all ones.
    words: RefCell<BTreeMap<u16, u16>>,
    writes_to_tco: Cell<usize>,
    reads: Cell<usize>,
    touched: RefCell<BTreeSet<u16>>,
    bmc: RefCell<Bmc>,
    /// Answers of a controller that obeys no rules, in turn.
    answers: RefCell<VecDeque<u8>>,
    everywhere: Cell<Option<u8>>,
}

/// The controller's side of KCS (IPMI 2.0, section 9.15).
#[derive(Default)]
struct Bmc {
    is_dead: bool,
    state: u8,
    output: Option<u8>,
    /// When it has taken what it was given.
    ready: u64,
    micros_a_byte: u64,
    ends: bool,
    input: Vec<u8>,
    answer: VecDeque<u8>,
    timer: [u8; 8],
    commands: Vec<u8>,
    last_set: Vec<u8>,
    has_error: bool,
}

const IDLE: u8 = 0;
const READ: u8 = 1;
const WRITE: u8 = 2;
const ERROR: u8 = 3;

impl Machine {
    pub(crate) fn new() -> Self {
        let machine = Self::default();
        machine.0.words.borrow_mut().extend([(0x660, 0), (0x668, 0), (0x672, 0xFC04)]);
        machine
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.0.micros.set(self.0.micros.get() + time.as_micros() as u64);
    }

    pub(crate) fn now_is(&self) -> Duration {
        Duration::from_micros(self.0.micros.get())
    }

    pub(crate) fn reads(&self) -> usize {
        self.0.reads.get()
    }

    pub(crate) fn touched(&self) -> impl Iterator<Item = u16> + use<> {
        self.0.touched.borrow().clone().into_iter()
    }

    /// Starts the TCO timer with so many counts.
    pub(crate) fn run_tco(&self, counts: u16) {
        self.0.words.borrow_mut().extend([(0x660, counts), (0x668, 0), (0x672, 0xFC00 | counts)]);
    }

    /// Starts a TCO timer of the first generation: present count and initial count are bytes.
    pub(crate) fn run_first_tco(&self, counts: u8) {
        let word = u16::from_le_bytes([counts, 0xC0 | counts]);
        self.0.words.borrow_mut().extend([(0x660, word), (0x664, 0), (0x668, 0)]);
    }

    pub(crate) fn halt_tco(&self) {
        self.0.words.borrow_mut().insert(0x668, 1 << 11);
    }

    pub(crate) fn writes_to_tco(&self) -> usize {
        self.0.writes_to_tco.get()
    }

    pub(crate) fn port16(&self, port: u16) -> u16 {
        self.0.words.borrow()[&port]
    }

    /// Starts the controller's timer with so many tenths of a second: the operating system's, not logged, a reset.
    pub(crate) fn run_bmc(&self, tenths: u8) {
        self.0.bmc.borrow_mut().timer = [0xC4, 0x01, 5, 0x10, tenths, 0, tenths, 0];
    }

    pub(crate) fn take_for_each_byte(&self, time: Duration) {
        self.0.bmc.borrow_mut().micros_a_byte = time.as_micros() as u64;
    }

    pub(crate) fn die(&self) {
        self.0.bmc.borrow_mut().is_dead = true;
    }

    /// Writes the first bytes of a transaction that nobody ends.
    pub(crate) fn begin_transaction(&self, bytes: usize) {
        let mut ports = self.clone();
        ports.write8(KCS + 1, 0x61);
        (1..bytes).for_each(|_| ports.write8(KCS, 0x18));
    }

    pub(crate) fn commands(&self) -> Vec<u8> {
        self.0.bmc.borrow().commands.clone()
    }

    pub(crate) fn last_set(&self) -> Vec<u8> {
        self.0.bmc.borrow().last_set.clone()
    }

    /// Puts a controller there that answers these bytes, again and again.
    pub(crate) fn answer(&self, bytes: &[u8]) {
        self.0.answers.borrow_mut().extend(bytes);
    }

    pub(crate) fn answer_everywhere(&self, byte: u8) {
        self.0.everywhere.set(Some(byte));
    }

    /// A byte of the timer's first generation. What starts the countdown over is not kept.
    fn write_tco(&self, port: u16, value: u8) {
        self.0.writes_to_tco.set(self.writes_to_tco() + 1);
        if port != TCO.start
            && let Some(word) = self.0.words.borrow_mut().get_mut(&(port & !1))
        {
            let mut bytes = word.to_le_bytes();
            bytes[usize::from(port & 1)] = value;
            *word = u16::from_le_bytes(bytes);
        }
    }

    fn touch(&self, port: u16, bytes: u16) {
        self.0.touched.borrow_mut().extend(port..=port + (bytes - 1));
    }
}

impl Clock for Machine {
    fn now(&self) -> Duration {
        self.pass(Duration::from_micros(1));
        self.now_is()
    }
}

impl Ports for Machine {
    fn read8(&mut self, port: u16) -> u8 {
        self.0.reads.set(self.reads() + 1);
        self.touch(port, 1);
        if let Some(byte) = self.0.everywhere.get() {
            return byte;
        }
        let mut answers = self.0.answers.borrow_mut();
        if let Some(byte) = answers.pop_front() {
            answers.push_back(byte);
            return byte;
        }
        let mut bmc = self.0.bmc.borrow_mut();
        match port {
            KCS => bmc.output.take().unwrap_or(0),
            0xCA3 => bmc.status(self.0.micros.get()),
            _ => {
                let words = self.0.words.borrow();
                let word = words.get(&(port & !1)).copied().unwrap_or(0xFFFF);
                word.to_le_bytes()[usize::from(port & 1)]
            }
        }
    }

    fn read16(&mut self, port: u16) -> u16 {
        self.touch(port, 2);
        let everywhere = self.0.everywhere.get().map(|byte| u16::from_le_bytes([byte; 2]));
        everywhere.unwrap_or_else(|| self.0.words.borrow().get(&port).copied().unwrap_or(0xFFFF))
    }

    fn read32(&mut self, port: u16) -> u32 {
        self.touch(port, 4);
        u32::MAX
    }

    fn write8(&mut self, port: u16, value: u8) {
        self.touch(port, 1);
        let mut bmc = self.0.bmc.borrow_mut();
        bmc.ready = self.0.micros.get() + bmc.micros_a_byte;
        match port {
            KCS => bmc.take(value),
            0xCA3 => bmc.command(value),
            _ if TCO.contains(&port) => self.write_tco(port, value),
            _ => {}
        }
    }

    fn write16(&mut self, port: u16, value: u16) {
        self.touch(port, 2);
        if TCO.contains(&port) {
            self.0.writes_to_tco.set(self.writes_to_tco() + 1);
            if port != TCO.start {
                self.0.words.borrow_mut().insert(port, value);
            }
        }
    }

    fn write32(&mut self, port: u16, _value: u32) {
        self.touch(port, 4);
    }
}

impl Bmc {
    fn status(&self, now: u64) -> u8 {
        let busy = u8::from(self.is_dead || now < self.ready) << 1;
        self.state << 6 | busy | u8::from(self.output.is_some())
    }

    fn command(&mut self, code: u8) {
        self.output = Some(0);
        match (code, self.state) {
            (0x60, _) => (self.state, self.has_error) = (ERROR, true),
            (0x61, IDLE) => {
                (self.state, self.ends) = (WRITE, false);
                self.input.clear();
            }
            (0x62, WRITE) => self.ends = true,
            _ => self.state = ERROR,
        }
    }

    fn take(&mut self, byte: u8) {
        self.output = Some(0);
        match self.state {
            WRITE => {
                self.input.push(byte);
                if self.ends {
                    self.obey();
                    self.next();
                }
            }
            READ => self.next(),
            ERROR if core::mem::take(&mut self.has_error) => {
                (self.state, self.answer) = (READ, VecDeque::new());
                self.output = Some(1);
            }
            _ => self.state = ERROR,
        }
    }

    /// Hands the answer's next byte over.
    fn next(&mut self) {
        match self.answer.pop_front() {
            Some(byte) => (self.state, self.output) = (READ, Some(byte)),
            None => self.state = IDLE,
        }
    }

    fn obey(&mut self) {
        let command = self.input[1];
        self.commands.push(command);
        self.answer = VecDeque::from([self.input[0] | 4, command, 0]);
        match command {
            0x25 => self.answer.extend(self.timer),
            0x24 => self.last_set = self.input[2..].to_vec(),
            _ => {}
        }
    }
}

/// The bridge to the old bus of an ICH9, which has power management at port 600h.
pub(crate) fn lpc() -> Device<ConfigSpace> {
    bridge(0x2918, &[1, 6], &[0x80])
}

/// Intel's bridge with this device id, and this content of the registers at 40h and 44h.
pub(crate) fn bridge(device: u16, pmbase: &[u8], control: &[u8]) -> Device<ConfigSpace> {
    let [low, high] = device.to_le_bytes();
    let fields: [(usize, &[u8]); 4] =
        [(0, &[0x86, 0x80, low, high]), (9, &[0, 1, 6]), (0x40, pmbase), (0x44, control)];
    Device { function: Function { segment: 0, bus: 0, devfn: 0xF8 }, config: ConfigSpace::new(&fields) }
}
