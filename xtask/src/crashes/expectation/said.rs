//! What must be said: by Holdover on its console and on the display, by the host's tools, and by the Linux that dies.

use anyhow::Result;

use super::{Expectation, console, report};
use crate::crashes::crash::{self, Evidence};
use crate::guests::tool::Tool;
use crate::machines::console::Line;
use crate::witnesses::{Problem, picture};

/// The beginning of the line in which `holdover load` says why it loads nothing.
const LOAD_REFUSES: &str = "load: holdover: ";

impl Expectation {
    /// Complains of each line that Holdover did not print.
    pub(super) fn unsaid(&self, lines: &[Line]) -> Vec<Problem> {
        let printed: Vec<_> = lines.iter().filter_map(Line::holdover).collect();
        let has_all = |line: &str, words: &[String]| words.iter().all(|word| line.contains(word));
        let unsaid = self.says.iter().filter(|words| !printed.iter().any(|line| has_all(line, words)));
        unsaid.map(|words| console(format!("Holdover did not say `{}`", words.join("` with `")))).collect()
    }

    /// Complains of each line that the crashing Linux did not print.
    pub(super) fn unsaid_by_guest(&self, lines: &[Line]) -> Vec<Problem> {
        let printed: Vec<_> = lines.iter().filter_map(Line::bench).collect();
        let unsaid =
            self.guest_says.iter().filter(|words| !printed.iter().any(|line| line.starts_with(*words)));
        unsaid.map(|words| console(format!("the crashing Linux did not say `{words}`"))).collect()
    }

    /// Complains of each of these words that are not among the last in the dead kernel's log.
    pub(super) fn unsaid_by_kernel(&self, evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
        if self.kernel_says.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.unsaid_in(&tool.log(&evidence.files.disk())?))
    }

    fn unsaid_in(&self, log: &str) -> Vec<Problem> {
        let last = log.find(crash::PANIC).map_or("", |panic| &log[panic..]);
        let unsaid = self.kernel_says.iter().filter(|words| !last.contains(*words));
        unsaid.map(|words| console(format!("the dying Linux did not say `{words}`"))).collect()
    }

    /// Complains of each picture that lacks words.
    pub(super) fn unshown(&self, evidence: &Evidence) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        for &(moment, words) in &self.shows {
            let text = picture::text(&evidence.files.picture(moment))?.join("\n");
            if !text.contains(words) {
                problems.push(console(format!("the display did not show `{words}` ({moment:?}):\n{text}")));
            }
        }
        Ok(problems)
    }

    /// Complains if `holdover load` did what the row's guest has it refuse, or the host's tools did not both refuse in these words.
    pub(super) fn unrefused(&self, lines: &[Line]) -> Vec<Problem> {
        let printed: Vec<_> = lines.iter().filter_map(Line::bench).collect();
        let loaded = printed.iter().filter(|line| line.contains(crash::NOT_REFUSED));
        let loaded = loaded.map(|_| console("`holdover load` did not refuse".to_owned()));
        loaded.chain(self.refusal.into_iter().flat_map(|words| unsaid_in_refusal(&printed, words))).collect()
    }

    /// Complains if watchdogs were pinged less often.
    pub(super) fn unpinged(&self, evidence: &Evidence) -> Result<Option<Problem>> {
        if self.pings == 0 {
            return Ok(None);
        }
        let pings = report(evidence)?.summary.map_or(0, |summary| summary.watchdog_pings);
        let what = format!("watchdogs were pinged {pings} times, {} are expected", self.pings);
        Ok((pings < self.pings).then_some(console(what)))
    }
}

/// Complains if `holdover doctor` or `holdover load` did not say these words.
fn unsaid_in_refusal(printed: &[&str], words: &str) -> Vec<Problem> {
    let complaints = printed.iter().copied().filter(|line| line.contains(words));
    let (by_load, by_doctor): (Vec<&str>, Vec<&str>) =
        complaints.partition(|line| line.starts_with(LOAD_REFUSES));
    let wrong = [
        (by_load, "`holdover load` did not say why it refuses"),
        (by_doctor, "`holdover doctor` did not complain"),
    ];
    let wrong = wrong.into_iter().filter(|(said, _)| said.is_empty());
    wrong.map(|(_, what)| console(format!("{what}: `{words}`"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crashes::damage::Damage;
    use crate::machines::scenario::device::Device;

    #[test]
    fn a_victim_and_what_became_of_it_must_be_told_in_one_line() {
        let expectation = Expectation::takeover().and_damage(Damage::TableInRegisters);
        let address = Device::SOUND.address();
        let unsaid = |lines: &[&str]| !expectation.unsaid(&Line::a_second_apart(lines)).is_empty();
        assert!(!unsaid(&[&format!("holdover: [0.1] fenced {address}")]));
        assert!(unsaid(&["holdover: [0.1] fenced 00:01.0", &format!("holdover: [0.1] blocked {address}")]));
        assert!(unsaid(&[&format!("bench: fenced {address}")]));
        assert!(unsaid(&[]));
    }

    #[test]
    fn what_the_dying_linux_says_comes_after_its_panic() {
        let unsaid = |log| Expectation::takeover().and_kernel_says("<NMI>").unsaid_in(log).len();
        assert_eq!(unsaid("Kernel panic - not syncing: NMI: Not continuing\n <NMI>\n"), 0);
        assert_eq!(unsaid(" <NMI>\nKernel panic - not syncing: sysrq triggered crash\n"), 1);
        assert_eq!(unsaid(""), 1);
    }

    #[test]
    fn both_doctor_and_load_must_refuse() {
        let refused = Expectation::no_dump().and_refused("AMD");
        let problems = |lines: &[&str]| refused.unrefused(&Line::a_second_apart(lines)).len();
        let (doctor, load) = ("bench: load: IOMMU  missing  ivhd0  AMD", "bench: load: holdover: AMD");
        assert_eq!(problems(&[doctor, load]), 0);
        assert_eq!(problems(&[doctor]), 1);
        assert_eq!(problems(&[load]), 1);
        assert_eq!(problems(&[doctor, load, &format!("bench: load: {}", crash::NOT_REFUSED)]), 1);
        assert_eq!(problems(&[]), 2);
    }

    #[test]
    fn a_load_that_a_guest_has_refused_must_be_refused_in_each_row() {
        let loads = Line::a_second_apart(&[&format!("bench: load: {}", crash::NOT_REFUSED)]);
        assert_eq!(Expectation::complete_dump().unrefused(&loads).len(), 1);
        assert!(Expectation::complete_dump().unrefused(&[]).is_empty());
    }
}
