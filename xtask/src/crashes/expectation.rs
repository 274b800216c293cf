//! What a crash must show, as data, and the one function that compares this with what the crash left behind.

use anyhow::{Context, Result, ensure};
use handoff::Completeness;

use crate::crashes::crash::{self, Evidence};
use crate::crashes::damage::Damage;
use crate::guests::stock;
use crate::guests::tool::{Collected, Tool};
use crate::machines::console::Line;
use crate::machines::files::Moment;
use crate::machines::qemu::Watch;
use crate::machines::scenario::Codec;
use crate::machines::scenario::device::Device;
use crate::witnesses::picture;
use crate::witnesses::report::Report;
use crate::witnesses::trace::Traced;
use crate::witnesses::{self, Examination, Findings, Problem, Readings, Witness};

/// The beginning of the line in which `holdover load` says why it loads nothing.
const LOAD_REFUSES: &str = "load: holdover: ";

/// Has readers read dumps of the crash.
type Reading = fn(&Evidence, &Tool) -> Result<Readings>;

/// What a crash must show.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    /// How closely the machine is watched.
    pub(super) watch: Watch,
    /// What is on the dump's disk in the end.
    on_disk: OnDisk,
    /// Lines that Holdover prints, each by words that are in it.
    says: Vec<Vec<String>>,
    /// The beginnings of lines that the crashing Linux prints: without what they tell of, the crash would show nothing.
    guest_says: Vec<String>,
    /// Words that the dying Linux logs: without what they tell of, the crash would show nothing.
    kernel_says: Vec<&'static str>,
    /// Words that are on a picture of the display.
    shows: Vec<(Moment, &'static str)>,
    /// What `doctor` and `load` complain of, if `load` must refuse.
    refusal: Option<&'static str>,
    /// The device that must be at work, if that matters.
    active: Option<Active>,
    /// The codec that the dump's header names, if it matters which.
    codec: Option<Codec>,
    /// The least number of pings of watchdogs.
    pings: u64,
    /// What readers must do, besides the checks of all witnesses after a takeover.
    readings: Vec<Reading>,
    /// The objection that a witness must raise, if Holdover makes a mistake on request.
    pub(super) mistake: Option<Mistake>,
}

/// What is on the dump's disk in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDisk {
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

/// The device that must be at work in the trace; without it a crash would show nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Active {
    /// This device, after the swap.
    Device(Device),
    /// The victim of damage: it faults at the damaged tables, or goes through them.
    Victim,
}

/// How a mistake must be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// Who must object.
    witness: Witness,
    /// The words of the objection.
    objection: &'static str,
}

impl Expectation {
    /// A takeover and a complete dump to which no witness objects.
    pub(crate) fn takeover() -> Self {
        Self { watch: Watch::Memory, ..Self::plain(OnDisk::AfterTakeover) }
    }

    /// A complete dump without a takeover, which the readers open.
    pub(crate) fn complete_dump() -> Self {
        Self::plain(OnDisk::Sealed(Completeness::Complete)).and_readable()
    }

    /// A dump that is sealed as partial.
    pub(crate) fn partial_dump() -> Self {
        Self::plain(OnDisk::Sealed(Completeness::Partial))
    }

    /// A dump that was cut off before it was sealed.
    pub(crate) fn cut_off_dump() -> Self {
        Self::plain(OnDisk::CutOff)
    }

    /// The dead kernel's log, whole, and no dump that was sealed as complete.
    pub(crate) fn log() -> Self {
        Self::plain(OnDisk::Log)
    }

    /// Dumps that a stock crash kernel makes of its `/proc/vmcore`, to which no reader objects.
    pub(crate) fn stock_dumps() -> Self {
        let stock = Self { watch: Watch::Memory, ..Self::plain(OnDisk::StockDumps) };
        stock.and_reading(|evidence, _| witnesses::read_stock(evidence))
    }

    /// Those dumps, by a Linux to which Holdover handed over, and no request of a device refused meanwhile.
    pub(crate) fn handed_over() -> Self {
        let dumps = Self::handed_over_as_found();
        dumps.and_reading(|evidence, _| witnesses::check_hand_over(evidence))
    }

    /// Those dumps, by a Linux that finds the remapping units as the dead kernel left them.
    pub(crate) fn handed_over_as_found() -> Self {
        Self::stock_dumps().and_says("handing over to the fallback kernel")
    }

