//! `holdover test`: crashes this host on request, and tells after the boot whether the dump came.

use std::convert::Infallible;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use host::crash_test::{self, History, Outcome, Prepared, Test};
use serde_json::{Value, json};

use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Tell what came of the last test, and what has changed since the last one that was passed; crash nothing
    #[arg(long)]
    result: bool,
    /// Crash without asking for the host's name
    #[arg(long, conflicts_with = "result")]
    yes: bool,
    /// Seconds until the crash, in which Ctrl-C stops it
    #[arg(long, value_name = "SECONDS", default_value_t = 10, conflicts_with = "result")]
    countdown: u64,
}

/// Crashes this host, or tells what came of the last crash.
pub(crate) fn run(arguments: &Arguments) -> Result<Told> {
    if arguments.result {
        let concluded = crash_test::conclude()?;
        let (mut history, is_pending) = (crash_test::history()?, concluded.is_none());
        // What is not final is not noted.
        history.last = concluded.or(history.last);
        return Ok(Told { history, is_pending });
    }
    match crash(arguments)? {}
}

/// Warns, asks, counts down, and crashes.
fn crash(arguments: &Arguments) -> Result<Infallible> {
    let prepared = crash_test::prepare()?;
    for line in warnings(&prepared) {
        tell(&line);
    }
    if !arguments.yes {
        confirm(&prepared.host)?;
    }
    for seconds in (1..=arguments.countdown).rev() {
        tell(&format!("the kernel panics in {seconds} s; Ctrl-C stops it"));
        thread::sleep(Duration::from_secs(1));
    }
    tell("the kernel panics now");
    Ok(prepared.crash()?)
}

/// Writes to standard error; whether anybody reads it matters not.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "holdover: {line}");
}

/// What the crash will do, and to whom.
fn warnings(prepared: &Prepared) -> Vec<String> {
    let Prepared { host, users, mounted, areas } = prepared;
    let areas: Vec<_> = areas.iter().map(|area| area.display().to_string()).collect();
    let users = if users.is_empty() { "nobody by systemd's account".to_owned() } else { users.join(", ") };
    vec![
        format!(
            "this will panic the kernel of {host}: whatever runs there ends at once, and the machine restarts"
        ),
        format!("logged in: {users}"),
        format!("mounted to be written, and not unmounted before: {}", mounted.join(", ")),
        format!(
            "the dump goes to {}",
            if areas.is_empty() {
                "where the fallback kernel writes it".to_owned()
            } else {
                areas.join(", ")
            }
        ),
        "after the restart `holdover test --result` tells whether it came".to_owned(),
    ]
}

/// Asks for the host's name.
fn confirm(host: &str) -> Result<()> {
    if !io::stdin().is_terminal() {
        bail!("nobody can be asked: there is no terminal; `holdover test --yes` crashes without asking");
    }
    eprint!("holdover: type the host's name ({host}) to go on: ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() != host {
        bail!("that is not this host's name: nothing was done; run `holdover test` again to go on");
    }
    Ok(())
}

/// What is known of the tests of this host.
pub(crate) struct Told {
    history: History,
    /// Whether the last test's boot is not over, or there is none.
    is_pending: bool,
}

impl Told {
    fn last(&self) -> Option<(&Test, Option<&Outcome>)> {
        self.history.last.as_ref().map(|test| (test, test.outcome.as_ref()))
    }

    fn verdict(&self) -> &'static str {
        match self.last() {
            None => "none was made: `holdover test` makes one",
            Some((_, Some(outcome))) => outcome.verdict.told(),
            Some((_, None)) if self.is_pending => "asked for in this boot, and the kernel did not panic",
            Some((_, None)) => "not known",
        }
    }
}

impl Report for Told {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![row("last test", self.verdict())];
        if let Some((_, Some(outcome))) = self.last() {
            rows.extend(outcome.area.iter().map(|area| row("dump in", area.display().to_string())));
            let back = outcome
                .back_after
                .map(|seconds| format!("the next kernel started {seconds} s after the request"));
            rows.extend(back.map(|back| row("restart", back)));
            rows.extend(outcome.unread.iter().map(|unread| row("not looked at", unread)));
        }
        rows.extend(self.history.changes.iter().map(|change| row("since the last that passed", change)));
        rows
    }

    fn json(&self) -> Result<Value> {
        let test = |test: &Test| {
            let outcome = test.outcome.as_ref();
            json!({
                "nonce": test.nonce,
                "at": test.at,
                "verdict": outcome.map(|outcome| outcome.verdict),
                "told": outcome.map(|outcome| outcome.verdict.told()),
                "area": outcome.and_then(|outcome| outcome.area.as_ref()),
                "back_after_seconds": outcome.and_then(|outcome| outcome.back_after),
                "unread": outcome.map(|outcome| &outcome.unread),
            })
        };
        let History { last, passed, changes } = &self.history;
        Ok(json!({
            "passed": self.is_whole(),
            "last": last.as_ref().map(test),
            "last_passed": passed.as_ref().map(test),
            "changes": changes,
        }))
    }

    /// Whether the last test was passed.
    fn is_whole(&self) -> bool {
        self.last().is_some_and(|(test, _)| test.has_passed())
    }
}
