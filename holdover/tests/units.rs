//! The units of systemd's and the rules of udev's that the package installs.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of `packaging`.
fn packaged(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(folder)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// `systemd-analyze` wants each program to be there; where it is not itself, other tests still look at the commands.
#[test]
fn systemd_understands_every_line_of_every_unit() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = format!("{}/holdover", folder.path().display());
    fs::copy("/bin/true", &stand_in).unwrap();
    let copy = |unit: &PathBuf| {
        let copy = folder.path().join(unit.file_name().unwrap());
        fs::write(&copy, text(unit).replace("/usr/bin/holdover", &stand_in)).unwrap();
        copy
    };
    let units: Vec<_> = files(&packaged("systemd")).iter().map(copy).collect();
    let Ok(verified) = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output()
    else {
        eprintln!("no systemd-analyze: the units were not verified");
        return;
    };
    let complaints = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !complaints.contains("/holdover-"), "{complaints}");
    assert!(!complaints.contains("/holdover.service"), "{complaints}");
}

/// A command line that the program does not understand would fail at each boot.
#[test]
fn each_command_of_a_unit_is_one_of_the_program() {
    let mut commands = 0;
    for unit in files(&packaged("systemd")) {
        for line in text(&unit).lines().filter(|line| line.starts_with("Exec")) {
            let (_, command) = line.split_once('=').unwrap();
            let Some(arguments) = command.strip_prefix("/usr/bin/holdover ") else { continue };
            let mut program = Command::new(env!("CARGO_BIN_EXE_holdover"));
            let shown = program.args(arguments.split(' ')).arg("--help").output().unwrap();
            assert!(shown.status.success(), "{}: {line}", unit.display());
            commands += 1;
        }
    }
    assert_eq!(commands, 6, "load, load again, unload, collect, retry actions, verify");
}

/// A disk that comes late leaves a machine that nothing protects, unless it is tried again.
#[test]
fn what_needs_a_disk_is_tried_again_a_number_of_times() {
    for unit in ["holdover.service", "holdover-collect.service"] {
        let text = text(&packaged("systemd").join(unit));
        for line in ["Restart=on-failure", "RestartSec=", "StartLimitBurst=", "StartLimitIntervalSec="] {
            assert!(text.lines().any(|other| other.starts_with(line)), "{unit} has no {line}");
        }
    }
}

/// `holdover.service` comes after the collection has started. A oneshot has started once it has ended, however long that takes.
#[test]
fn a_collection_holds_the_loading_up_for_minutes_and_is_not_cut_off() {
    let text = text(&packaged("systemd/holdover-collect.service"));
    let has = |line: &str| text.lines().any(|other| other == line);
    assert!(has("Before=holdover.service") && has("Type=exec"), "{text}");
    assert!(has("ExecStartPost=-/usr/bin/timeout 2m /usr/bin/tail --pid=${MAINPID} -f /dev/null"), "{text}");
    assert!(!text.contains("RuntimeMaxSec") && !text.contains("TimeoutSec="), "{text}");
    assert!(has("RequiresMountsFor=/var/crash /var/lib/holdover"), "{text}");
}

/// The names of units stand in several files.
#[test]
fn what_a_rule_or_a_unit_names_is_packaged() {
    let units = files(&packaged("systemd"));
    let is_packaged = |name: &str| units.iter().any(|unit| unit.file_name().unwrap() == name);
    let texts = units.iter().chain(&files(&packaged("udev"))).map(|path| text(path)).collect::<String>();
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '/');
    let words = texts.split(|character| !is_part(character)).map(|word| word.trim_end_matches('.'));
    let is_unit = |word: &&str| word.starts_with("holdover") && !word.contains('/') && word.contains('.');
    let has_kind = |word: &&str| matches!(word.rsplit_once('.'), Some((_, "service" | "timer")));
    let units: Vec<_> = words.filter(is_unit).filter(has_kind).collect();
    assert!(units.len() >= 8, "{units:?}");
    for unit in units {
        assert!(is_packaged(unit), "{unit}");
    }
}

/// In an early boot all processors are announced: a process for each would hold the boot up.
#[test]
fn udev_starts_nothing_before_holdover_has_loaded() {
    let rules = text(&packaged("udev/98-holdover.rules"));
    let first = rules.lines().find(|line| !line.is_empty() && !line.starts_with('#')).unwrap();
    assert_eq!(first, "TEST!=\"/run/holdover/loaded.json\", GOTO=\"holdover_end\"");
    assert_eq!(rules.matches("RUN").count(), 1);
    assert!(rules.ends_with("LABEL=\"holdover_end\"\n"));
}
