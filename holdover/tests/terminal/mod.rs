//! A person at a terminal: a pseudo-terminal with the program on it, which is what the program sees on a console or behind SSH.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at the first surprise, as tests do"
)]

use std::io::{Read as _, Write as _};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use pty_process::blocking::{Command, Pty};

/// What a terminal sends for this key, which its driver makes the signal SIGINT.
pub(crate) const CTRL_C: &str = "\x03";

/// Much more than any step takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program on a terminal of its own.
pub(crate) struct Terminal {
    keys: Arc<Pty>,
    screen: Receiver<Vec<u8>>,
    /// Everything that was shown so far.
    pub(crate) shown: String,
    /// How much of it [`see`](Self::see) has seen.
    seen: usize,
    program: Child,
}

impl Terminal {
    /// Starts `holdover` on a terminal. What runs in the background of a script ignores SIGINT, and so would a program that it starts;
    /// what a person starts at a terminal does not.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let (terminal, program_side) = pty_process::blocking::open().unwrap();
        let program = Command::new("env").arg("--default-signal=INT").arg(env!("CARGO_BIN_EXE_holdover"));
        let program = program.args(arguments).spawn(program_side);
        let keys = Arc::new(terminal);
        let (reader, (sender, screen)) = (Arc::clone(&keys), channel());
        // Ends with the terminal: when the program is gone, reading fails.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = (&*reader).read(&mut bytes) {
                let _ = sender.send(bytes[..length].to_vec());
            }
        });
        Self { keys, screen, shown: String::new(), seen: 0, program: program.unwrap() }
    }

    /// Waits until these words are shown, behind those that were waited for before.
    pub(crate) fn see(&mut self, words: &str) {
        let start = Instant::now();
        loop {
            if let Some(at) = self.shown[self.seen..].find(words) {
                self.seen += at + words.len();
                return;
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            let more = self.screen.recv_timeout(left);
            let more = more.unwrap_or_else(|_| panic!("no {words:?} in:\n{}", self.shown));
            self.shown += &String::from_utf8_lossy(&more);
        }
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        (&*self.keys).write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the program has ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.screen.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
                Ok(more) => self.shown += &String::from_utf8_lossy(&more),
                Err(RecvTimeoutError::Disconnected) => return self.program.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.shown),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that fails leaves a program that waits for an answer.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
