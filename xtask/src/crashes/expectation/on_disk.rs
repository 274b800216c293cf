//! What is on the dump's disk in the end.

use anyhow::{Context, Result, ensure};
use handoff::Completeness;

use super::{Expectation, console, report, unread};
use crate::crashes::crash::Evidence;
use crate::guests::stock;
use crate::guests::tool::{Collected, Tool};
use crate::machines::console::Line;
use crate::witnesses::report::Report;
use crate::witnesses::{self, Examination, Findings, Problem, Witness};

/// What is on the dump's disk in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDisk {
    /// A complete dump after a takeover, to which no witness objects.
    AfterTakeover,
    /// A dump that is sealed like this.
    Sealed(Completeness),
    /// A dump that was cut off before it was sealed.
    CutOff,
    /// The dead kernel's log; what there is of the dump does not matter.
    Log,
    /// Files that a stock crash kernel has made of its `/proc/vmcore`.
    StockDumps,
    /// The disk's former content.
    Untouched,
    /// A file system and files that are whole; the area is none of them.
    OthersFiles,
}

impl OnDisk {
    /// Collects what is there, and returns what the witnesses of a takeover found, and what is wrong.
    pub(super) fn check(self, evidence: &Evidence, tool: &Tool) -> Result<(Option<Findings>, Vec<Problem>)> {
        let problems = match self {
            Self::AfterTakeover => {
                let Examination { findings, problems, .. } = witnesses::examine(evidence, tool)?;
                return Ok((Some(findings), problems));
            }
            Self::Sealed(wanted) => sealed(wanted, evidence, tool)?,
            Self::CutOff => cut_off(evidence, tool)?,
            Self::Log => log(evidence, tool)?,
            Self::StockDumps => made_by_stock(evidence).map(|()| Vec::new())?,
            Self::Untouched => written(evidence)?.into_iter().collect(),
            Self::OthersFiles => others_files(evidence)?.into_iter().collect(),
        };
        Ok((None, problems))
    }
}

/// Complains of another seal than this; of a partial dump, also if `holdover collect` does not tell that it is one.
fn sealed(wanted: Completeness, evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let unsealed = witnesses::check_seal(&report(evidence)?, wanted);
    let whole = collected_whole(evidence, tool)?.filter(|_| wanted == Completeness::Partial);
    Ok(unsealed.into_iter().chain(whole).collect())
}

fn cut_off(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let sealed = report(evidence)?.sealed;
    let late = sealed.map(|_| console("the dump was sealed before the machine ended".to_owned()));
    Ok(late.into_iter().chain(collected_whole(evidence, tool)?).collect())
}

/// Complains of a log that lacks what the dead kernel said on its console, and of a dump that came to its end: then the row
/// would show nothing.
fn log(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let sealed = report(evidence)?.sealed.filter(|sealed| sealed.completeness == Completeness::Complete);
    let whole = sealed.map(|_| console("the dump was complete before the machine ended".to_owned()));
    Ok(witnesses::compare_with_console(evidence, tool)?.into_iter().chain(whole).collect())
}

/// Collects the dump, and complains if `holdover collect` does not report that something is missing.
fn collected_whole(evidence: &Evidence, tool: &Tool) -> Result<Option<Problem>> {
    let (files, dump) = (&evidence.files, evidence.files.dump());
    let collected = match evidence.file_system {
        Some(system) => {
            witnesses::mounted::collect(system, &files.disk(), files.scratch("mounted"), tool, &dump)?
        }
        None => tool.collect(&files.disk(), &dump)?,
    };
    let what = "`holdover collect` does not say that something is missing".to_owned();
    Ok((collected == Collected::Whole).then_some(console(what)))
}

/// Fails with the complaint of the crash kernel's init, if it has not made all dumps: there is nothing to read then.
fn made_by_stock(evidence: &Evidence) -> Result<()> {
    let complete = evidence.lines.iter().any(|line| line.text.contains(stock::COMPLETE));
    let mut said = evidence.lines.iter().filter_map(Line::bench);
    let complaint = said.rfind(|said| said.starts_with("no dump"));
    ensure!(complete, "{}", complaint.unwrap_or("the crash kernel made no dump"));
    Ok(())
}

/// Complains if the disk is not as it was.
fn written(evidence: &Evidence) -> Result<Option<Problem>> {
    let what = "a disk was written to that Holdover was not given".to_owned();
    let written = !evidence.files.disk_is_untouched()?;
    Ok(written.then_some(Problem { witness: Witness::Memory, what }))
}

/// Complains of a dump in blocks that are others', and fails if they are not whole.
fn others_files(evidence: &Evidence) -> Result<Option<Problem>> {
    let system = evidence.file_system.context("the disk has no file system")?;
    witnesses::mounted::check(system, &evidence.files.disk(), evidence.files.scratch("mounted"))?;
    let dumped = Report::of(&evidence.lines).is_ok_and(|report| report.sealed.is_some());
    Ok(dumped.then(|| console("a dump was sealed in blocks that are no area".to_owned())))
}

impl Expectation {
    pub(super) fn other_codec(&self, evidence: &Evidence) -> Result<Option<Problem>> {
        let Some(codec) = self.codec else { return Ok(None) };
        let named = witnesses::codec_of(&evidence.files.dump())?;
        let other = named != Some(codec);
        Ok(other.then(|| unread(format!("the dump's header names {named:?} as its codec"))))
    }
}
