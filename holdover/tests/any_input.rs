//! Feeds every command with what it does not expect: none panics, each says what to do, and `--json` gives JSON.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Bytes of a file that is larger than any memory, and has none of them on the disk.
const HUGE: u64 = 1 << 42;

/// A folder with files that no command expects; `in` is the one that is meant.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    File::create(path("empty")).unwrap();
    fs::create_dir(path("directory")).unwrap();
    File::create(path("huge")).unwrap().set_len(HUGE).unwrap();
    let noise: Vec<u8> = (0..100_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(path("binary"), noise).unwrap();
    fs::write(path("text"), "holdover = [\n").unwrap();
    std::os::unix::fs::symlink("loop", path("loop")).unwrap();
    folder
}

const FILES: [&str; 7] = ["absent", "empty", "directory", "huge", "binary", "text", "loop"];

/// Command lines that take a file, which is `IN` here. None of them may change this machine whatever the file is.
const COMMANDS: &[&[&str]] = &[
    &["collect", "IN", "out"],
    &["collect", "--dmesg", "IN"],
    &["dmesg", "IN"],
    &["dmesg", "IN", "out"],
    &["makedump", "IN", "out"],
    &["makedump", "--elf", "-d", "1", "IN", "out"],
    &["inspect", "IN"],
    &["inspect", "--dmar", "IN"],
    &["inspect", "--ivrs", "IN"],
    &["inspect", "IN", "--device", "00:10.0"],
    &["inspect", "IN", "--address", "0x1000"],
    &["simulate", "IN"],
    &["simulate", "--svg", "directory", "IN"],
    &["remove", "IN"],
    &["config", "check", "IN"],
    &["config", "show", "IN"],
    &["load", "--image", "IN", "--area", "IN"],
];

/// Command lines that cannot be understood.
const NONSENSE: &[&[&str]] = &[
    &[],
    &["nonsense"],
    &["format"],
    &["format", "absent", "--size", "-1"],
    &["format", "absent", "--size", "99999999999999999999999G"],
    &["load", "--image", "x", "--area", "y", "--level", "32"],
    &["load", "--image", "x", "--area", "y", "--codec", "snappy"],
    &["load", "--image", "x", "--area", "y", "--disk", "nowhere"],
    &["makedump", "-d", "99", "x", "y"],
    &["inspect", "x", "--address", "zzz"],
    &["test", "--countdown", "-1"],
    &["test", "--result", "--yes"],
    &["collect", "--nonsense"],
    &["dmesg"],
];

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Checks what each run must keep, whatever came of it.
fn check(arguments: &[&str], output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    assert_eq!(output.status.signal(), None, "{arguments:?}: {stderr}");
    let status = output.status.code().unwrap();
    assert!((0..=3).contains(&status), "{arguments:?}: {status}");
    if status == 1 {
        let has_remedy = stderr.contains('`') || stderr.contains("--");
        assert!(has_remedy, "{arguments:?} says not what to do: {stderr}");
    }
}

fn check_json(arguments: &[&str], output: &Output) {
    check(arguments, output);
    let value: Result<Value, _> = serde_json::from_slice(&output.stdout);
    assert!(value.is_ok(), "{arguments:?}: no JSON: {output:?}");
    let value = value.unwrap();
    if matches!(output.status.code(), Some(1 | 2)) {
        let filled = |key: &str| value[key].as_str().is_some_and(|text| !text.is_empty());
        // A scenario that is wrong is told in the words of its reader alone.
        let is_whole =
            ["error", "remedy"].into_iter().all(filled) && (filled("code") || arguments[0] == "simulate");
        assert!(is_whole, "{arguments:?}: {value}");
    }
}

#[test]
fn no_command_panics_at_any_file_and_each_says_what_to_do() {
    let folder = folder();
    for command in COMMANDS {
        for file in FILES {
            let arguments: Vec<_> =
                command.iter().map(|word| if *word == "IN" { file } else { word }).collect();
            check(&arguments, &run(folder.path(), &arguments));
            let _ = fs::remove_file(folder.path().join("out"));
            let with_json = [&arguments[..], &["--json"]].concat();
            check_json(&with_json, &run(folder.path(), &with_json));
            let _ = fs::remove_file(folder.path().join("out"));
        }
    }
}

