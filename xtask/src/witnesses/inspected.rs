//! Compares what `holdover inspect` reads from the dump with what the bench's own walker reads from the guest's
//! memory.
//!
//! The comparison goes both ways: inspect must report everything that is there, and nothing else.

mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use machine::{PAGE_SIZE, Range};
use serde::Serialize;

use super::tables::{Root, Run, Tables, difference, without};
use crate::crashes::damage::{Fate, Wound};
use crate::guests::tool::Tool;
use crate::machines::scenario::device::{Device, address_of};
use crate::witnesses::report::Report;
use said::Said;

/// Requests to these addresses are interrupts: no table translates them, and the walker does not know them from others.
const INTERRUPTS: Range<u64> = Range::new(0xfee0_0000, 0xfef0_0000);

/// What the comparison found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Inspected {
    /// Functions whose requests are translated or let through.
    pub(crate) functions: usize,
    /// Runs of I/O addresses that lead them to memory.
    pub(crate) runs: usize,
    /// How many of the functions reach the page that was asked for.
    pub(crate) reach_page: usize,
    /// What differs.
    #[serde(skip)]
    pub(crate) problems: Vec<String>,
}

/// What a function reaches by the dead kernel's tables.
struct Reached {
    /// Of memory.
    runs: Vec<Run>,
    /// Also where there is no memory.
    allowed: Vec<Run>,
}

/// The same of several, by source-id.
type ByFunction = BTreeMap<u16, Reached>;

/// The expected content of a dump.
pub(crate) struct Expected<'a> {
    /// What the dead kernel left.
    pub(crate) dead: Tables<'a>,
    /// The root pointer before and after the takeover.
    pub(crate) roots: [Root; 2],
    /// What Holdover said of itself.
    pub(crate) report: &'a Report,
    /// What was damaged.
    pub(crate) wound: Option<&'a Wound>,
}

/// Whether a dump has the record of a takeover.
pub(crate) fn has_takeover(tool: &Tool, dump: &Path) -> Result<bool> {
    Ok(Said::read(&tool.inspect(dump, None)?)?.unit()?.takeover.is_some())
}

