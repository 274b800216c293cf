//! `holdover doctor`: shows whether this host is ready for a crash, and what to do where it is not.

use anyhow::Result;
use host::doctor::{Diagnosis, Finding, State};
use serde_json::{Value, json};

use crate::report::{Report, table};

impl Report for Diagnosis {
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |finding: &Finding| {
            let state = match finding.state {
                State::Ok => "OK",
                State::Warning => "warning",
                State::Missing => "missing",
                State::Unknown => "unknown",
            };
            vec![finding.what.name().to_owned(), state.to_owned(), finding.found.clone()]
        };
        self.findings.iter().map(row).collect()
    }

    /// A line for each finding; below each problem, why it matters, what to do, and the name under which it is explained.
    fn text(&self) -> String {
        let lines = table(&self.rows());
        let explained = lines.lines().zip(&self.findings).map(|(line, finding)| match finding.code {
            None => format!("{line}\n"),
            Some(code) => {
                let Finding { why, remedy, .. } = finding;
                format!("{line}\n    why: {why}\n    do:  {remedy}  [{}]\n", code.name())
            }
        });
        explained.collect()
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({ "ready": self.is_ready(), "findings": self.findings }))
    }

    fn is_whole(&self) -> bool {
        self.is_ready()
    }
}
