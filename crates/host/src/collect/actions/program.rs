//! Programs that are run after a crash was collected. They must end in time.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Why a program did not do what it was to do.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum ProgramError {
    /// It cannot be started.
    #[error("{program} cannot be started; is it there, and may root run it? `ls -l {program}`")]
    Start {
        /// Its path.
        program: String,
        /// What the host said.
        source: io::Error,
    },
    /// It says that it failed.
    #[error("{program} ended with {status}; `journalctl -u holdover-actions` has what it said")]
    Ended {
        /// Its path.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It did not end.
    #[error(
        "{program} took longer than {seconds} seconds, and was killed; let it do what takes long in the background"
    )]
    TooLong {
        /// Its path.
        program: String,
        /// How long it may take.
        seconds: u64,
    },
}

/// How often a program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);

/// Runs a program with this input. What it prints goes to standard error, which a service's journal has. If it takes too long, it is
/// killed with all that it started.
pub(super) fn run(mut command: Command, input: &str, limit: Duration) -> Result<(), ProgramError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(io::stderr()).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(source) => return Err(ProgramError::Start { program, source }),
    };
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // A program need not read its input, and one that does not must not hold this one up.
        thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    match ended(&mut child, limit) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(ProgramError::Ended { program, status }),
        None => {
            kill(&mut child);
            Err(ProgramError::TooLong { program, seconds: limit.as_secs() })
        }
    }
}

fn ended(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
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
