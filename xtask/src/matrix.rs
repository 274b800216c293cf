//! Which crashes `cargo xtask test` runs, and what each must show.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::account::{Account, Seal};
use crate::build::{Flavor, Image};
use crate::console::{Echo, Line};
use crate::crash::{Crash, Evidence};
use crate::damage::Damage;
use crate::emulator::Emulator;
use crate::kernels::Flavour;
use crate::qemu::Watch;
use crate::scenario::device::{Device, DiskPlace};
use crate::scenario::mutation::Mutation;
use crate::scenario::unit::{Caching, Interrupts, Mode, Translation, Unit, Width};
use crate::scenario::{Disk, Paging, Reservation, Scenario, Start, Syscall};
use crate::tool::{Collected, Tool};
use crate::witness::{self, Judgement, Problem, Witness};

/// What a crash must show.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expectation {
    /// A takeover and a complete dump to which no witness objects.
    Takeover,
    /// The same, with requests of the throttled disk answered after the swap. The machine is not stopped in this one: QEMU
    /// finishes all requests when it stops a machine.
    PendingRequests,
    /// The same, with this damage: the victim is named in the report, and faults where nobody else does.
    Damaged(Damage),
    /// An objection of this witness in these words: it must notice what was done wrong on purpose.
    Caught(Witness, &'static str),
    /// A complete dump without a takeover, and this line that says why.
    PlainDump(&'static str),
    /// A dump that is sealed as partial.
    PartialDump,
    /// No dump, this line that says why, and a disk that nobody wrote to.
    NoDump(&'static str),
}

/// One crash of the matrix.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What a person calls it; also the folder that keeps its files.
    pub(crate) name: String,
    scenario: Scenario,
    expectation: Expectation,
}

/// What was built before any row can run.
pub(crate) struct Built {
    /// The host's command line.
    pub(crate) tool: Tool,
    /// The capture kernels that the rows ask for.
    pub(crate) images: BTreeMap<Flavor, Image>,
}

/// Every row.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = takeovers();
    rows.extend(hardware());
    rows.push(pending_requests());
    rows.extend(mutations());
    rows.extend(damages());
    rows.extend(bad_input());
    rows
}

/// Every mode, with and without translation, every depth of paging, below and above 4 GiB, spread over kernels and system
/// calls; in the mode that Linux uses by itself, all of these. A reservation above 4 GiB comes with wide I/O addresses.
fn takeovers() -> Vec<Row> {
    use Flavour::{Amd64, Cloud};
    use Mode::{Legacy, Scalable};
    use Paging::{FiveLevel, FourLevel};
    use Reservation::{High, Low};
    use Syscall::{File, Load};
    use Translation::{On, PassThrough};

    let rows = [
        (Amd64, File, Legacy, On, FourLevel, Low),
        (Amd64, File, Legacy, On, FiveLevel, Low),
        (Amd64, Load, Legacy, On, FourLevel, Low),
        (Amd64, Load, Legacy, On, FiveLevel, Low),
        (Cloud, File, Legacy, On, FourLevel, Low),
        (Cloud, File, Legacy, On, FiveLevel, Low),
        (Cloud, Load, Legacy, On, FourLevel, Low),
        (Cloud, Load, Legacy, On, FiveLevel, Low),
        (Cloud, Load, Legacy, On, FourLevel, High),
        (Amd64, File, Legacy, On, FiveLevel, High),
        (Amd64, Load, Legacy, PassThrough, FourLevel, Low),
        (Cloud, File, Legacy, PassThrough, FiveLevel, Low),
        (Cloud, File, Legacy, PassThrough, FourLevel, High),
        (Amd64, Load, Legacy, PassThrough, FiveLevel, High),
        (Amd64, File, Scalable, On, FourLevel, Low),
        (Cloud, Load, Scalable, On, FiveLevel, Low),
        (Cloud, File, Scalable, On, FourLevel, High),
        (Amd64, Load, Scalable, On, FiveLevel, High),
        (Cloud, Load, Scalable, PassThrough, FourLevel, Low),
        (Amd64, File, Scalable, PassThrough, FiveLevel, Low),
        (Amd64, Load, Scalable, PassThrough, FourLevel, High),
        (Cloud, File, Scalable, PassThrough, FiveLevel, High),
    ];
    let row = |(kernel, syscall, mode, translation, paging, reservation)| {
        let (memory_mib, width) = match reservation {
            Low => (1024, Width::Bits39),
            High => (5120, Width::Bits48),
        };
        // Two processors in half of the rows: the notes of each belong in the dump.
        let cpus = if paging == FiveLevel { 2 } else { 1 };
        let unit = Unit { translation, mode, width, ..Unit::PLAIN };
        let plain = Scenario::plain(kernel);
        Scenario { syscall, paging, unit, cpus, memory_mib, reservation, ..plain }
    };
    rows.map(row).map(|scenario| Row::takeover(&name_of(&scenario), scenario)).into()
}

