//! QEMU's machine protocol, as far as the bench needs it: to plug in and to withdraw parts of the machine, to raise machine checks, and
//! to learn why the machine ended.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::machines::scenario::events::MachineCheck;
use crate::machines::socket;

/// The bank that reports machine checks: one that no kernel turns off.
const MACHINE_CHECK_BANK: u32 = 2;

/// How long a guest may take to give memory back.
const BALLOON: Duration = Duration::from_secs(60);

/// Who reset the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetBy {
    /// The guest.
    Guest,
    /// A watchdog.
    Watchdog,
}

/// An open connection, on which answers and events arrive.
pub(crate) struct Qmp {
    messages: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects, and says what QEMU waits to hear before it sends events.
    pub(crate) fn connect(socket: &Path, has_ended: impl FnMut() -> bool) -> Result<Self> {
        let mut qmp = Self { messages: BufReader::new(socket::connect(socket, has_ended)?) };
        qmp.execute(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(qmp)
    }

    /// Has the guest's balloon grow until so many bytes of memory are left.
    pub(crate) fn shrink_memory_to(&mut self, bytes: u64) -> Result<()> {
        self.execute(&json!({ "execute": "balloon", "arguments": { "value": bytes } }))?;
        let start = Instant::now();
        while self.execute(&json!({ "execute": "query-balloon" }))?["actual"] != bytes {
            ensure!(start.elapsed() < BALLOON, "the guest does not give its memory back");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Raises a machine check on processor 0.
    pub(crate) fn raise(&mut self, check: MachineCheck) -> Result<()> {
        let (bank, global) = (check.bank_status(), check.global_status());
        self.execute_for_people(&format!("mce 0 {MACHINE_CHECK_BANK} {bank:#x} {global:#x} 0 0"))
    }

    /// Sends a break over a serial line.
    pub(crate) fn send_break(&mut self, port: &str) -> Result<()> {
        self.execute(&json!({ "execute": "chardev-send-break", "arguments": { "id": port } })).map(drop)
    }

    /// Gives each processor an NMI.
    pub(crate) fn inject_nmi(&mut self) -> Result<()> {
        self.execute(&json!({ "execute": "inject-nmi" })).map(drop)
    }

    /// Saves what the display shows, in the portable pixmap format.
    pub(crate) fn take_picture(&mut self, file: &Path) -> Result<()> {
        self.execute(&json!({ "execute": "screendump", "arguments": { "filename": file } })).map(drop)
    }

    /// Plugs in the processor for which the machine has a second socket; its model is `max`.
    pub(crate) fn plug_in_processor(&mut self) -> Result<()> {
        let processor = json!({ "driver": "max-x86_64-cpu", "id": "plugged-processor", "socket-id": 1, "core-id": 0, "thread-id": 0 });
        self.execute(&json!({ "execute": "device_add", "arguments": processor })).map(drop)
    }

    /// Plugs in so many bytes of memory.
    pub(crate) fn plug_in_memory(&mut self, bytes: u64) -> Result<()> {
        let memory = json!({ "qom-type": "memory-backend-ram", "id": "plugged-memory", "size": bytes });
        self.execute(&json!({ "execute": "object-add", "arguments": memory }))?;
        let module = json!({ "driver": "pc-dimm", "id": "plugged-module", "memdev": "plugged-memory" });
        self.execute(&json!({ "execute": "device_add", "arguments": module })).map(drop)
    }

    /// Removes what is behind a disk; the guest's requests fail from now on.
    pub(crate) fn remove_drive(&mut self, drive: &str) -> Result<()> {
        self.execute_for_people(&format!("drive_del {drive}"))
    }

    /// Lets a drive move so many bytes per second.
    pub(crate) fn limit_drive(&mut self, drive: &str, rate: u32) -> Result<()> {
        let limits = json!({ "device": drive, "bps": rate, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0 });
        self.execute(&json!({ "execute": "block_set_io_throttle", "arguments": limits }))?;
        Ok(())
    }

    /// Has QEMU do something for which there is only a command line, and which is silent when it succeeds.
    fn execute_for_people(&mut self, line: &str) -> Result<()> {
        let command = json!({ "execute": "human-monitor-command", "arguments": { "command-line": line } });
        let complaint = self.execute(&command)?;
        ensure!(complaint == "", "QEMU does not do `{line}`: {complaint}");
        Ok(())
    }

    /// Has QEMU do something, and returns its answer; events on the way are lost. QEMU gets the command whole.
    fn execute(&mut self, command: &Value) -> Result<Value> {
        let line = format!("{command}\n");
        let sent = self.messages.get_mut().write_all(line.as_bytes()).map_err(socket::in_words);
        let answered = sent.and_then(|()| answer(&mut self.messages));
        answered.with_context(|| format!("QEMU was told {command}"))
    }

    /// Who reset the machine; reads all events up to then. Fails if it ended for another reason.
    pub(crate) fn reset_by(&mut self) -> Result<ResetBy> {
        reset_by(&mut self.messages)
    }
}

/// The next message; `None` if there is none any more.
fn next_message(messages: &mut impl BufRead) -> Result<Option<Value>> {
    let mut line = String::new();
    if messages.read_line(&mut line).map_err(socket::in_words)? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&line).context("QEMU sent something that is not JSON")
}

fn answer(messages: &mut impl BufRead) -> Result<Value> {
    while let Some(mut message) = next_message(messages)? {
        ensure!(message["error"].is_null(), "QEMU refuses: {}", message["error"]);
        if let Some(answer) = message.get_mut("return") {
            return Ok(answer.take());
        }
    }
    Err(socket::ended())
}

/// QEMU gives the same reason for both resets, but announces a watchdog's by an event.
fn reset_by(messages: &mut impl BufRead) -> Result<ResetBy> {
    let mut reset_by = ResetBy::Guest;
    while let Some(message) = next_message(messages)? {
        if message["event"] == "WATCHDOG" {
            reset_by = ResetBy::Watchdog;
        }
        if message["event"] == "SHUTDOWN" {
            let reason = &message["data"]["reason"];
            ensure!(reason == "guest-reset", "the machine ended for another reason than a reset: {reason}");
            return Ok(reset_by);
        }
    }
    bail!("QEMU ended without saying why")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset_after(event: &str, reason: &str) -> Result<ResetBy> {
        let shutdown = json!({ "event": "SHUTDOWN", "data": { "guest": true, "reason": reason } });
        let messages = [json!({ "return": {} }), json!({ "event": event }), shutdown];
        reset_by(&mut messages.map(|message| format!("{message}\n")).concat().as_bytes())
    }

    #[test]
    fn who_reset_the_machine_is_found_among_other_events() {
        assert_eq!(reset_after("RTC_CHANGE", "guest-reset").unwrap(), ResetBy::Guest);
        assert_eq!(reset_after("WATCHDOG", "guest-reset").unwrap(), ResetBy::Watchdog);
        assert!(reset_after("RTC_CHANGE", "guest-panic").unwrap_err().to_string().contains("guest-panic"));
    }

    #[test]
    fn a_machine_that_ended_before_a_command_is_told_of_in_words() {
        for told in [false, true] {
            let (bench, mut machine) = UnixStream::pair().unwrap();
            let mut qmp = Qmp { messages: BufReader::new(bench) };
            if told {
                // QEMU ends with a command that it has not read.
                qmp.messages.get_mut().write_all(b"{}\n").unwrap();
            }
            machine.write_all(b"{\"event\": \"RTC_CHANGE\"}\n").unwrap();
            drop(machine);
            let error = format!("{:#}", qmp.raise(MachineCheck::Fatal).unwrap_err());
            assert!(error.contains("mce 0") && error.ends_with("the machine had ended by then"), "{error}");
        }
    }

    #[test]
    fn a_machine_that_was_killed_gives_no_reason() {
        assert!(reset_by(&mut b"{\"return\": {}}\n".as_slice()).is_err());
    }

    #[test]
    fn an_answer_is_found_behind_events_and_a_refusal_is_an_error() {
        let messages = b"{\"event\": \"BALLOON_CHANGE\"}\n{\"return\": {\"actual\": 5}}\n{\"error\": {\"desc\": \"no\"}}\n";
        let mut messages = messages.as_slice();
        assert_eq!(answer(&mut messages).unwrap()["actual"], 5);
        assert!(answer(&mut messages).unwrap_err().to_string().contains("no"));
        assert!(answer(&mut messages).is_err(), "nothing follows");
    }
}
