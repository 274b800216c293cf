//! Runs other programs: to their end, with their output in the error, or within a time limit.

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);

/// Runs a program whose output the person at the terminal should see.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    ensure!(status.success(), "{} ended with {status}", line(command));
    Ok(())
}

/// Runs a program and returns what it printed; its error output becomes part of the error.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", line(command)))?;
    succeeded(command, &output)
}

/// Like [`stdout`], but feeds the program `input` and kills it when `limit` has passed.
pub(crate) fn stdout_within(command: &mut Command, input: &str, limit: Duration) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(command.spawn().with_context(|| format!("cannot start {}", line(command)))?);
    feed(&mut child.0, input)?;
    let said = gather(child.0.stdout.take());
    let complained = gather(child.0.stderr.take());
    let Some(status) = wait_within(&mut child.0, limit)? else {
        bail!("{} did not end within {} s", line(command), limit.as_secs())
    };
    let output = Output { status, stdout: joined(said), stderr: joined(complained) };
    succeeded(command, &output)
}

/// Waits for a child to end; `None` if it has not when `limit` has passed.
pub(crate) fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// A child that does not outlive its owner.
pub(crate) struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill, and nothing to report.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn feed(child: &mut Child, input: &str) -> Result<()> {
    let mut stdin = child.stdin.take().context("the child has no standard input")?;
    match stdin.write_all(input.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

type Gathering = thread::JoinHandle<Vec<u8>>;

fn gather(from: Option<impl Read + Send + 'static>) -> Gathering {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What was read before an error is still worth showing.
            let _ = from.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn joined(gathering: Gathering) -> Vec<u8> {
    gathering.join().unwrap_or_default()
}

fn succeeded(command: &Command, output: &Output) -> Result<String> {
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} ended with {}: {}", line(command), output.status, complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_never_ends_is_killed_at_its_limit() {
        let error =
            stdout_within(Command::new("sleep").arg("60"), "", Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }

    #[test]
    fn what_a_failing_program_said_is_in_the_error() {
        let error = stdout(Command::new("ls").arg("/no/such/file")).unwrap_err().to_string();
        assert!(error.contains("/no/such/file") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_program_gets_its_input() {
        assert_eq!(
            stdout_within(&mut Command::new("cat"), "hello", Duration::from_secs(5)).unwrap(),
            "hello"
        );
    }
}
