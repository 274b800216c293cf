//! What a crash must show, as data, and the one function that compares this with what the crash left behind.

mod active;
mod mistake;
mod on_disk;
mod said;

use anyhow::{Context, Result};
use handoff::Completeness;

use self::active::Active;
use self::mistake::Mistake;
use self::on_disk::OnDisk;
use crate::crashes::crash::Evidence;
use crate::crashes::damage::Damage;
use crate::guests::tool::{Collected, Tool};
use crate::machines::files::Moment;
use crate::machines::qemu::Watch;
use crate::machines::scenario::Codec;
use crate::machines::scenario::device::Device;
use crate::witnesses::report::Report;
use crate::witnesses::{self, Problem, Readings, Witness};

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
