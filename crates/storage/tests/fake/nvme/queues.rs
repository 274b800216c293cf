//! Queues in memory: what the driver submits, and what completes.

use super::World;
use super::model::Fault;

pub(super) struct Queue {
    submission: u64,
    pub(super) completion: u64,
    entries: u16,
    /// The next command to fetch.
    head: u16,
    /// The next completion to write, and the phase of new ones.
    answered: u16,
    phase: bool,
    /// Up to where the driver took completions.
    taken: u16,
    pub(super) fetched: Vec<Vec<u8>>,
}

impl Queue {
    pub(super) fn new(submission: u64, completion: u64, entries: u16) -> Self {
        assert!(entries >= 2, "a queue has two entries at least");
        assert!(
            submission.is_multiple_of(4096) && completion.is_multiple_of(4096),
            "queues begin with pages"
        );
        let (head, answered, phase, taken, fetched) = (0, 0, true, 0, Vec::new());
        Self { submission, completion, entries, head, answered, phase, taken, fetched }
    }
}

impl World {
    /// What a doorbell is rung with.
    pub(super) fn ring(&mut self, queue: usize, is_completion: bool, value: u16) {
        assert!(self.is_on(), "a doorbell of a controller that is off");
        let lies = self.lies();
        let machine = &mut self.machine;
        let queue_ = self.queues[queue].as_mut().expect("a doorbell of a queue that is there");
        assert!(value < queue_.entries, "a doorbell is rung past the end of its queue");
        if is_completion {
            let untaken = |taken: u16| (queue_.answered + queue_.entries - taken) % queue_.entries;
            assert!(lies || untaken(value) <= untaken(queue_.taken), "completions were taken that are none");
            queue_.taken = value;
            return;
        }
        while queue_.head != value {
            let command = machine.device_read(queue_.submission + 64 * u64::from(queue_.head), 64);
            queue_.fetched.push(command);
            queue_.head = (queue_.head + 1) % queue_.entries;
        }
        self.notifications += usize::from(queue == 1);
    }

    /// Whether the driver may have been led astray.
    fn lies(&self) -> bool {
        matches!(self.model.fault, Fault::JunkId(_) | Fault::Repeats | Fault::PhaseAhead(_))
    }

    pub(super) fn answer(&mut self, queue: usize, command: &[u8], status: u16) {
        let id = u16::from_le_bytes([command[2], command[3]]);
        let (id, times) = match self.model.fault {
            Fault::AnswersAnother if queue == 0 => (id.wrapping_add(1), 1),
            Fault::JunkId(junk) if queue == 1 => (junk, 1),
            Fault::Repeats if queue == 1 => (id, 2),
            _ => (id, 1),
        };
        for _ in 0..times {
            self.complete(queue, id, status);
        }
        if let (1, Fault::PhaseAhead(entries)) = (queue, self.model.fault) {
            for ahead in 0..entries {
                self.complete(queue, ahead.wrapping_mul(7), 0);
            }
        }
    }

    fn complete(&mut self, number: usize, id: u16, status: u16) {
        let lies = self.lies();
        let queue = self.queues[number].as_mut().unwrap();
        let next = (queue.answered + 1) % queue.entries;
        assert!(lies || next != queue.taken, "no room for a completion");
        let entry = queue.completion + 16 * u64::from(queue.answered);
        let ending = u32::from(id) | u32::from(queue.phase) << 16 | u32::from(status) << 17;
        queue.answered = next;
        queue.phase ^= next == 0;
        // What a command has moved is there before its completion is.
        self.machine.device_write(entry, &[0xee; 12]);
        self.machine.device_write_now(entry + 12, &ending.to_le_bytes());
    }
}