impl Expected<'_> {
    /// Compares everything that is said of a dump; `None` if there may be no end to the tables. What cannot be asked is a problem: the
    /// other witnesses have their say.
    pub(crate) fn check(&self, tool: &Tool, dump: &Path) -> Option<Inspected> {
        if self.wound.is_some_and(|wound| wound.fate == Fate::Open) {
            return None;
        }
        let unasked =
            |error: anyhow::Error| Inspected { problems: vec![format!("{error:#}")], ..Inspected::default() };
        Some(self.compare(tool, dump).unwrap_or_else(unasked))
    }

    fn compare(&self, tool: &Tool, dump: &Path) -> Result<Inspected> {
        let mut inspected = Inspected::default();
        let reached = self.reached();
        let said = Said::read(&tool.inspect(dump, None)?)?;
        self.compare_record(&said, &reached, &mut inspected)?;
        self.compare_reach(&said, &reached, &mut inspected)?;
        inspected.count(&reached);
        if let Some(page) = page_of(&reached) {
            let said = Said::read(&tool.inspect(dump, Some(page.start))?)?;
            let reached = leading_to(page, &reached);
            self.compare_reach(&said, &reached, &mut inspected)?;
            inspected.reach_page = reached.len();
        }
        Ok(inspected)
    }

    /// What the walker finds.
    fn reached(&self) -> ByFunction {
        let reached = |source| Reached {
            runs: self.comparable(source, &self.dead.runs(source)),
            allowed: self.comparable(source, &self.dead.allowed(source)),
        };
        self.dead.functions().into_iter().map(|source| (source, reached(source))).collect()
    }

    /// Runs without interrupts, and without what goes through damaged tables.
    fn comparable(&self, source: u16, runs: &[Run]) -> Vec<Run> {
        let runs = without(runs, INTERRUPTS);
        let wound = self.wound.filter(|wound| wound.source == source);
        wound.map_or_else(|| runs.clone(), |wound| without(&runs, wound.iovas))
    }

    /// The record in the dump, against the console, QEMU's trace and the walker.
    fn compare_record(&self, said: &Said, reached: &ByFunction, inspected: &mut Inspected) -> Result<()> {
        for (key, &count) in &said.counts {
            inspected.expect(self.report.count(key) == Some(count), || {
                format!("says {key}={count}, and the console does not")
            });
        }
        let takeover = said.unit()?.takeover.as_ref().context("`holdover inspect` knows of no takeover")?;
        let [old, new] = self.roots.map(Root::register);
        inspected.expect(takeover.old_root == old && takeover.new_root == new, || {
            format!("says that the root pointer was not changed from {old:#x} to {new:#x}")
        });
        let contexts = takeover.contexts.iter().map(|context| context.device.as_str());
        let named = reached.keys().copied().filter(|&source| self.dead.names(source)).collect();
        self.compare_names("record", &contexts.collect(), &named, inspected);
        Ok(())
    }

    /// What devices reach, or who reaches one page.
    fn compare_reach(&self, said: &Said, reached: &ByFunction, inspected: &mut Inspected) -> Result<()> {
        // What the bench has damaged may lie where there is no memory, or none of the dead kernel's.
        inspected.expect(said.whole || self.wound.is_some(), || "says that it cannot tell all".to_owned());
        let reach = said.unit()?.reach.as_ref().context("`holdover inspect` has walked no tables")?;
        let mut said = reach.by_function()?;
        // For functions past the end of a device table there are no entries to compare.
        said.retain(|source, _| self.dead.has_place_for(*source));
        let names: Vec<_> = said.keys().copied().map(address_of).collect();
        let reaching = reached.keys().copied().collect();
        self.compare_names("walk", &names.iter().map(String::as_str).collect(), &reaching, inspected);
        for (&source, reached) in reached {
            if let Some(told) = said.get(&source) {
                let told = self.comparable(source, told);
                inspected.complain(source, "leaves out", &difference(&reached.runs, &told));
                inspected.complain(source, "makes up", &difference(&told, &reached.allowed));
            }
        }
        Ok(())
    }

    /// Compares the named functions. A victim may or may not be named, because its entries are no longer valid.
    fn compare_names(
        &self,
        part: &str,
        said: &BTreeSet<&str>,
        known: &BTreeSet<u16>,
        inspected: &mut Inspected,
    ) {
        let victim = self.wound.map(|wound| address_of(wound.source));
        let known: BTreeSet<_> = known.iter().copied().map(address_of).collect();
        let known = known.iter().map(String::as_str).collect();
        for name in said.symmetric_difference(&known).filter(|name| Some(**name) != victim.as_deref()) {
            let (does, others) = if said.contains(name) { ("names", "do not") } else { ("leaves out", "do") };
            inspected.problems.push(format!("the {part} {does} {name}, the dead kernel's tables {others}"));
        }
    }
}

/// The first page of memory that the network card reaches: every kernel gives it some.
fn page_of(reached: &ByFunction) -> Option<Range<u64>> {
    let run = reached.get(&Device::NETWORK.source_id())?.runs.first()?;
    Range::sized(run.address, PAGE_SIZE)
}

/// The functions that reach a page, each with the runs that lead there.
fn leading_to(page: Range<u64>, reached: &ByFunction) -> ByFunction {
    let part = |runs: &[Run]| runs.iter().filter_map(|run| run.leading_to(page)).collect::<Vec<_>>();
    let parts = reached.iter().map(|(&source, reached)| {
        (source, Reached { runs: part(&reached.runs), allowed: part(&reached.allowed) })
    });
    parts.filter(|(_, reached)| !reached.runs.is_empty()).collect()
}

