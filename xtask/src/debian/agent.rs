//! Speaks to `guest/debian-agent`, which does in the guest what comes on its second serial port.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The agent's first line after a boot.
const READY: &str = "bench-ready";
/// What precedes the exit status, on the line behind a command's output.
const END: &str = "bench-end ";
/// How long a read waits before the limit is looked at.
const POLL: Duration = Duration::from_millis(200);

/// What a command did.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// Its output, errors in it.
    pub(crate) said: String,
    /// Its exit status.
    pub(crate) status: u32,
}

/// The bench's end of the guest's second serial port.
pub(crate) struct Agent {
    lines: BufReader<UnixStream>,
}

impl Agent {
    /// Connects to the socket of the port, which QEMU makes when it starts.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let start = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if start.elapsed() > Duration::from_secs(10) => return Err(error.into()),
                Err(_) => thread::sleep(POLL),
            }
        };
        stream.set_read_timeout(Some(POLL))?;
        Ok(Self { lines: BufReader::new(stream) })
    }

    /// Waits until the agent of a boot is there; fails if a command ends before.
    pub(crate) fn wait_for_boot(&mut self, limit: Duration) -> Result<()> {
        let mut said = String::new();
        let start = Instant::now();
        loop {
            let line = self.line(limit.saturating_sub(start.elapsed())).context("no boot")?;
            if line.contains(READY) {
                return Ok(());
            }
            said += &line;
            ensure!(!line.starts_with(END), "the machine goes on: {said}");
        }
    }

    /// Has the agent do a command, and does not wait for its end.
    pub(crate) fn begin(&mut self, command: &str) -> Result<()> {
        writeln!(self.lines.get_mut(), "{command}").context("the machine has ended")
    }

    /// Has the agent do a command, and waits for its end.
    pub(crate) fn run(&mut self, command: &str, limit: Duration) -> Result<Done> {
        self.begin(command)?;
        let (mut said, start) = (String::new(), Instant::now());
        loop {
            let left = limit.saturating_sub(start.elapsed());
            let line = self.line(left).with_context(|| format!("`{command}` does not end:\n{said}"))?;
            if let Some(status) = line.strip_prefix(END) {
                let status = status.trim().parse().context("the agent tells no exit status")?;
                return Ok(Done { said: said.trim_end().to_owned(), status });
            }
            if line.contains(READY) {
                bail!("the machine was reset during `{command}`:\n{said}");
            }
            said += &line;
        }
    }

    /// The next line, with its end.
    fn line(&mut self, limit: Duration) -> Result<String> {
        let (mut bytes, start) = (Vec::new(), Instant::now());
        loop {
            match self.lines.read_until(b'\n', &mut bytes) {
                Ok(_) if bytes.ends_with(b"\n") => {
                    return Ok(String::from_utf8_lossy(&bytes).replace('\r', ""));
                }
                Ok(_) => bail!("the machine has ended"),
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(error.into());
                }
                Err(_) if start.elapsed() > limit => bail!("nothing for {} s", limit.as_secs()),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// An agent whose guest says this, whatever it is told.
    fn that_says(said: &str) -> Agent {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        theirs.write_all(said.as_bytes()).unwrap();
        // Leaves the other end open, as a machine that runs does.
        std::mem::forget(theirs);
        Agent { lines: BufReader::new(ours) }
    }

    #[test]
    fn a_commands_output_ends_before_its_exit_status() {
        let done = that_says("one\r\ntwo\n\nbench-end 3\nlater\n").run("command", SOON).unwrap();
        assert_eq!((done.said.as_str(), done.status), ("one\ntwo", 3));
    }

    #[test]
    fn a_machine_that_starts_again_during_a_command_is_told_of() {
        let error = that_says("half\nbench-ready\n").run("command", SOON).unwrap_err().to_string();
        assert!(error.contains("was reset during `command`") && error.contains("half"), "{error}");
    }

    #[test]
    fn a_command_that_ends_where_a_panic_was_expected_is_told_of_at_once() {
        let error = that_says("no room\n\nbench-end 1\n").wait_for_boot(SOON).unwrap_err().to_string();
        assert!(error.contains("the machine goes on: no room"), "{error}");
        assert!(that_says("noise\nbench-ready\n").wait_for_boot(SOON).is_ok());
    }

    #[test]
    fn a_command_that_does_not_end_is_an_error_at_its_limit_with_what_it_said() {
        let error = that_says("so far\n").run("command", Duration::from_millis(30)).unwrap_err();
        assert!(format!("{error:#}").contains("`command` does not end:\nso far"), "{error:#}");
    }
}
