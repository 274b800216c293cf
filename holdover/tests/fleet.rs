//! Checks that the dashboard, the alerts and the list of metrics for fleets name metrics that there are, and Ansible's role commands, keys
//! and units. (The row `debian-cycle-ansible` has Ansible play it.)

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const METRICS: &str = include_str!("../../crates/host/src/collect/actions/metrics.rs");
const DASHBOARD: &str = include_str!("../../docs/fleet/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../docs/fleet/prometheus-alerts.yml");
const LIST: &str = include_str!("../../docs/fleet/README.md");

const TASKS: &str = include_str!("../../docs/fleet/ansible/roles/holdover/tasks/main.yml");
const HANDLERS: &str = include_str!("../../docs/fleet/ansible/roles/holdover/handlers/main.yml");
const DEFAULTS: &str = include_str!("../../docs/fleet/ansible/roles/holdover/defaults/main.yml");
const TEMPLATE: &str = include_str!("../../docs/fleet/ansible/roles/holdover/templates/holdover.toml.j2");

/// The names of metrics in a text, without what all begin with.
fn named(text: &str) -> BTreeSet<&str> {
    let end = |rest: &str| rest.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
    text.split("holdover_").skip(1).map(|rest| &rest[..end(rest).unwrap_or(rest.len())]).collect()
}

#[test]
fn dashboard_and_alerts_name_metrics_that_there_are_and_the_list_has_all() {
    let _: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    for text in [DASHBOARD, ALERTS, LIST] {
        for name in named(text) {
            assert!(METRICS.contains(&format!("\"{name}\"")), "there is no metric holdover_{name}");
        }
    }
    let quoted = METRICS
        .lines()
        .filter_map(|line| line.trim().trim_start_matches('(').strip_prefix('"')?.split('"').next());
    let is_name = |text: &&str| {
        text.contains('_') && text.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
    };
    let missing: Vec<_> = quoted.filter(is_name).filter(|name| !named(LIST).contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(named(LIST).len() >= 9);
}

/// A text in which each `{{ name }}` has its default, as the role has them; lines with `{% %}` are left out, so that every key is there.
fn rendered(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("{%"));
    let mut text = lines.collect::<Vec<_>>().join("\n");
    while let Some((before, rest)) = text.split_once("{{ ") {
        let (name, after) = rest.split_once(" }}").unwrap();
        let name = name.trim_end_matches(" | to_json");
        let value = DEFAULTS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = value.expect(name).trim_matches('"');
        text = format!("{before}{value}{after}");
    }
    text
}

/// The command lines of `holdover` in the tasks: as lists of words, and as text.
fn commands() -> Vec<Vec<String>> {
    let commands = TASKS.lines().filter_map(|line| {
        let line = line.trim();
        let command = line.strip_prefix("argv: [").or_else(|| line.strip_prefix("validate: "))?;
        let command = rendered(command.trim_end_matches(']'));
        let words = command.split([',', ' ']).filter(|word| !word.is_empty());
        Some(words.map(|word| word.trim_matches('"').to_owned()).collect())
    });
    commands.collect()
}

#[test]
fn the_roles_commands_are_the_programs() {
    let commands = commands();
    assert!(commands.len() >= 2 && commands.iter().all(|words| words[0] == "holdover"), "{commands:?}");
    for words in commands {
        let mut program = Command::new(env!("CARGO_BIN_EXE_holdover"));
        let known = program.args(&words[1..]).arg("--help").output().unwrap();
        assert!(known.status.success(), "{words:?}: {}", String::from_utf8_lossy(&known.stderr));
    }
}

#[test]
fn the_roles_configuration_is_understood() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let check = |text: &str| {
        fs::write(file.path(), text).unwrap();
        Command::new(env!("CARGO_BIN_EXE_holdover"))
            .args(["config", "check"])
            .arg(file.path())
            .output()
            .unwrap()
    };
    // What is not given is left out of the file, and so is not empty.
    let text = rendered(TEMPLATE).replace("endpoint = \"\"", "endpoint = \"https://objects.example.org\"");
    let checked = check(&text);
    assert!(checked.status.success(), "{text}\n{}", String::from_utf8_lossy(&checked.stderr));
    assert!(!check(&text.replace("keep =", "keeps =")).status.success(), "a key that there is not");
}

#[test]
fn the_roles_units_are_in_the_package() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let named = [TASKS, HANDLERS].concat();
    let named: BTreeSet<_> = named
        .split(|letter: char| letter.is_whitespace() || letter == '"')
        .filter(|word| [".service", ".timer", ".path"].iter().any(|kind| word.ends_with(kind)))
        .collect();
    assert!(!named.is_empty());
    for unit in named {
        assert!(units.join(unit).is_file(), "{unit}");
    }
}
