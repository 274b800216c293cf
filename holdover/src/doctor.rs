//! `holdover doctor`: shows whether this host is ready for a crash, and what to do where it is not.

use anyhow::Result;
use host::doctor::{Check, CheckState, Diagnosis};
use serde_json::{Value, json};

use crate::report::Report;

impl Report for Diagnosis {
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |check: &Check| {
            let state = match check.state {
                CheckState::Ok => "OK",
                CheckState::Missing => "missing",
                CheckState::Unknown => "unknown",
            };
            vec![check.what.to_owned(), state.to_owned(), check.found.clone(), check.remedy.clone()]
        };
        self.checks.iter().map(row).collect()
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({ "ready": self.is_ready(), "checks": self.checks }))
    }

    fn is_whole(&self) -> bool {
        self.is_ready()
    }
}
