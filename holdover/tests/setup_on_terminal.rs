//! `holdover setup` in conversation: what a person who is asked at a terminal may answer. What comes after a yes takes root, and is in
//! `file_areas.rs`.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use terminal::{CTRL_C, Terminal};

mod terminal;

/// What a terminal sends for this key, which its driver makes the end of the input.
const CTRL_D: &str = "\x04";
const QUESTION: &str = "a dump area of 8.00 MiB? [Y/n] ";

/// What whoever says no is told to do instead.
const INSTEAD: &str = "--area or --file";

/// A system on which nothing was set up.
fn system() -> TempDir {
    let system = tempfile::tempdir().unwrap();
    let kernel = system.path().join("sys/kernel");
    fs::create_dir_all(&kernel).unwrap();
    fs::write(kernel.join("kexec_crash_size"), "0\n").unwrap();
    fs::create_dir(system.path().join("srv")).unwrap();
    system
}

/// One, and a conversation with the first question asked.
fn asked() -> (TempDir, Terminal) {
    let system = system();
    let mut terminal = Terminal::with(&texts(&arguments(&system)));
    terminal.see(QUESTION);
    (system, terminal)
}

fn arguments(system: &TempDir) -> Vec<String> {
    let (root, file) = (system.path().display(), system.path().join("srv/area"));
    let options = format!("setup --no-units --size 8M --root {root} --file {}", file.display());
    options.split(' ').map(str::to_owned).collect()
}

fn texts(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Whether nothing has come to the system, nor gone.
fn is_unchanged(changed: &TempDir) -> bool {
    let files = |system: &TempDir| {
        let listed = Command::new("find").arg(system.path()).args(["-printf", "%P %s\n"]).output().unwrap();
        let mut files: Vec<_> =
            String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect();
        files.sort();
        files
    };
    files(changed) == files(&system())
}

#[test]
fn a_no_ends_the_conversation_and_nothing_is_changed() {
    for no in ["n\r", "no\r", "NO\r"] {
        let (system, mut terminal) = asked();
        terminal.press(no);
        assert_eq!(terminal.end().code(), Some(1), "{}", terminal.shown);
        assert!(terminal.shown.contains(INSTEAD), "{}", terminal.shown);
        assert!(is_unchanged(&system), "{no:?}");
    }
}

#[test]
fn an_answer_that_is_neither_has_the_question_asked_again() {
    let (system, mut terminal) = asked();
    for other in ["perhaps\r", "j\r", "\u{e9}\r"] {
        terminal.press(other);
        terminal.see("Please answer yes or no.");
        terminal.see(QUESTION);
    }
    terminal.press("n\r");
    assert_eq!(terminal.end().code(), Some(1), "{}", terminal.shown);
    assert!(terminal.shown.contains(INSTEAD), "{}", terminal.shown);
    assert!(is_unchanged(&system));
}

#[test]
fn the_end_of_the_input_is_a_no() {
    let (system, mut terminal) = asked();
    terminal.press(CTRL_D);
    assert_eq!(terminal.end().code(), Some(1), "{}", terminal.shown);
    assert!(terminal.shown.contains(INSTEAD), "{}", terminal.shown);
    assert!(is_unchanged(&system));
}

#[test]
fn who_interrupts_it_has_changed_nothing() {
    let (system, mut terminal) = asked();
    terminal.press(CTRL_C);
    assert_eq!(terminal.end().signal(), Some(2), "SIGINT: {}", terminal.shown);
    assert!(is_unchanged(&system));
}

#[test]
fn without_a_terminal_nobody_is_asked_and_nothing_is_changed() {
    let system = system();
    let mut program = Command::new(env!("CARGO_BIN_EXE_holdover"));
    let output = program.args(arguments(&system)).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no terminal to ask on: --yes"), "{said}");
    assert!(is_unchanged(&system));
}
