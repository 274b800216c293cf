//! The guest's serial console. Each line has the host's time at which it was complete.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use handoff::{ConsoleLine, Event};

/// Whether the person at the terminal sees the console as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Yes.
    Shown,
    /// No, it only goes to the file.
    Hidden,
}

/// One line of the console.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Host time at which its end arrived.
    pub(crate) at: SystemTime,
    /// The line without its end.
    pub(crate) text: String,
}

impl Line {
    /// What follows `bench: `, if the guest's init wrote the line (through the kernel's log).
    pub(crate) fn bench(&self) -> Option<&str> {
        self.text.split_once("bench: ").map(|(_, said)| said)
    }

    /// What follows `holdover: [seconds] `, if Holdover wrote the line.
    pub(crate) fn holdover(&self) -> Option<&str> {
        ConsoleLine::parse(&self.text).map(|line| line.text)
    }

    /// What Holdover tells programs by the line.
    pub(crate) fn event(&self) -> Option<Event> {
        self.holdover().and_then(Event::parse)
    }

    /// Lines that came a second apart, for tests of those who read a console.
    #[cfg(test)]
    pub(crate) fn a_second_apart(texts: &[&str]) -> Vec<Self> {
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        (0..).zip(texts).map(|(second, text)| Self { at: at(second), text: (*text).to_owned() }).collect()
    }
}

/// The machine runs, and says nothing any more.
#[derive(Debug)]
pub(crate) struct Silence {
    /// For how long.
    pub(crate) silence: Duration,
    /// The last lines.
    pub(crate) tail: String,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing on the console for {} s\n{}", self.silence.as_secs(), self.tail)
    }
}

impl std::error::Error for Silence {}

/// The machine has ended too soon.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What was expected of it.
    pub(crate) wanted: String,
    /// The last lines.
    pub(crate) tail: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the machine ended before `{}` was on its console\n{}", self.wanted, self.tail)
    }
}

impl std::error::Error for Ended {}

/// The lines so far, and a thread that adds to them until the console closes.
pub(crate) struct Console {
    shared: Arc<Shared>,
    reader: thread::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<ConsoleState>,
    changed: Condvar,
}

#[derive(Default)]
struct ConsoleState {
    lines: Vec<Line>,
    closed: bool,
}

impl Console {
    /// Follows `from` and keeps a copy in `file`.
    pub(crate) fn follow(from: impl Read + Send + 'static, file: &Path, echo: Echo) -> Result<Self> {
        let file = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let reader = thread::spawn(move || writer.read_all(from, file, echo));
        Ok(Self { shared, reader })
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.shared.lock().lines.clone()
    }

    /// Waits until the console closes, as it does when the machine has ended, and returns all lines.
    pub(crate) fn finish(self) -> Vec<Line> {
        // A reader that panicked leaves the lines it had.
        let _ = self.reader.join();
        std::mem::take(&mut self.shared.lock().lines)
    }

    /// Waits for a line with `wanted` in it, among those already there or to come.
    ///
    /// Fails at the limit, and with [`Ended`] as soon as the console closes; the error shows the last lines.
    pub(crate) fn wait_for(&self, wanted: &str, limit: Duration) -> Result<Line> {
        self.wait_for_talker(wanted, limit, limit)
    }

    /// Like [`wait_for`](Self::wait_for), but fails with [`Silence`] when there was no line at all for so long.
    pub(crate) fn wait_for_talker(&self, wanted: &str, limit: Duration, silence: Duration) -> Result<Line> {
        let start = Instant::now();
        let (mut known, mut heard) = (0, start);
        let mut state = self.shared.lock();
        loop {
            if let Some(line) = state.lines.iter().find(|line| line.text.contains(wanted)) {
                return Ok(line.clone());
            }
            let tail = Tail(&state.lines);
            ensure!(!state.closed, Ended { wanted: wanted.to_owned(), tail: tail.to_string() });
            ensure!(
                start.elapsed() < limit,
                "no `{wanted}` on the console within {} s\n{tail}",
                limit.as_secs()
            );
            if state.lines.len() > known {
                (known, heard) = (state.lines.len(), Instant::now());
            }
            ensure!(heard.elapsed() < silence, Silence { silence, tail: tail.to_string() });
            let left = limit.saturating_sub(start.elapsed()).min(silence.saturating_sub(heard.elapsed()));
            state = self.shared.wait(state, left);
        }
    }
}

impl Shared {
    /// A thread that panicked while it held the lock has at worst left a line out.
    fn lock(&self) -> MutexGuard<'_, ConsoleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, ConsoleState>, limit: Duration) -> MutexGuard<'a, ConsoleState> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    fn read_all(&self, from: impl Read, mut file: File, echo: Echo) {
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        while from.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            // A full disk must not stop the guest: the lines in memory are what the witnesses use.
            let _ = file.write_all(&bytes);
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            if echo == Echo::Shown {
                println!("{text}");
            }
            self.lock().lines.push(Line { at: SystemTime::now(), text });
            self.changed.notify_all();
            bytes.clear();
        }
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

/// The last lines of a console, for error messages.
struct Tail<'a>(&'a [Line]);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.0.len().saturating_sub(12);
        self.0[skipped..].iter().try_for_each(|line| writeln!(f, "    | {}", line.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn console(text: &'static str) -> Console {
        let file = std::env::temp_dir().join(format!("console-{}", std::process::id()));
        Console::follow(text.as_bytes(), &file, Echo::Hidden).unwrap()
    }

    fn line(text: &str) -> Line {
        Line { at: SystemTime::UNIX_EPOCH, text: text.to_owned() }
    }

    #[test]
    fn a_line_that_came_is_found() {
        let found = console("one\r\ntwo and more\r\n").wait_for("two", SOON).unwrap();
        assert_eq!(found.text, "two and more");
    }

    #[test]
    fn a_console_that_closes_early_is_an_error_with_its_last_lines() {
        let error = console("last words\n").wait_for("sealed", SOON).unwrap_err().to_string();
        assert!(error.contains("ended before `sealed`") && error.contains("last words"), "{error}");
    }

    #[test]
    fn a_machine_that_says_nothing_any_more_is_told_from_one_that_is_slow() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let console = Console::follow(reader, file.path(), Echo::Hidden).unwrap();
        writer.write_all(b"hello\n").unwrap();
        let brief = Duration::from_millis(50);
        let silent = console.wait_for_talker("never", SOON, brief).unwrap_err();
        assert!(silent.is::<Silence>() && silent.to_string().contains("hello"), "{silent}");
        let slow = console.wait_for("never", brief).unwrap_err();
        assert!(!slow.is::<Silence>(), "{slow}");
    }

    #[test]
    fn only_whole_prefixes_make_a_line_of_ours() {
        assert_eq!(line("holdover: [0.123] takeover done").holdover(), Some("takeover done"));
        assert_eq!(line("[   12.0] holdover: takeover done").holdover(), None);
        assert_eq!(line("holdover: [soon] takeover done").holdover(), None);
        assert_eq!(line("[    4.5] bench: loaded 1").bench(), Some("loaded 1"));
    }
}