    /// The dumps have the record of the takeover.
    pub(crate) fn and_record(self) -> Self {
        self.and_reading(witnesses::check_handed_record)
    }

    /// No dump, and a disk that nobody wrote to.
    pub(crate) fn no_dump() -> Self {
        Self::plain(OnDisk::Untouched)
    }

    /// No dump, and a file system that nobody wrote to behind its back.
    pub(crate) fn others_files() -> Self {
        Self::plain(OnDisk::OthersFiles)
    }

    fn plain(on_disk: OnDisk) -> Self {
        Self {
            watch: Watch::Console,
            on_disk,
            says: Vec::new(),
            guest_says: Vec::new(),
            kernel_says: Vec::new(),
            shows: Vec::new(),
            refusal: None,
            active: None,
            codec: None,
            pings: 0,
            readings: Vec::new(),
            mistake: None,
        }
    }

    /// The machine is watched like this instead.
    pub(crate) fn watched(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// Holdover prints a line with these words.
    pub(crate) fn and_says(self, words: &str) -> Self {
        self.and_says_together([words.to_owned()].into())
    }

    /// Holdover prints a line with all of these words.
    fn and_says_together(mut self, words: Vec<String>) -> Self {
        self.says.push(words);
        self
    }

    /// The crashing Linux prints a line that begins with these words.
    pub(crate) fn and_guest_says(mut self, words: &str) -> Self {
        self.guest_says.push(words.to_owned());
        self
    }

    /// The dying Linux logs these words after its panic. (In an NMI it has no time to print them.)
    pub(crate) fn and_kernel_says(mut self, words: &'static str) -> Self {
        self.kernel_says.push(words);
        self
    }

    /// The display shows these words at this moment.
    pub(crate) fn and_shows(mut self, moment: Moment, words: &'static str) -> Self {
        self.shows.push((moment, words));
        self
    }

    /// `holdover doctor` and `holdover load` both complain in these words, and the latter loads nothing.
    pub(crate) fn and_refused(self, words: &'static str) -> Self {
        Self { refusal: Some(words), ..self }
    }

    /// Requests of this device are answered after the swap, by mappings that it had before.
    pub(crate) fn and_active(self, device: Device) -> Self {
        Self { active: Some(Active::Device(device)), ..self }
    }

    /// Holdover names the victim of damage, and the trace shows it at work: otherwise its silence would show nothing.
    pub(crate) fn and_damage(self, damage: Damage) -> Self {
        // The dump's disk rests until Holdover uses it.
        let active = (damage.victim() != Device::DUMP_DISK).then_some(Active::Victim);
        let at_work = Self { active, ..self };
        let address = format!(" {}", damage.victim().address());
        match damage.outcome() {
            Some(outcome) => at_work.and_says_together(vec![outcome.to_owned(), address]),
            None => at_work,
        }
    }

    /// The pages are compressed in this way.
    pub(crate) fn and_codec(self, codec: Codec) -> Self {
        Self { codec: Some(codec), ..self }
    }

    /// These watchdogs are found running, and pinged so many times in all.
    pub(crate) fn and_pings(self, watchdogs: &[&str], pings: u64) -> Self {
        let found = watchdogs.iter().map(|name| format!("watchdog {name} runs"));
        found.fold(Self { pings, ..self }, |all, words| all.and_says(&words))
    }

    /// The readers open the dump: log, backtrace, and every task with its stack.
    pub(crate) fn and_readable(self) -> Self {
        self.and_reading(|evidence, _| witnesses::read(evidence))
    }

    /// The readers open the dump where it lies in its area.
    pub(crate) fn and_readable_in_place(self) -> Self {
        self.and_reading(|evidence, _| witnesses::read_in_place(evidence))
    }

    /// The power may be cut at any instant: nothing that was safe is lost.
    pub(crate) fn and_power_cuts(self) -> Self {
        self.and_reading(witnesses::cut_power)
    }

    /// No reader objects to dumps that `holdover makedump` makes of the same memory.
    pub(crate) fn and_made_dumps(self) -> Self {
        self.and_reading(witnesses::read_made)
    }

    /// `holdover summary` makes a page that says of the crash what drgn says.
    pub(crate) fn and_summary(self) -> Self {
        self.and_reading(witnesses::compare_summary)
    }

    /// A browser shows that page without a complaint, in light and in dark, and fetches nothing for it.
    pub(crate) fn and_summary_in_browser(self) -> Self {
        self.and_reading(witnesses::open_summary)
    }

    /// `holdover makedump` and makedumpfile keep the same pages of the same memory at every level.
    pub(crate) fn and_every_level(self) -> Self {
        self.and_reading(witnesses::compare_every_level)
    }

    /// The area on the failing disk holds a dump too, of which `holdover collect` says that something is missing.
    pub(crate) fn and_first_area_partial(self) -> Self {
        self.and_reading(|evidence, tool| {
            let (disk, dump) = (evidence.files.failing_disk(), evidence.files.scratch("first-dump"));
            let whole = tool.collect(&disk, &dump)? == Collected::Whole;
            let problem = whole.then(|| "nothing is missing in the dump on the failing disk".to_owned());
            Ok(Readings { problems: problem.into_iter().collect(), ..Readings::default() })
        })
    }

    /// What `holdover doctor` estimated of the dump in the guest is near what is in it.
    pub(crate) fn and_estimated(self) -> Self {
        self.and_reading(witnesses::compare_estimate)
    }

    fn and_reading(mut self, reading: Reading) -> Self {
        self.readings.push(reading);
        self
    }

    /// All of this, except that this witness must object in these words: it must notice the deliberate mistake.
    pub(crate) fn but_caught(self, witness: Witness, objection: &'static str) -> Self {
        Self { mistake: Some(Mistake { witness, objection }), ..self }
    }

    /// Compares it with what a crash left behind and returns what is wrong.
    pub(crate) fn problems(&self, evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
        let (findings, mut problems) = self.on_disk.check(evidence, tool)?;
        problems.extend(self.unsaid(&evidence.lines));
        problems.extend(self.unsaid_by_guest(&evidence.lines));
        problems.extend(self.unsaid_by_kernel(evidence, tool)?);
        problems.extend(self.unrefused(&evidence.lines));
        problems.extend(self.unshown(evidence)?);
        problems.extend(self.inactive(findings.as_ref().map(|findings| &findings.traced)));
        problems.extend(self.other_codec(evidence)?);
        problems.extend(self.unpinged(evidence)?);
        for reading in &self.readings {
            problems.extend(reading(evidence, tool)?.problems.into_iter().map(unread));
        }
        Ok(match self.mistake {
            Some(mistake) => mistake.unnoticed(&problems).into_iter().collect(),
            None => problems,
        })
    }

    /// Complains of each line that Holdover did not print.
    fn unsaid(&self, lines: &[Line]) -> Vec<Problem> {
        let printed: Vec<_> = lines.iter().filter_map(Line::holdover).collect();
        let has_all = |line: &str, words: &[String]| words.iter().all(|word| line.contains(word));
        let unsaid = self.says.iter().filter(|words| !printed.iter().any(|line| has_all(line, words)));
        unsaid.map(|words| console(format!("Holdover did not say `{}`", words.join("` with `")))).collect()
    }

    /// Complains of each line that the crashing Linux did not print.
    fn unsaid_by_guest(&self, lines: &[Line]) -> Vec<Problem> {
        let printed: Vec<_> = lines.iter().filter_map(Line::bench).collect();
        let unsaid =
            self.guest_says.iter().filter(|words| !printed.iter().any(|line| line.starts_with(*words)));
        unsaid.map(|words| console(format!("the crashing Linux did not say `{words}`"))).collect()
    }

    /// Complains of each of these words that are not among the last in the dead kernel's log.
    fn unsaid_by_kernel(&self, evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
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
    fn unshown(&self, evidence: &Evidence) -> Result<Vec<Problem>> {
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
    fn unrefused(&self, lines: &[Line]) -> Vec<Problem> {
        let printed: Vec<_> = lines.iter().filter_map(Line::bench).collect();
        let loaded = printed.iter().filter(|line| line.contains(crash::NOT_REFUSED));
        let loaded = loaded.map(|_| console("`holdover load` did not refuse".to_owned()));
        loaded.chain(self.refusal.into_iter().flat_map(|words| unsaid_in_refusal(&printed, words))).collect()
    }

    /// Complains if nothing shows that the device was at work.
    fn inactive(&self, traced: Option<&Traced>) -> Option<Problem> {
        let rested = self.active.filter(|active| !traced.is_some_and(|traced| active.is_seen(traced)))?;
        Some(Problem { witness: Witness::Trace, what: rested.complaint() })
    }

    /// Complains if watchdogs were pinged less often.
    fn unpinged(&self, evidence: &Evidence) -> Result<Option<Problem>> {
        if self.pings == 0 {
            return Ok(None);
        }
        let pings = report(evidence)?.summary.map_or(0, |summary| summary.watchdog_pings);
        let what = format!("watchdogs were pinged {pings} times, {} are expected", self.pings);
        Ok((pings < self.pings).then_some(console(what)))
    }

    fn other_codec(&self, evidence: &Evidence) -> Result<Option<Problem>> {
        let Some(codec) = self.codec else { return Ok(None) };
        let named = witnesses::codec_of(&evidence.files.dump())?;
        let other = named != Some(codec);
        Ok(other.then(|| unread(format!("the dump's header names {named:?} as its codec"))))
    }
}

impl OnDisk {
    /// Collects what is there, and returns what the witnesses of a takeover found, and what is wrong.
    fn check(self, evidence: &Evidence, tool: &Tool) -> Result<(Option<Findings>, Vec<Problem>)> {
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

impl Active {
    fn is_seen(self, traced: &Traced) -> bool {
        match self {
            Self::Device(device) => traced.active_after_swap.contains_key(device.name),
            Self::Victim => traced.faults_of_victim + traced.translations_of_victim > 0,
        }
    }

    fn complaint(self) -> String {
        match self {
            Self::Device(device) => format!("{} was not at work after the swap", device.name),
            Self::Victim => "the damaged tables were never used".to_owned(),
        }
    }
}

impl Mistake {
    /// Inverts the check: a mutation must lead to an objection.
    fn unnoticed(self, problems: &[Problem]) -> Option<Problem> {
        let Self { witness, objection } = self;
        let noticed = |problem: &Problem| problem.witness == witness && problem.what.contains(objection);
        let what = format!("did not notice the mistake; objections of others: {}", problems.len());
        (!problems.iter().any(noticed)).then_some(Problem { witness, what })
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

fn report(evidence: &Evidence) -> Result<Report> {
    Report::of(&evidence.lines).context("the console shows no crash")
}

fn console(what: String) -> Problem {
    Problem { witness: Witness::Console, what }
}

fn unread(what: String) -> Problem {
    Problem { witness: Witness::Readers, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_that_only_another_witness_noticed_is_not_caught() {
        let noticed = |witness| [Problem { witness, what: "a byte is wrong".to_owned() }];
        let uncaught = |witness, objection, problems: &[Problem]| {
            let expectation = Expectation::takeover().but_caught(witness, objection);
            expectation.mistake.unwrap().unnoticed(problems)
        };
        assert!(uncaught(Witness::Memory, "byte", &noticed(Witness::Memory)).is_none());
        assert!(uncaught(Witness::Memory, "byte", &noticed(Witness::Trace)).is_some());
        assert!(uncaught(Witness::Memory, "table", &noticed(Witness::Memory)).is_some());
        assert!(uncaught(Witness::Memory, "byte", &[]).is_some());
    }

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

    #[test]
    fn who_must_be_active_and_was_not_traced_is_a_problem() {
        let slow = Expectation::takeover().and_active(Device::SLOW_DISK);
        let damaged = Expectation::takeover().and_damage(Damage::TableInRegisters);
        let resting = Expectation::takeover().and_damage(Damage::DiskContext);
        let mut traced = Traced::default();
        assert!(slow.inactive(None).is_some() && damaged.inactive(None).is_some());
        assert!(slow.inactive(Some(&traced)).is_some() && damaged.inactive(Some(&traced)).is_some());
        assert!(resting.inactive(Some(&traced)).is_none());
        traced.active_after_swap.insert(Device::SLOW_DISK.name.to_owned(), 1);
        traced.faults_of_victim = 1;
        assert!(slow.inactive(Some(&traced)).is_none() && damaged.inactive(Some(&traced)).is_none());
    }
}