/// What differs from Linux's own ways is named.
fn name_of(scenario: &Scenario) -> String {
    let Scenario { kernel, syscall, paging, unit, reservation, .. } = scenario;
    let mut name = format!("{}-{}-{}level", kernel.name(), syscall.letter(), paging.levels());
    let more = [
        (unit.mode == Mode::Scalable, "-scalable"),
        (unit.translation == Translation::PassThrough, "-pt"),
        (*reservation == Reservation::High, "-high"),
    ];
    more.into_iter().filter(|(differs, _)| *differs).for_each(|(_, word)| name += word);
    name
}

/// Other hardware and another kernel.
fn hardware() -> Vec<Row> {
    let unit = |unit: Unit| Scenario { unit, ..Scenario::plain(Flavour::Cloud) };
    let disk_at = |disk_place| Scenario { disk_place, ..Scenario::plain(Flavour::Cloud) };
    let first_stage = |kernel, paging| Scenario {
        emulator: Emulator::Backports,
        unit: Unit { mode: Mode::FirstStage, width: Width::Bits48, ..Unit::PLAIN },
        paging,
        ..Scenario::plain(kernel)
    };
    let newer =
        |unit| Scenario { emulator: Emulator::Backports, unit, ..Scenario::plain(Flavour::Backports) };
    let rows = [
        ("caching-mode", unit(Unit { caching: Caching::Anything, ..Unit::PLAIN })),
        ("interrupts-not-remapped", unit(Unit { interrupts: Interrupts::Plain, ..Unit::PLAIN })),
        ("identity-table", unit(Unit { translation: Translation::Identity, ..Unit::PLAIN })),
        ("disk-behind-pci-bridge", disk_at(DiskPlace::PciBridge)),
        ("disk-behind-pcie-bridge", disk_at(DiskPlace::PcieToPciBridge)),
        ("first-stage-amd64", first_stage(Flavour::Amd64, Paging::FourLevel)),
        ("first-stage-backports", first_stage(Flavour::Backports, Paging::FiveLevel)),
        ("x2apic-backports", newer(Unit { interrupts: Interrupts::X2apic, ..Unit::PLAIN })),
    ];
    rows.map(|(name, scenario)| Row::takeover(name, scenario)).into()
}

fn pending_requests() -> Row {
    let scenario = Scenario::plain(Flavour::Cloud);
    Row { name: "pending-requests".to_owned(), scenario, expectation: Expectation::PendingRequests }
}

