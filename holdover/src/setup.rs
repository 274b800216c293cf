//! `holdover setup`: makes this host ready for a crash, in one conversation, or without questions.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use host::Bytes;
use host::areas::AreaName;
use host::bootloader::{self, Bootloader};
use host::config::Configuration;
use host::crash_slot::{self, SlotOwner};
use host::doctor::{self, Finding};
use host::programs::{HostPrograms, NoPrograms, Programs};
use host::setup::{self, AreaPlan, AreaWish, Memory, Step};
use serde_json::{Value, json};

use crate::progress::Bar;
use crate::report::{Report, row};
use crate::{load, question};

/// What the command is told.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Arguments {
    /// Ask nothing: do all that is needed
    #[arg(long, short)]
    yes: bool,
    /// Dump to this area, which is there: its UUID, its device, or its file; may be repeated
    #[arg(long = "area", value_name = "UUID|DEVICE", conflicts_with = "file")]
    areas: Vec<AreaName>,
    /// Dump to this file; it is made if it is not there
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// How large the file is to be, such as 2G; by default an estimate says
    #[arg(long, value_name = "SIZE")]
    size: Option<Bytes>,
    /// Leave the configuration of the bootloader as it is
    #[arg(long)]
    no_bootloader: bool,
    /// Let systemd start nothing at boot
    #[arg(long)]
    no_units: bool,
    /// Replace a crash kernel that is not Holdover's, such as kdump-tools'
    #[arg(long)]
    replace_crash_kernel: bool,
    /// Only take the crashkernel= away again that an earlier setup asked for
    #[arg(long, conflicts_with_all = ["areas", "file", "size", "no_bootloader", "no_units"])]
    remove_crashkernel: bool,
    /// Set up the system in this folder instead of the running one: nothing is loaded there, and no program of it is run
    #[arg(long, value_name = "FOLDER", default_value = "/", hide_default_value = true)]
    root: PathBuf,
}

/// What was done, and what is left.
#[derive(Default)]
pub(crate) struct Outcome {
    steps: Vec<(&'static str, Step)>,
    /// What is in the way of a dump, and a person must change.
    left: Vec<String>,
    /// What comes next, as a matter of course.
    next: Vec<String>,
}

impl Arguments {
    fn wish(&self) -> AreaWish {
        match (&self.file, self.size) {
            (Some(file), size) => AreaWish::File(file.clone(), size),
            (None, Some(size)) => AreaWish::File(setup::DEFAULT_FILE.into(), Some(size)),
            (None, None) if self.areas.is_empty() => AreaWish::Any,
            (None, None) => AreaWish::These(self.areas.clone()),
        }
    }

    /// Asks a person; the answer is yes where nobody is to be asked.
    fn agrees(&self, question: &str) -> Result<bool> {
        if self.yes {
            return Ok(true);
        }
        if !io::stdin().is_terminal() {
            bail!("{question} There is no terminal to ask on: --yes says yes to all questions");
        }
        Ok(question::is_answered_yes(question, &mut io::stdin().lock(), &mut io::stderr())?)
    }

    /// Whether the system to set up is the one that runs.
    fn is_running(&self) -> bool {
        self.root == Path::new("/")
    }

    fn programs(&self) -> &'static dyn Programs {
        if self.is_running() { &HostPrograms } else { &NoPrograms }
    }
}

/// Makes this host ready.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let root = arguments.root.as_path();
    if arguments.remove_crashkernel {
        return remove_crashkernel(root, arguments.programs());
    }
    let configuration = Configuration::at_root(root)?;
    let mut outcome = Outcome { left: obstacles(&configuration)?, ..Outcome::default() };
    // Where the kernel cannot reserve any, nothing is asked.
    let memory = Memory::now(root, &configuration)?;
    let plan = AreaPlan::of(&arguments.wish(), &configuration, &Bar::of_pages())?;
    if let AreaPlan::Make(path, bytes) = &plan {
        let question = format!("Make {} a dump area of {bytes}?", path.display());
        if !arguments.agrees(&question)? {
            bail!("without a dump area nothing can be set up; name another with --area or --file");
        }
    }
    outcome.add("dump area", plan.carry_out(root, &Bar::of_bytes())?);
    outcome.add("configuration", setup::configure(root, &plan.names())?);
    if !memory.is_enough() {
        reserve(root, memory, arguments, &mut outcome)?;
    }
    let mut has_units = false;
    if !arguments.no_units {
        let step = setup::enable(&plan.names(), arguments.programs())?;
        has_units = !matches!(step, Step::Left(_));
        outcome.add("at each boot", step);
    }
    if memory.is_enough() && arguments.is_running() {
        load(arguments, &plan, &mut outcome, has_units)?;
    }
    if outcome.has_changed() || memory.is_enough() {
        outcome
            .next
            .push("`holdover test` crashes this machine on request, and tells whether the dump came".into());
    }
    Ok(outcome)
}

