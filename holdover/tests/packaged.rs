//! What a package takes from the program: its man pages and completions, and whether a capture kernel is inside.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs;
use std::process::{Command, Output};

/// Commands that have a page; those within `config` have theirs besides.
const COMMANDS: [&str; 5] = ["load", "collect", "doctor", "verify", "config-check"];

fn holdover(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdover")).args(arguments).output().unwrap()
}

#[test]
fn each_command_has_a_man_page_and_each_shell_knows_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    assert!(holdover(&["generate", folder.path().to_str().unwrap()]).status.success());
    let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
    for command in COMMANDS {
        assert!(read(&format!("man/holdover-{command}.1")).contains(".SH SYNOPSIS"), "{command}");
    }
    assert!(read("man/holdover.1").contains("holdover\\-load(1)"));
    for completions in ["holdover.bash", "_holdover", "holdover.fish"] {
        let text = read(&format!("completions/{completions}"));
        assert!(text.contains("discard-dump") && text.contains("makedump"), "{completions}");
    }
}

#[test]
fn what_only_packages_call_is_in_no_page() {
    let folder = tempfile::tempdir().unwrap();
    assert!(holdover(&["generate", folder.path().to_str().unwrap()]).status.success());
    let page = fs::read_to_string(folder.path().join("man/holdover.1")).unwrap();
    assert!(!page.contains("generate"), "{page}");
    assert!(!folder.path().join("man/holdover-generate.1").exists());
}

#[test]
fn a_program_that_was_built_without_a_capture_kernel_says_so() {
    let version = holdover(&["--version"]);
    assert!(String::from_utf8(version.stdout).unwrap().contains("no capture kernel inside"));
}