/// Each mistake must be noticed by the witness that is there for it, in every mode. The general kernel has devices that never
/// rest.
fn mutations() -> Vec<Row> {
    let plain = Unit::PLAIN;
    let scalable = Unit { mode: Mode::Scalable, ..plain };
    let pass_through = Unit { translation: Translation::PassThrough, ..plain };
    let caught = [
        ("", plain, Mutation::SkipTable, Witness::Trace, "first fault"),
        ("-scalable", scalable, Mutation::SkipTable, Witness::Tables, "lost"),
        ("", plain, Mutation::ReuseIova, Witness::Trace, "first changed translation"),
        ("", plain, Mutation::ClearTe, Witness::Trace, "translation was turned off"),
        ("", plain, Mutation::FlipByte, Witness::Memory, "is not what was in memory"),
        ("-pt", pass_through, Mutation::OpenOwn, Witness::Tables, "reaches Holdover's memory"),
        ("-scalable", scalable, Mutation::OpenOwn, Witness::Tables, "reaches Holdover's memory"),
    ];
    let row =
        |(variant, unit, mutation, witness, objection): (&str, Unit, Mutation, Witness, &'static str)| {
            let scenario = Scenario { unit, mutation: Some(mutation), ..Scenario::plain(Flavour::Amd64) };
            let name = format!("mutation-{}{variant}", mutation.name());
            Row { name, scenario, expectation: Expectation::Caught(witness, objection) }
        };
    caught.map(row).into()
}

/// What is damaged between the panic and the takeover, each in a crash of its own. The general kernel has the devices that
/// never rest.
fn damages() -> Vec<Row> {
    let deep = Unit { width: Width::Bits48, ..Unit::PLAIN };
    let rows = [
        (Damage::ContextBeyondMemory, Unit::PLAIN),
        (Damage::ContextReservedBits, Unit::PLAIN),
        (Damage::ContextWrongWidth, Unit::PLAIN),
        (Damage::DiskContext, Unit::PLAIN),
        (Damage::PasidTableInCaptureKernel, Unit { mode: Mode::Scalable, ..Unit::PLAIN }),
        (Damage::TableInRegisters, Unit::PLAIN),
        (Damage::TableInCaptureKernel, deep),
        (Damage::TableLoop, Unit::PLAIN),
        (Damage::PageInCaptureKernel, Unit::PLAIN),
        (Damage::FanOut, deep),
    ];
    let row = |(damage, unit): (Damage, Unit)| Row {
        name: format!("damage-{}", damage.name()),
        scenario: Scenario { damage: Some(damage), unit, ..Scenario::plain(Flavour::Amd64) },
        expectation: Expectation::Damaged(damage),
    };
    rows.map(row).into()
}

fn bad_input() -> Vec<Row> {
    let plain = || Scenario::plain(Flavour::Cloud);
    let rows = [
        ("no-crash", Scenario { start: Start::Exec, ..plain() }, Expectation::NoDump("elfcorehdr")),
        (
            "no-remapping-unit",
            Scenario { unit: Unit { translation: Translation::NoUnit, ..Unit::PLAIN }, ..plain() },
            Expectation::PlainDump("DMAR"),
        ),
        (
            "translation-off",
            Scenario { unit: Unit { translation: Translation::Off, ..Unit::PLAIN }, ..plain() },
            Expectation::PlainDump("translation is off"),
        ),
        ("no-labelled-disk", Scenario { disk: Disk::OtherLabel, ..plain() }, Expectation::NoDump("no disk")),
        ("disk-too-small", Scenario { disk: Disk::TooSmall, ..plain() }, Expectation::PartialDump),
    ];
    let row = |(name, scenario, expectation): (&str, Scenario, Expectation)| Row {
        name: name.to_owned(),
        scenario,
        expectation,
    };
    rows.map(row).into()
}

impl Row {
    fn takeover(name: &str, scenario: Scenario) -> Self {
        Self { name: name.to_owned(), scenario, expectation: Expectation::Takeover }
    }

