//! `holdover status`: shows in few lines whether the next panic will be dumped.

use anyhow::Result;
use host::status::{Line, Status};
use serde_json::{Value, json};

use crate::report::Report;

impl Report for Status {
    fn rows(&self) -> Vec<Vec<String>> {
        let verdict = if self.is_ready() { "ready: a panic will be dumped" } else { "not ready" };
        let told = |line: &Line| match line.remedy.as_str() {
            "" => line.found.clone(),
            remedy => format!("{}; {remedy}", line.found),
        };
        let lines = self.lines.iter().map(|line| vec![format!("  {}", line.what), told(line)]);
        [vec!["Holdover".to_owned(), verdict.to_owned()]].into_iter().chain(lines).collect()
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({ "ready": self.is_ready(), "slot": self.slot, "lines": self.lines }))
    }

    fn is_whole(&self) -> bool {
        self.is_ready()
    }
}
