//! Compares docs/messages.md with the messages of the code: each has a section, and no section is of a message that is gone.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::collections::BTreeSet;

use host::crash_test::Verdict;
use host::doctor::Code;

const MESSAGES: &str = include_str!("../../docs/messages.md");
/// The errors that are explained: the enum, where it is, and what its headings begin with.
const ERRORS: [(&str, &str, &str); 4] = [
    ("LoadError", include_str!("../../crates/host/src/load.rs"), "load: "),
    ("Refused", include_str!("../../crates/host/src/kexec/refusal.rs"), "kernel: "),
    ("SignError", include_str!("../../crates/host/src/sign.rs"), "sign: "),
    ("TestError", include_str!("../../crates/host/src/crash_test/mod.rs"), "test: "),
];

/// The variants of an error, by the lines of its source: those that pass another error on have no words of their own.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let body = source.split_once(&format!("pub enum {name} {{")).unwrap().1.split_once("\n}").unwrap().0;
    let mut is_transparent = false;
    let mut variants = BTreeSet::new();
    for line in body.lines() {
        is_transparent |= line.trim() == "#[error(transparent)]";
        let word = line
            .strip_prefix("    ")
            .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
        let Some(word) = word else { continue };
        if !is_transparent {
            variants.insert(kebab(word.split(|letter: char| !letter.is_alphanumeric()).next().unwrap()));
        }
        is_transparent = false;
    }
    variants
}

fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

/// The headings of sections, and the words below each.
fn sections() -> Vec<(&'static str, String)> {
    let sections = MESSAGES.split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap());
    sections.map(|(heading, text)| (heading, text.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

#[test]
fn each_message_has_a_section_and_each_section_is_of_a_message() {
    let mut expected: BTreeSet<String> = Code::ALL.iter().map(|code| code.name().to_owned()).collect();
    for (name, source, prefix) in ERRORS {
        expected.extend(variants(source, name).into_iter().map(|variant| format!("{prefix}{variant}")));
    }
    expected.extend(Verdict::ALL.iter().map(|verdict| format!("result: {}", verdict.name())));
    let found: BTreeSet<String> = sections().into_iter().map(|(heading, _)| heading.to_owned()).collect();
    assert_eq!(sections().len(), found.len(), "a section is there twice");
    let (lacking, stale): (Vec<_>, Vec<_>) =
        (expected.difference(&found).collect(), found.difference(&expected).collect());
    assert!(lacking.is_empty(), "docs/messages.md has no section of {lacking:?}");
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
fn variants_are_read_from_the_source_without_those_that_pass_others_on() {
    let source = "pub enum E {\n    #[error(\"x\")]\n    OneThing {\n        A: u8,\n    },\n    #[error(transparent)]\n    \
                  Other(#[from] F),\n    #[error(\"y\")]\n    Last,\n}\n";
    assert_eq!(Vec::from_iter(variants(source, "E")), ["last", "one-thing"]);
}
