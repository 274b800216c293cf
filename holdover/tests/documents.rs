//! What the documents have people type must be commands of the program, and what they link to must be there.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// README, and all that is in `docs`.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
    documents.chain([root.join("README.md")]).map(read).collect()
}

/// The command lines of a document: lines behind a prompt in blocks, and what stands between backticks in the text.
fn command_lines(text: &str) -> Vec<String> {
    let parts: Vec<_> = text.split("```").collect();
    let blocks = parts.iter().skip(1).step_by(2).flat_map(|block| block.lines());
    let typed = blocks.filter_map(|line| line.strip_prefix("# ").or_else(|| line.strip_prefix("$ ")));
    let prose: Vec<_> = parts.iter().step_by(2).map(|prose| prose.replace('\n', " ")).collect();
    let quoted = prose.iter().flat_map(|prose| prose.split('`').skip(1).step_by(2));
    let all = typed.chain(quoted).map(|line| line.strip_prefix("sudo ").unwrap_or(line).trim());
    all.filter(|line| line.starts_with("holdover ")).map(str::to_owned).collect()
}

/// The arguments of a command line, up to a comment or to another command.
fn arguments(line: &str) -> Vec<&str> {
    let words = line.split_whitespace().skip(1);
    words.take_while(|word| !matches!(*word, "#" | "|" | "&&" | ">" | "\\|")).collect()
}

/// Whether the program knows the command and its options. It is never run: the help is asked for.
fn is_known(arguments: &[&str]) -> bool {
    let mut program = Command::new(env!("CARGO_BIN_EXE_holdover"));
    program.args(arguments).arg("--help").output().unwrap().status.success()
}

#[test]
fn each_command_line_in_a_document_is_one_of_the_program() {
    let mut lines = 0;
    for (path, text) in documents() {
        for line in command_lines(&text) {
            let arguments = arguments(&line);
            // Such as `holdover …` and `holdover COMMAND --help`.
            if arguments[0].chars().any(|letter| !letter.is_ascii_lowercase()) {
                continue;
            }
            assert!(is_known(&arguments), "{}: {line}", path.display());
            lines += 1;
        }
    }
    assert!(lines > 60, "{lines}");
}

#[test]
fn a_command_line_that_is_none_would_be_noticed() {
    let text = "Run `holdover\nload --area A`.\n```console\n# holdover lode | less\n$ sudo holdover test --ys\nholdover: said\n```\n";
    let lines = command_lines(text);
    assert_eq!(lines, ["holdover lode | less", "holdover test --ys", "holdover load --area A"]);
    let known: Vec<_> = lines.iter().map(|line| is_known(&arguments(line))).collect();
    assert_eq!(known, [false, false, true]);
}

#[test]
fn each_link_in_a_document_leads_to_a_file() {
    for (path, text) in documents() {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://")) {
            let (file, _) = link.split_once('#').unwrap_or((link, ""));
            let target = path.parent().unwrap().join(file);
            assert!(file.is_empty() || target.exists(), "{}: {link}", path.display());
        }
    }
}
