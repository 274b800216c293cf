//! One row of the matrix: a crash, what it must show, and whether it did.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use handoff::Completeness;

use crate::crashes::crash::{Crash, Evidence};
use crate::crashes::damage::Damage;
use crate::guests::image::{Image, Variant};
use crate::guests::stock;
use crate::guests::tool::{Collected, Tool};
use crate::machines::console::{Echo, Line};
use crate::machines::qemu::Watch;
use crate::machines::scenario::device::Device;
use crate::machines::scenario::{Codec, Scenario};
use crate::witnesses::report::Report;
use crate::witnesses::{self, Examination, Problem, Witness};

/// What a crash must show.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expectation {
    /// A takeover and a complete dump to which no witness objects.
    Takeover,
    /// The same, with requests of the throttled disk answered after the swap. The machine is not stopped in this one: QEMU
    /// finishes all requests when it stops a machine.
    PendingRequests,
    /// The same, and dumps that `holdover makedump` makes of the same memory, to which no reader objects.
    MadeDumps,
    /// The same, and `holdover makedump` and makedumpfile keep the same pages of that memory at every level.
    EveryLevel,
    /// The same, with pages that are compressed in this way.
    Compressed(Codec),
    /// Dumps that a stock crash kernel makes of its `/proc/vmcore`, to which no reader objects.
    StockDumps,
    /// A takeover and a complete dump, with this damage: the victim is named in the report, and faults where nobody else does.
    Damaged(Damage),
    /// An objection of this witness in these words: it must notice what was done wrong on purpose.
    Caught(Witness, &'static str),
    /// A complete dump without a takeover, and this line that says why.
    PlainDump(&'static str),
    /// A dump that is sealed as partial.
    PartialDump,
    /// The same, which the readers open nevertheless: log, backtrace, and every task with its stack.
    ReadablePartialDump,
    /// A dump that was cut off before it was sealed, which the readers open just so.
    ReadableCutOffDump,
    /// No dump, this line that says why, and a disk that nobody wrote to.
    NoDump(&'static str),
}

/// One crash of the matrix.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What a person calls it; also the folder that keeps its files.
    pub(crate) name: String,
    /// What happens.
    pub(crate) scenario: Scenario,
    /// What it must show.
    pub(crate) expectation: Expectation,
}

/// What was built before any row can run.
pub(crate) struct Built {
    /// The host's command line.
    pub(crate) tool: Tool,
    /// The capture kernels that the rows ask for.
    pub(crate) images: BTreeMap<Variant, Image>,
}

impl Row {
    /// A row that asks for a takeover to which nobody objects.
    pub(crate) fn takeover(name: &str, scenario: Scenario) -> Self {
        Self { name: name.to_owned(), scenario, expectation: Expectation::Takeover }
    }

    /// Lets it crash and returns what is wrong; fails if it did not come to its end.
    pub(crate) fn problems(&self, built: &Built) -> Result<Vec<Problem>> {
        let image = built.images.get(&self.image()).context("the capture kernel was not built")?;
        let (scenario, watch) = (&self.scenario, self.watch());
        let crash = Crash { scenario, image: &image.path, tool: &built.tool, watch, echo: Echo::Hidden };
        let evidence = crash.run(&self.name)?;
        match self.expectation {
            Expectation::Takeover => Ok(witnesses::examine(&evidence, &built.tool)?.problems),
            Expectation::PendingRequests => pending(&evidence, &built.tool),
            Expectation::MadeDumps => made_dumps(&evidence, &built.tool),
            Expectation::EveryLevel => every_level(&evidence, &built.tool),
            Expectation::Compressed(codec) => compressed(codec, &evidence, &built.tool),
            Expectation::StockDumps => stock_dumps(&evidence),
            Expectation::Damaged(damage) => damaged(damage, &evidence, &built.tool),
            Expectation::Caught(witness, objection) => {
                Ok(uncaught(witness, objection, &witnesses::examine(&evidence, &built.tool)?.problems))
            }
            Expectation::PlainDump(reason) => plain_dump(&evidence, &built.tool, reason),
            Expectation::PartialDump => partial_dump(&evidence, &built.tool),
            Expectation::ReadablePartialDump => readable_partial_dump(&evidence, &built.tool),
            Expectation::ReadableCutOffDump => readable_cut_off_dump(&evidence, &built.tool),
            Expectation::NoDump(reason) => no_dump(&evidence, reason),
        }
    }

    /// The capture kernel that it needs: only one can be told to do wrong.
    pub(crate) fn image(&self) -> Variant {
        if self.scenario.mutation.is_some() { Variant::Mutations } else { Variant::Release }
    }

    fn watch(&self) -> Watch {
        match self.expectation {
            Expectation::Takeover
            | Expectation::MadeDumps
            | Expectation::EveryLevel
            | Expectation::Compressed(_)
            | Expectation::StockDumps
            | Expectation::Damaged(_)
            | Expectation::Caught(..) => Watch::Memory,
            Expectation::PendingRequests => Watch::Trace,
            Expectation::PlainDump(_)
            | Expectation::PartialDump
            | Expectation::ReadablePartialDump
            | Expectation::ReadableCutOffDump
            | Expectation::NoDump(_) => Watch::Console,
        }
    }
}

fn pending(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let Examination { findings, mut problems, .. } = witnesses::examine(evidence, tool)?;
    if !findings.traced.active_after_swap.contains_key(Device::SLOW_DISK.name) {
        let what = "the throttled disk answered no request after the swap".to_owned();
        problems.push(Problem { witness: Witness::Trace, what });
    }
    Ok(problems)
}

fn unread(what: String) -> Problem {
    Problem { witness: Witness::Readers, what }
}

fn made_dumps(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let Examination { mut problems, .. } = witnesses::examine(evidence, tool)?;
    problems.extend(witnesses::read_made(evidence, tool)?.problems.into_iter().map(unread));
    Ok(problems)
}

fn every_level(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let Examination { mut problems, .. } = witnesses::examine(evidence, tool)?;
    problems.extend(witnesses::compare_every_level(evidence, tool)?.problems.into_iter().map(unread));
    Ok(problems)
}

fn compressed(codec: Codec, evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let Examination { mut problems, .. } = witnesses::examine(evidence, tool)?;
    let named = witnesses::codec_of(&evidence.files.dump())?;
    if named != Some(codec) {
        problems.push(unread(format!("the dump's header names {named:?} as its codec")));
    }
    Ok(problems)
}

/// What the crash kernel's init and the readers complain of.
fn stock_dumps(evidence: &Evidence) -> Result<Vec<Problem>> {
    let mut said = evidence.lines.iter().filter_map(Line::bench);
    if !evidence.lines.iter().any(|line| line.text.contains(stock::COMPLETE)) {
        let complaint =
            said.rfind(|said| said.starts_with("no dump")).unwrap_or("the crash kernel made no dump");
        return Ok(vec![Problem { witness: Witness::Console, what: complaint.to_owned() }]);
    }
    Ok(witnesses::read_stock(evidence)?.problems.into_iter().map(unread).collect())
}

/// That the victim is told of, and was at work: else its silence would show nothing.
fn damaged(damage: Damage, evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let Examination { findings, mut problems, .. } = witnesses::examine(evidence, tool)?;
    let traced = &findings.traced;
    let at_work = traced.faults_of_victim + traced.translations_of_victim > 0;
    // The dump's disk rests until Holdover uses it.
    if !at_work && damage.victim() != Device::DUMP_DISK {
        let what = "the damaged tables were never used".to_owned();
        problems.push(Problem { witness: Witness::Trace, what });
    }
    if let Some(outcome) = damage.outcome() {
        problems.extend(reported(&evidence.lines, damage.victim(), outcome));
    }
    Ok(problems)
}

/// Complains if no line of Holdover has both the device and what became of it.
fn reported(lines: &[Line], device: Device, outcome: &str) -> Option<Problem> {
    let address = format!(" {}", device.address());
    let mut spoken = lines.iter().filter_map(Line::holdover);
    let told = spoken.any(|said| said.contains(outcome) && said.contains(&address));
    let what = format!("Holdover does not say that{address} was {outcome}");
    (!told).then_some(Problem { witness: Witness::Console, what })
}

/// Turns it round: what a mutation must show is an objection.
fn uncaught(witness: Witness, objection: &str, problems: &[Problem]) -> Vec<Problem> {
    if problems.iter().any(|problem| problem.witness == witness && problem.what.contains(objection)) {
        return Vec::new();
    }
    let what = format!("did not notice the mistake; objections of others: {}", problems.len());
    vec![Problem { witness, what }]
}

fn plain_dump(evidence: &Evidence, tool: &Tool, reason: &str) -> Result<Vec<Problem>> {
    let unsealed = witnesses::check_seal(&report(evidence)?, Completeness::Complete);
    tool.collect(&evidence.files.disk(), &evidence.files.dump())?;
    Ok(unsealed.into_iter().chain(said(&evidence.lines, reason)).chain(unreadable(evidence)?).collect())
}

/// What readers of the collected dump complain of.
fn unreadable(evidence: &Evidence) -> Result<impl Iterator<Item = Problem>> {
    Ok(witnesses::read(evidence)?.problems.into_iter().map(unread))
}

fn partial_dump(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let unsealed = witnesses::check_seal(&report(evidence)?, Completeness::Partial);
    Ok(unsealed.into_iter().chain(collected_whole(evidence, tool)?).collect())
}

/// Collects the dump, and complains if nothing is said to be missing.
fn collected_whole(evidence: &Evidence, tool: &Tool) -> Result<Option<Problem>> {
    let collected = tool.collect(&evidence.files.disk(), &evidence.files.dump())?;
    let what = "`holdover collect` does not say that something is missing".to_owned();
    Ok((collected == Collected::Whole).then_some(Problem { witness: Witness::Console, what }))
}

fn readable_partial_dump(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let mut problems = partial_dump(evidence, tool)?;
    problems.extend(unreadable(evidence)?);
    Ok(problems)
}

fn readable_cut_off_dump(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let late = report(evidence)?.sealed.map(|_| "the dump was sealed before the power went".to_owned());
    let late = late.map(|what| Problem { witness: Witness::Console, what });
    let whole = collected_whole(evidence, tool)?;
    Ok(late.into_iter().chain(whole).chain(unreadable(evidence)?).collect())
}

fn no_dump(evidence: &Evidence, reason: &str) -> Result<Vec<Problem>> {
    let written = !evidence.files.disk_is_untouched()?;
    let what = "a disk was written to that Holdover was not given".to_owned();
    let written = written.then_some(Problem { witness: Witness::Memory, what });
    Ok(said(&evidence.lines, reason).into_iter().chain(written).collect())
}

/// Complains if Holdover did not say `reason`.
fn said(lines: &[Line], reason: &str) -> Option<Problem> {
    let mut spoken = lines.iter().filter_map(Line::holdover);
    let what = format!("Holdover did not say `{reason}`");
    (!spoken.any(|said| said.contains(reason))).then_some(Problem { witness: Witness::Console, what })
}

fn report(evidence: &Evidence) -> Result<Report> {
    Report::of(&evidence.lines).context("the console shows no crash")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_that_only_another_witness_noticed_is_not_caught() {
        let noticed = |witness| [Problem { witness, what: "a byte is wrong".to_owned() }];
        assert!(uncaught(Witness::Memory, "byte", &noticed(Witness::Memory)).is_empty());
        assert!(!uncaught(Witness::Memory, "byte", &noticed(Witness::Trace)).is_empty());
        assert!(!uncaught(Witness::Memory, "table", &noticed(Witness::Memory)).is_empty());
        assert!(!uncaught(Witness::Memory, "byte", &[]).is_empty());
    }
}