#[test]
fn nonsense_is_wrong_usage_also_as_json() {
    let folder = folder();
    for arguments in NONSENSE {
        let output = run(folder.path(), arguments);
        check(arguments, &output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let with_json = [arguments, &["--json"][..]].concat();
        check_json(&with_json, &run(folder.path(), &with_json));
    }
}

#[test]
fn a_name_that_is_no_text_is_a_name() {
    let folder = folder();
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe\x1b[31m");
    for command in ["collect", "dmesg", "inspect", "remove", "simulate"] {
        let mut holdover = Command::new(env!("CARGO_BIN_EXE_holdover"));
        holdover.current_dir(folder.path()).arg(command).arg(name);
        holdover.args((command == "collect").then_some("out"));
        let output = holdover.output().unwrap();
        let output_of = format!("{command} {output:?}");
        assert!(!output_of.contains("panicked") && output.status.code() == Some(1), "{output_of}");
    }
}

/// Whoever opens it would wait for somebody who writes to it.
#[test]
fn a_pipe_in_place_of_a_dump_or_an_area_is_refused_at_once() {
    let folder = folder();
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
    for command in COMMANDS.iter().filter(|command| {
        matches!(command[0], "collect" | "dmesg" | "makedump" | "inspect" | "remove")
            && !command.contains(&"--dmar")
            && !command.contains(&"--ivrs")
    }) {
        let words = command.iter().map(|word| if *word == "IN" { "pipe" } else { word });
        let mut holdover = Command::new("timeout");
        holdover.args(["60", env!("CARGO_BIN_EXE_holdover")]).args(words).current_dir(folder.path());
        let output = holdover.output().unwrap();
        check(command, &output);
        assert!(String::from_utf8_lossy(&output.stderr).contains("it is a pipe"), "{command:?}: {output:?}");
    }
}

/// The memory of a small host would not do for it.
#[test]
fn a_file_that_never_ends_is_no_configuration_image_or_certificate() {
    let folder = folder();
    let commands = [
        &["config", "check", "/dev/zero"][..],
        &["load", "--image", "/dev/zero", "--area", "absent"],
        &["sign", "--key", "text", "--cert", "/dev/zero"],
        &["simulate", "/dev/zero"],
    ];
    for arguments in commands {
        let output = run(folder.path(), arguments);
        check(arguments, &output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_pipe_that_nobody_reads_ends_a_command_quietly() {
    for arguments in [&["--help"][..], &["simulate"], &["doctor"], &["doctor", "--json"], &["config", "show"]]
    {
        let mut holdover = Command::new(env!("CARGO_BIN_EXE_holdover"));
        let mut child =
            holdover.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert!(!said.contains("panicked") && !said.contains("Broken pipe"), "{arguments:?}: {said}");
        assert!(matches!(status.code(), Some(0 | 3)), "{arguments:?}: {status}");
    }
}

/// Nobody can be told then, and the exit status still tells.
#[test]
fn standard_error_that_cannot_be_written_makes_no_command_panic() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for (arguments, status) in [(&["inspect", "absent"][..], 1), (&["nonsense"], 2), (&["test"], 1)] {
        let mut holdover = Command::new(env!("CARGO_BIN_EXE_holdover"));
        let ended = holdover.args(arguments).stderr(full()).stdin(Stdio::null()).status().unwrap();
        assert_eq!(ended.code(), Some(status), "{arguments:?}");
    }
}

#[test]
fn a_test_without_a_ready_host_or_a_terminal_crashes_nothing() {
    let folder = folder();
    // This machine has no capture kernel; where it had one, nobody could be asked.
    let output = run(folder.path(), &["test"]);
    check(&["test"], &output);
    assert_eq!(output.status.code(), Some(1));
}
