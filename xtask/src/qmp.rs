//! QEMU's machine protocol, as far as the bench needs it: to learn why the machine ended.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// How long QEMU may take until its sockets exist.
const START: Duration = Duration::from_secs(10);

/// An open connection, on which events arrive.
pub(crate) struct Qmp {
    events: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects, and says what QEMU waits to hear before it sends events.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let mut stream = connect_within(socket, START)?;
        stream.set_read_timeout(Some(START))?;
        writeln!(stream, r#"{{"execute": "qmp_capabilities"}}"#)?;
        Ok(Self { events: BufReader::new(stream) })
    }

    /// Why the machine ended, in QEMU's words; asks for all events up to then.
    pub(crate) fn shutdown_reason(&mut self) -> Result<String> {
        shutdown_reason(&mut self.events)
    }
}

/// Connects to a socket that another program is about to make.
pub(crate) fn connect_within(socket: &Path, limit: Duration) -> Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(_) if start.elapsed() < limit => thread::sleep(Duration::from_millis(10)),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot connect to {}", socket.display()));
            }
        }
    }
}

fn shutdown_reason(events: impl BufRead) -> Result<String> {
    for line in events.lines() {
        let message: Value = serde_json::from_str(&line?).context("QEMU sent something that is not JSON")?;
        if message["event"] == "SHUTDOWN" {
            return Ok(message["data"]["reason"].as_str().unwrap_or("unknown").to_owned());
        }
    }
    bail!("QEMU ended without saying why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_among_other_events() {
        let events = br#"{"QMP": {}}
{"return": {}}
{"timestamp": {}, "event": "RTC_CHANGE", "data": {"offset": 1}}
{"timestamp": {}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}
"#;
        assert_eq!(shutdown_reason(events.as_slice()).unwrap(), "guest-reset");
    }

    #[test]
    fn a_machine_that_was_killed_gives_no_reason() {
        assert!(shutdown_reason(b"{\"return\": {}}\n".as_slice()).is_err());
    }
}
