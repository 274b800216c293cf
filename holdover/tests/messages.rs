//! Compares docs/messages.md with the messages of the code: each has a section or a row of a table, and none is of a message that is gone.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::collections::BTreeSet;

use host::codes;
use host::crash_test::Verdict;
use host::doctor::Code;

const MESSAGES: &str = include_str!("../../docs/messages.md");
/// The headings of sections, and the words below each.
fn sections() -> Vec<(&'static str, String)> {
    let sections = MESSAGES.split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap());
    sections.map(|(heading, text)| (heading, text.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

/// The rows of tables that explain a code: `` | `code` | what it means | what to do | ``.
fn rows() -> Vec<[&'static str; 3]> {
    let row = |line: &'static str| {
        let cells = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ").collect::<Vec<_>>();
        let [code, means, todo] = cells.try_into().ok()?;
        Some([str::strip_suffix(code, "`")?, means, todo])
    };
    MESSAGES.lines().filter_map(row).collect()
}

#[test]
fn each_message_is_explained_once_and_each_explanation_is_of_a_message() {
    let mut expected: BTreeSet<String> = Code::ALL.iter().map(|code| code.name().to_owned()).collect();
    expected.extend(codes::all());
    expected.extend(Verdict::ALL.iter().map(|verdict| format!("result: {}", verdict.name())));
    let headings = sections().into_iter().map(|(heading, _)| heading);
    let explained: Vec<&str> = headings.chain(rows().into_iter().map(|[code, ..]| code)).collect();
    let found: BTreeSet<String> = explained.iter().map(|&code| code.to_owned()).collect();
    assert_eq!(explained.len(), found.len(), "a message is explained twice");
    let (lacking, stale): (Vec<_>, Vec<_>) =
        (expected.difference(&found).collect(), found.difference(&expected).collect());
    assert!(lacking.is_empty(), "docs/messages.md does not explain {lacking:#?}");
    assert!(stale.is_empty(), "docs/messages.md explains what no code says: {stale:?}");
}

#[test]
fn each_section_of_a_finding_says_why_it_matters_and_what_to_do() {
    for code in Code::ALL {
        let text = sections().into_iter().find(|(heading, _)| *heading == code.name()).unwrap().1;
        let rest = text.strip_prefix(code.why());
        assert!(rest.is_some_and(|rest| rest.len() > 10), "{}: {text}", code.name());
    }
}

#[test]
fn each_row_says_what_a_message_means_and_what_to_do() {
    assert!(rows().len() > 100, "{} rows", rows().len());
    for [code, means, todo] in rows() {
        assert!(means.len() > 15 && todo.len() > 10, "{code}: {means} | {todo}");
    }
}