    /// Lets it crash and returns what is wrong; fails if it did not come to its end.
    pub(crate) fn problems(&self, built: &Built) -> Result<Vec<Problem>> {
        let image = built.images.get(&self.flavor()).context("the capture kernel was not built")?;
        let (scenario, watch) = (&self.scenario, self.watch());
        let crash = Crash { scenario, image: &image.path, tool: &built.tool, watch, echo: Echo::Hidden };
        let evidence = crash.run(&self.name)?;
        match self.expectation {
            Expectation::Takeover => Ok(witness::judge(&evidence, &built.tool)?.problems),
            Expectation::PendingRequests => pending(&evidence, &built.tool),
            Expectation::Damaged(damage) => damaged(damage, &evidence, &built.tool),
            Expectation::Caught(witness, objection) => {
                Ok(uncaught(witness, objection, &witness::judge(&evidence, &built.tool)?.problems))
            }
            Expectation::PlainDump(reason) => plain_dump(&evidence, &built.tool, reason),
            Expectation::PartialDump => partial_dump(&evidence, &built.tool),
            Expectation::NoDump(reason) => no_dump(&evidence, reason),
        }
    }

    /// The capture kernel that it needs: only one can be told to do wrong.
    pub(crate) fn flavor(&self) -> Flavor {
        if self.scenario.mutation.is_some() { Flavor::Mutations } else { Flavor::Release }
    }

    fn watch(&self) -> Watch {
        match self.expectation {
            Expectation::Takeover | Expectation::Damaged(_) | Expectation::Caught(..) => Watch::Memory,
            Expectation::PendingRequests => Watch::Trace,
            Expectation::PlainDump(_) | Expectation::PartialDump | Expectation::NoDump(_) => Watch::Console,
        }
    }
}

fn pending(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let Judgement { findings, mut problems, .. } = witness::judge(evidence, tool)?;
    if !findings.traced.active_after_swap.contains_key(Device::SLOW_DISK.name) {
        let what = "the throttled disk answered no request after the swap".to_owned();
        problems.push(Problem { witness: Witness::Trace, what });
    }
    Ok(problems)
}

/// That the victim is told of, and was at work: else its silence would show nothing.
fn damaged(damage: Damage, evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let Judgement { findings, mut problems, .. } = witness::judge(evidence, tool)?;
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
    let unsealed = witness::check_seal(&account(evidence)?, Seal::Complete);
    tool.collect(&evidence.files.disk(), &evidence.files.dump())?;
    let readings = witness::read(evidence)?;
    let unread = readings.problems.into_iter().map(|what| Problem { witness: Witness::Readers, what });
    Ok(unsealed.into_iter().chain(said(&evidence.lines, reason)).chain(unread).collect())
}

fn partial_dump(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let unsealed = witness::check_seal(&account(evidence)?, Seal::Partial);
    let collected = tool.collect(&evidence.files.disk(), &evidence.files.dump())?;
    let silent = collected == Collected::Whole;
    let what = "`holdover collect` does not say that something is missing".to_owned();
    let silent = silent.then_some(Problem { witness: Witness::Console, what });
    Ok(unsealed.into_iter().chain(silent).collect())
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

fn account(evidence: &Evidence) -> Result<Account> {
    Account::of(&evidence.lines).context("the console shows no crash")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_rows_share_a_name() {
        let rows = rows();
        let names: BTreeSet<_> = rows.iter().map(|row| &row.name).collect();
        assert_eq!(names.len(), rows.len());
    }

    #[test]
    fn every_combination_of_modes_paging_and_memory_is_a_row() {
        let combination = |row: &Row| {
            let Scenario { unit, paging, reservation, .. } = &row.scenario;
            format!("{:?} {:?} {paging:?} {reservation:?}", unit.mode, unit.translation)
        };
        let combinations: BTreeSet<_> = takeovers().iter().map(combination).collect();
        assert_eq!(combinations.len(), 2 * 2 * 2 * 2);
    }

    #[test]
    fn a_mistake_that_only_another_witness_noticed_is_not_caught() {
        let noticed = |witness| [Problem { witness, what: "a byte is wrong".to_owned() }];
        assert!(uncaught(Witness::Memory, "byte", &noticed(Witness::Memory)).is_empty());
        assert!(!uncaught(Witness::Memory, "byte", &noticed(Witness::Trace)).is_empty());
        assert!(!uncaught(Witness::Memory, "table", &noticed(Witness::Memory)).is_empty());
        assert!(!uncaught(Witness::Memory, "byte", &[]).is_empty());
    }
}