impl Inspected {
    fn count(&mut self, reached: &ByFunction) {
        self.functions = reached.len();
        self.runs = reached.values().map(|reached| reached.runs.len()).sum();
    }

    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(otherwise());
        }
    }

    /// Tells of the first such run.
    fn complain(&mut self, source: u16, what: &str, runs: &[Run]) {
        if let Some(Run { iova, address, len, .. }) = runs.first() {
            let name = Device::name_of(source);
            self.problems.push(format!(
                "{what} {} of {name}'s ways to memory: first {len:#x} bytes from {iova:#x}, which lead to {address:#x}",
                runs.len()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use handoff::Summary;
    use serde_json::{Value, json};

    use super::super::tables::Layout;
    use super::super::tables::made::{legacy, with_ram};
    use super::*;
    use crate::machines::console::Line;

    const SOUND: u16 = Device::SOUND.source_id();
    const OLD: Root = Root { address: 0x1000, layout: Layout::Legacy };
    const NEW: Root = Root { address: 0x9000, layout: Layout::Scalable };
    const PAGE: Range<u64> = Range::new(0xa000, 0xb000);

    /// What is printed of a sound controller that reaches two pages.
    fn printed() -> Value {
        let user = json!([{ "device": "00:14.0", "pasid": null }]);
        let run =
            |iova, physical| json!({ "iova": iova, "physical": physical, "bytes": 4096, "rights": "rw" });
        let runs = [run("0x1000", "0x9000"), run("0x5000", "0xa000")];
        json!({
            "whole": true,
            "counts": { "hazards": 2 },
            "units": [{
                "takeover": { "old_root": "0x1000", "new_root": "0x9400", "contexts": user },
                "reach": { "routes": [{ "users": user, "runs": runs }] },
            }],
        })
    }

    /// What differs between what is printed and these tables, as one text.
    fn problems(printed: &Value, source: u16, leaves: &[(u64, u64)], page: Option<Range<u64>>) -> String {
        let summary = Summary { hazards: 2, ..Summary::default() };
        let line = format!("holdover: [0.1] {summary}");
        let console = Line::a_second_apart(&["Kernel panic - not syncing", &line]);
        let report = &Report::of(&console).unwrap();
        let said = Said::read(&printed.to_string()).unwrap();
        with_ram(0x10000, legacy(OLD.address, source, leaves), |ram| {
            let expected = Expected { dead: Tables::new(ram, OLD), roots: [OLD, NEW], report, wound: None };
            let mut inspected = Inspected::default();
            let reached = expected.reached();
            expected.compare_record(&said, &reached, &mut inspected).unwrap();
            let reached = page.map_or_else(|| expected.reached(), |page| leading_to(page, &reached));
            expected.compare_reach(&said, &reached, &mut inspected).unwrap();
            inspected.problems.join("; ")
        })
    }

    #[test]
    fn what_agrees_is_not_objected_to() {
        assert_eq!(problems(&printed(), SOUND, &[(0x1000, 0x9000), (0x5000, 0xa000)], None), "");
    }

    #[test]
    fn what_is_left_out_or_made_up_is_noticed() {
        let more = [(0x1000, 0x9000), (0x5000, 0xa000), (0x6000, 0xb000)];
        assert!(problems(&printed(), SOUND, &more, None).contains("leaves out 1 of HDA's ways"));
        assert!(problems(&printed(), SOUND, &more[..1], None).contains("makes up 1 of HDA's ways"));
        let elsewhere = [(0x1000, 0x9000), (0x5000, 0xc000)];
        assert!(problems(&printed(), SOUND, &elsewhere, None).contains("from 0x5000, which lead to 0xc000"));
    }

    #[test]
    fn every_function_must_be_named_and_no_other() {
        let problems = problems(&printed(), SOUND + 8, &[], None);
        for part in ["record", "walk"] {
            assert!(problems.contains(&format!("the {part} names 00:14.0")), "{problems}");
            assert!(problems.contains(&format!("the {part} leaves out 00:15.0")), "{problems}");
        }
    }

    #[test]
    fn of_one_page_only_ways_to_it_are_expected() {
        let leaves = [(0x1000, 0x9000), (0x5000, 0xa000)];
        assert!(problems(&printed(), SOUND, &leaves, Some(PAGE)).contains("makes up 1 of HDA's ways"));
        let mut printed = printed();
        printed["units"][0]["reach"]["routes"][0]["runs"].as_array_mut().unwrap().remove(0);
        assert_eq!(problems(&printed, SOUND, &leaves, Some(PAGE)), "");
    }

    #[test]
    fn a_record_that_says_otherwise_than_the_console_or_the_trace_is_noticed() {
        let leaves = [(0x1000, 0x9000), (0x5000, 0xa000)];
        let problems = |at: &str, value: Value| {
            let mut printed = printed();
            *printed.pointer_mut(at).unwrap() = value;
            problems(&printed, SOUND, &leaves, None)
        };
        assert!(problems("/counts/hazards", json!(3)).contains("hazards=3"));
        assert!(problems("/units/0/takeover/new_root", json!("0x9000")).contains("root pointer"));
        assert!(problems("/whole", json!(false)).contains("cannot tell all"));
    }
}
