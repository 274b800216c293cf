//! What the last crash on request showed, and whether the machine is still what it was.

use super::finding::{Code, Finding, Subject};
use crate::crash_test::{History, Test, TestError};

/// What to do to know more.
const TEST: &str =
    "`holdover test` crashes this machine on request, and tells after the boot whether the dump came";

/// Looks at what is noted.
pub(super) fn check(history: Result<History, TestError>) -> Finding {
    match history {
        Ok(history) => judge(&history),
        Err(error) => Finding::warning(Code::NeverTested, error.to_string(), TEST),
    }
}

fn judge(history: &History) -> Finding {
    let Some(last) = &history.last else {
        return Finding::warning(Code::NeverTested, "none was made", TEST);
    };
    let Some(outcome) = &last.outcome else {
        let remedy = "`holdover test --result` looks for its dump";
        return Finding::warning(
            Code::TestFailed,
            "one was asked for, and nobody looked what came of it",
            remedy,
        );
    };
    if !last.has_passed() {
        let remedy = "mend what is told, then `holdover test` again";
        return Finding::warning(Code::TestFailed, outcome.verdict.told(), remedy);
    }
    if history.changes.is_empty() {
        return Finding::ok(Subject::Test, passed(last));
    }
    let found = format!("{}; since then: {}", passed(last), history.changes.join("; "));
    Finding::warning(Code::TestStale, found, TEST)
}

fn passed(test: &Test) -> String {
    let back = test.outcome.as_ref().and_then(|outcome| outcome.back_after);
    let back = back.map(|seconds| format!(", and the next kernel started {seconds} s after the request"));
    format!("passed: the complete dump came{}", back.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_host_that_was_never_tested_gets_a_warning() {
        let finding = check(Ok(History::default()));
        assert_eq!((finding.state, finding.code), (State::Warning, Some(Code::NeverTested)));
        assert!(finding.remedy.contains("holdover test"));
    }
}
