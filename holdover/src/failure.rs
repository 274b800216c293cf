//! Tells what went wrong, and what to do: in words on standard error, and as JSON on standard output if that is asked for.
//!
//! The JSON is `{"code": …, "error": …, "remedy": …}`; `docs/messages.md` explains each code. The texts of errors say what to do as far as they know; where they do not, the remedy is
//! that of the host's own error, or the place to look.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use anyhow::Error;
use serde_json::json;

/// Tells an error; returns the exit status.
pub(crate) fn show(error: &Error, json: bool) -> ExitCode {
    let text = format!("{error:#}");
    let remedy = remedy(error, &text);
    let shown = if text.contains(&remedy) { text.clone() } else { format!("{text}\nholdover: {remedy}") };
    tell(&format!("holdover: {shown}"));
    if json {
        print_json(code(error).as_deref(), &text, &remedy);
    }
    ExitCode::FAILURE
}

/// Tells what is wrong with a command line; help and version, which count as such, go to standard output.
pub(crate) fn of_usage(error: &clap::Error) -> ExitCode {
    // Whether anybody reads it matters not.
    let _ = error.print();
    if error.use_stderr() && wants_json(std::env::args_os()) {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        print_json(
            Some("usage"),
            text,
            "`holdover --help` lists the commands, `holdover COMMAND --help` what each takes",
        );
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// The code of an error, or of the one that it tells about; a question that nobody has answered has none.
fn code(error: &Error) -> Option<String> {
    error.chain().find_map(host::codes::of)
}

/// Whether JSON is asked for in arguments that cannot be understood.
fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// What to do, as far as it is known.
fn remedy(error: &Error, text: &str) -> String {
    // Below the first line are the kernel's messages.
    let first = text.lines().next().unwrap_or_default();
    let told = first.rsplit("; ").next().filter(|_| first.contains("; "));
    if let Some(told) = told.filter(|told| told.contains('`') || told.contains("--")) {
        return told.to_owned();
    }
    // An error that passes another one on hides its type, not its text.
    let number = text.rsplit_once("(os error ").and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
    let named = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
    let kind = number.map(|number| io::Error::from_raw_os_error(number).kind()).or(named);
    let of_host = kind.and_then(of_kind);
    of_host
        .unwrap_or(
            "`holdover doctor` says what this host lacks, `holdover COMMAND --help` what a command takes",
        )
        .to_owned()
}

/// What to do about what the host says.
fn of_kind(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::PermissionDenied => "run it as root: `sudo holdover …`",
        ErrorKind::NotFound | ErrorKind::NotADirectory => "is the name right? `ls -l` shows what is there",
        ErrorKind::IsADirectory => "name a file in that folder: `ls` shows what is there",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "make room, or name another disk: `df -h` shows which has room"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "name a place that can be written: `findmnt -O ro` lists those that cannot"
        }
        ErrorKind::ResourceBusy => "end what uses it: `lsblk` and `fuser -v` show who does",
        _ => return None,
    })
}

/// Writes a line to standard error; whether anybody reads it matters not.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn print_json(code: Option<&str>, error: &str, remedy: &str) {
    let value = json!({ "code": code, "error": error, "remedy": remedy });
    let _ = writeln!(io::stdout(), "{value:#}");
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn remedy_of(error: &Error) -> String {
        remedy(error, &format!("{error:#}"))
    }

    #[test]
    fn what_an_error_says_to_do_is_its_remedy() {
        let error = anyhow!("/dev/vdb is not a dump area; `holdover format /dev/vdb` makes it one");
        assert_eq!(remedy_of(&error), "`holdover format /dev/vdb` makes it one");
    }

    #[test]
    fn what_the_host_refuses_has_a_remedy_of_its_own() {
        let error = Error::new(io::Error::from(ErrorKind::PermissionDenied)).context("cannot read /dev/vdb");
        assert!(remedy_of(&error).contains("sudo"));
        assert!(remedy_of(&anyhow!("cannot read x: {}", io::Error::from_raw_os_error(2))).contains("ls -l"));
        assert!(remedy_of(&anyhow!("odd; very odd")).contains("holdover doctor"));
    }

    #[test]
    fn an_error_of_the_host_has_a_code_also_behind_others() {
        let error = Error::new(host::load::LoadError::NoArea);
        assert_eq!(code(&error).as_deref(), Some("load: no-area"));
        assert_eq!(code(&error.context("in vain")).as_deref(), Some("load: no-area"));
        assert_eq!(code(&anyhow!("odd")), None);
    }

    #[test]
    fn json_is_asked_for_anywhere_before_the_end_of_options() {
        let wants = |arguments: &[&str]| wants_json(arguments.iter().map(OsString::from));
        assert!(wants(&["holdover", "nonsense", "--json"]));
        assert!(!wants(&["holdover", "--", "--json"]));
    }
}
