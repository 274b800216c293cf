//! Programs that are run after a crash was collected. They must end in time.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often a program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);

/// Runs a program with this input. What it prints goes to standard error, which a service's journal has. If it takes too long, it is
/// killed with all that it started.
pub(super) fn run(mut command: Command, input: &str, limit: Duration) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(std::io::stderr()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // A program need not read its input, and one that does not must not hold this one up.
        thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    match ended(&mut child, limit) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{name} ended with {status}")),
        None => {
            kill(&mut child);
            Err(format!("{name} took longer than {} seconds, and was killed", limit.as_secs()))
        }
    }
}

fn ended(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(POLL);
    }
    None
}

fn kill(child: &mut Child) {
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        // It may have ended just now.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}