/// What this machine lacks for a dump, whatever is set up; told before anything is asked or changed.
fn obstacles(configuration: &Configuration) -> Result<Vec<String>> {
    let told = |Finding { what, found, remedy, .. }| format!("{}: {found}; {remedy}", what.name());
    let obstacles: Vec<_> = doctor::obstacles(configuration)?.into_iter().map(told).collect();
    for obstacle in &obstacles {
        writeln!(io::stderr(), "holdover: {obstacle}")?;
    }
    Ok(obstacles)
}

fn remove_crashkernel(root: &Path, programs: &dyn Programs) -> Result<Outcome> {
    let is_released = bootloader::release(root, programs)?;
    let step = if is_released && Bootloader::of(root) == Some(Bootloader::KernelInstall) {
        Step::Left(
            "asked for no more, once `kernel-install add $(uname -r) /lib/modules/$(uname -r)/vmlinuz` has run".into(),
        )
    } else if is_released {
        Step::Done("asked for no more; the memory is free after the next boot".into())
    } else {
        Step::Unchanged("was not asked for by `holdover setup`".into())
    };
    let mut outcome = Outcome::default();
    outcome.add("crashkernel=", step);
    Ok(outcome)
}

/// Asks for memory from the next boot on.
fn reserve(root: &Path, memory: Memory, arguments: &Arguments, outcome: &mut Outcome) -> Result<()> {
    let Memory { reserved, needed } = memory;
    let mebibytes = needed.0 >> 20;
    let by_hand = format!("add crashkernel={mebibytes}M to the kernel's command line, and restart");
    let question = format!(
        "{reserved} are reserved for a capture kernel, and this machine needs {needed}. Set crashkernel={mebibytes}M in the bootloader's configuration?"
    );
    if arguments.no_bootloader || !arguments.agrees(&question)? {
        outcome.left.push(by_hand);
        return Ok(());
    }
    match memory.reserve(root, arguments.programs()) {
        // What is left says when to restart.
        Ok(step @ Step::Left(_)) => outcome.add("crashkernel=", step),
        Ok(step) => {
            outcome.add("crashkernel=", step);
            outcome.next.push("restart: memory is reserved while the kernel starts".into());
        }
        Err(error) => outcome.left.push(host::chain(&error)),
    }
    Ok(())
}

/// Loads, unless what is loaded is Holdover's and nothing has changed.
fn load(arguments: &Arguments, plan: &AreaPlan, outcome: &mut Outcome, has_units: bool) -> Result<()> {
    const WHAT: &str = "capture kernel";
    if !outcome.has_changed() && crash_slot::owner()? == SlotOwner::Holdover {
        outcome.add(WHAT, Step::Unchanged("loaded".into()));
        return Ok(());
    }
    let loaded = load::configured(arguments.replace_crash_kernel);
    match loaded {
        Ok(_) => outcome.add(WHAT, Step::Done("loaded: the next panic is dumped".into())),
        Err(error) => {
            outcome.left.push(format!("{error:#}"));
            return Ok(());
        }
    }
    if has_units {
        outcome.add("systemd", setup::start(&plan.names(), &HostPrograms)?);
    }
    Ok(())
}

impl Outcome {
    fn add(&mut self, what: &'static str, step: Step) {
        if let Step::Left(told) = &step {
            self.left.push(told.clone());
        } else {
            self.steps.push((what, step));
        }
    }

    fn has_changed(&self) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Step::Done(_)))
    }
}

impl Report for Outcome {
    fn rows(&self) -> Vec<Vec<String>> {
        let steps = self.steps.iter().map(|(what, step)| row(what, step.to_string()));
        let verdict = (!self.has_changed()).then(|| row("changed", "nothing"));
        let left = self.left.iter().map(|left| row("left", left));
        let next = self.next.iter().map(|next| row("next", next));
        steps.chain(verdict).chain(left).chain(next).collect()
    }

    fn json(&self) -> Result<Value> {
        let steps = self.steps.iter().map(|(what, step)| {
            json!({ "what": what, "changed": matches!(step, Step::Done(_)), "told": step.to_string() })
        });
        Ok(json!({
            "changed": self.has_changed(),
            "steps": steps.collect::<Vec<_>>(),
            "left": self.left,
            "next": self.next,
        }))
    }

    /// Ready, but for a restart or a test at most.
    fn is_whole(&self) -> bool {
        self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_learns_that_something_is_left_and_a_restart_is_no_failure() {
        let mut outcome = Outcome::default();
        outcome.next.push("restart".into());
        assert!(outcome.is_whole() && outcome.text().contains("next     restart"), "{}", outcome.text());
        outcome.add("crashkernel=", Step::Left("set it by hand".into()));
        assert!(!outcome.is_whole());
        let json = outcome.json().unwrap();
        assert_eq!((&json["left"][0], &json["next"][0]), (&"set it by hand".into(), &"restart".into()));
    }

    #[test]
    fn a_run_that_changes_nothing_says_so() {
        let mut outcome = Outcome::default();
        outcome.add("dump area", Step::Unchanged("/a".into()));
        assert!(outcome.text().contains("changed    nothing"), "{}", outcome.text());
        outcome.add("configuration", Step::Done("written".into()));
        assert!(!outcome.text().contains("nothing"));
        assert_eq!(outcome.json().unwrap()["changed"], true);
    }
}
