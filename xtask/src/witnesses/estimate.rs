//! What `holdover doctor` estimated of a dump before the panic, against the dump.

use anyhow::{Context, Result};

use crate::crashes::crash::Evidence;
use crate::guests::tool::Tool;
use crate::machines::console::Line;
use crate::witnesses::Readings;
use crate::witnesses::report::Report;

/// The words between which the estimate has its number of pages.
const BEFORE: &str = "now has ";
const AFTER: &str = " pages (by a count of all pages)";
/// Per mille of the dump's pages by which the estimate may be wrong: between it and the panic the machine goes on.
const TOLERANCE: u64 = 30;

/// Compares them.
pub(crate) fn compare_estimate(evidence: &Evidence, _: &Tool) -> Result<Readings> {
    let printed = evidence.lines.iter().filter_map(Line::bench);
    let estimated = printed.filter_map(pages).next_back();
    let estimated = estimated.context("`holdover doctor` estimated no dump by a count of pages")?;
    let summary = Report::of(&evidence.lines)?.summary.context("the console has no summary")?;
    let problem = disagreement(estimated, summary.pages_kept);
    Ok(Readings { problems: problem.into_iter().collect(), ..Readings::default() })
}

/// The number of pages in a line of `doctor`'s.
fn pages(line: &str) -> Option<u64> {
    line.split_once(BEFORE)?.1.split_once(AFTER)?.0.parse().ok()
}

/// Complains of an estimate that is too far from the dump.
fn disagreement(estimated: u64, kept: u64) -> Option<String> {
    let per_mille = estimated.abs_diff(kept).saturating_mul(1000) / kept.max(1);
    (per_mille > TOLERANCE).then(|| {
        format!(
            "`holdover doctor` estimated {estimated} pages, the dump has {kept}: {per_mille} per mille apart"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_found_in_its_line_and_compared() {
        let line = "load: room for a dump  OK  a dump of level 31 now has 31154 pages (by a count of all pages), 30 MiB";
        assert_eq!(pages(line), Some(31154));
        assert_eq!(
            pages("load: a dump of level 31 now has 31154 pages (by the kernel's counters, roughly)"),
            None
        );
        assert_eq!(disagreement(1030, 1000), None);
        assert!(disagreement(1031, 1000).is_some() && disagreement(960, 1000).is_some());
    }
}
