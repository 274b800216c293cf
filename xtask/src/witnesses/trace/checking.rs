//! Checks a trace of a takeover: faults, translations that changed, and which devices were at work.

mod forgetting;

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use machine::PAGE_SIZE;
use serde::Serialize;

use super::super::tables::{ADDRESS, Root, Tables};
use super::Trace;
use super::event::{Entry, Event, Fault};
use crate::crashes::damage::{Fate, Wound};
use crate::machines::reserved::Reserved;
use crate::machines::scenario::device::Device;
use forgetting::Forgetting;

/// What the trace shows of the time from the panic on.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Traced {
    /// Requests that the unit refused, and errors that it noted.
    pub(crate) faults: u64,
    /// Those of them that are due to damage that the bench has done.
    pub(crate) faults_of_victim: u64,
    /// Requests of devices that were translated before the swap, while Holdover ran.
    pub(crate) translations_before_swap: u64,
    /// Requests of legacy devices after the swap: who, and how many.
    pub(crate) active_after_swap: BTreeMap<String, u64>,
    /// Requests whose answer was not the one that the dead kernel's tables give.
    pub(crate) translations_changed: u64,
    /// Requests that went through damaged tables after the swap.
    pub(crate) translations_of_victim: u64,
    /// Requests of the dump's disk for addresses that Holdover gave it.
    pub(crate) new_translations: u64,
    /// The first of each kind of trouble.
    #[serde(skip)]
    pub(crate) problems: Vec<String>,
}

/// What the trace is compared with.
#[derive(Clone, Copy)]
pub(crate) struct Reference<'a> {
    /// What the dead kernel left.
    pub(crate) dead: Tables<'a>,
    /// The same with the damage that the bench has done.
    pub(crate) damaged: Tables<'a>,
    /// What Holdover left.
    pub(crate) new: Tables<'a>,
    /// Holdover's memory.
    pub(crate) reserved: &'a Reserved,
    /// Source-ids of the dump's disk.
    pub(crate) disk: &'a [u16],
    /// When Holdover started: until then other processors of the dying kernel may still map and unmap.
    pub(crate) entered: SystemTime,
    /// What was damaged.
    pub(crate) wound: Option<&'a Wound>,
}

impl Reference<'_> {
    /// Counts faults from the panic on, and compares every access since Holdover started with the dead kernel's tables.
    pub(crate) fn check(self, trace: &Trace) -> Result<Traced> {
        let entered = self.entered.duration_since(UNIX_EPOCH)?;
        let mut checking = Checking::new(self);
        let is_of_dying = |event: &Event| {
            matches!(event, Event::Translated { .. } | Event::Answered { .. } | Event::Forgotten(_))
        };
        let unsettled = |entry: &&Entry| entry.at < entered && is_of_dying(&entry.event);
        for entry in trace.after.iter().filter(|entry| !unsettled(entry)) {
            checking.note(&entry.event);
        }
        Ok(checking.finish())
    }
}

/// The check while it is under way.
struct Checking<'a> {
    reference: Reference<'a>,
    /// What the dead kernel's tables say, remembered: devices ask for the same pages again and again.
    known: HashMap<(u16, u64), Option<u64>>,
    swapped: bool,
    /// Whether AMD's unit logs events in Holdover's memory.
    log_moved: bool,
    /// What AMD's unit was told to forget since the swap, until that must be enough.
    forgetting: Option<Forgetting>,
    active: BTreeMap<u16, u64>,
    traced: Traced,
}

impl<'a> Checking<'a> {
    fn new(reference: Reference<'a>) -> Self {
        let (known, active, traced) = (HashMap::new(), BTreeMap::new(), Traced::default());
        Self { reference, known, swapped: false, log_moved: false, forgetting: None, active, traced }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Used { .. } | Event::CommandsAnew | Event::HalfLog { .. } => {}
            Event::Log(register) => self.log_moved = self.reference.reserved.contains(register & ADDRESS),
            Event::Fault(fault) => self.fault(fault),
            Event::Root(root) => self.swap(*root),
            Event::HalfRoot { .. } => self.complain_once("the device table's base was written in halves"),
            Event::TurnedOff(value) => {
                self.traced.problems.push(format!("translation was turned off by {value:#x}"));
            }
            Event::Forgotten(forgotten) => {
                if !self.swapped && self.reference.new.are_in_place_of(&self.reference.dead) {
                    // The table was changed where it is, and what the unit knows of it is forgotten now.
                    (self.swapped, self.forgetting) = (true, Some(Forgetting::default()));
                }
                self.forgetting.iter_mut().for_each(|forgetting| forgetting.note(*forgotten));
            }
            Event::Answered { source, iova, page } => self.answered(*source, *iova, *page),
            Event::Translated { source, iova, address, mask } => {
                let expected = self.expected(*source, *iova);
                self.translated(*source, *iova, address + (iova & mask), expected);
            }
        }
    }

    fn fault(&mut self, fault: &Fault) {
        self.traced.faults += 1;
        let wound = self.reference.wound;
        if fault.request.is_some_and(|(source, iova)| wound.is_some_and(|wound| wound.concerns(source, iova)))
        {
            self.traced.faults_of_victim += 1;
        } else if self.traced.faults - self.traced.faults_of_victim == 1 {
            self.traced.problems.push(format!("first fault: {}", fault.words));
        }
    }

    fn swap(&mut self, root: Root) {
        self.swapped = true;
        self.forgetting = Some(Forgetting::default());
        let address = root.address;
        if !self.reference.reserved.contains(address) {
            self.traced.problems.push(format!("the root table at {address:#x} is not in Holdover's memory"));
        }
    }

    fn complain_once(&mut self, what: &str) {
        if !self.traced.problems.iter().any(|problem| problem == what) {
            self.traced.problems.push(what.to_owned());
        }
    }

    /// An answer names where a page begins, and not how large it is: that is in the tables of which it came.
    fn answered(&mut self, source: u16, iova: u64, page: u64) {
        let Reference { dead, new, .. } = self.reference;
        let expected = self.expected(source, iova);
        let size = |tables: Tables<'_>| tables.page(source, iova).map(|(_, size)| size);
        let sizes = [size(dead), size(new).filter(|_| self.swapped)];
        let addresses = sizes.map(|size| page + iova % size.unwrap_or(PAGE_SIZE));
        if page == 0 && expected.is_none_or(|expected| !addresses.contains(&expected)) {
            let words = format!("{} {iova:#x} was refused", Device::name_of(source));
            return self.fault(&Fault { request: Some((source, iova & !(PAGE_SIZE - 1))), words });
        }
        let address = addresses.into_iter().find(|address| Some(*address) == expected);
        self.translated(source, iova, address.unwrap_or(addresses[0]), expected);
    }

    fn expected(&mut self, source: u16, iova: u64) -> Option<u64> {
        let dead = self.reference.dead;
        *self.known.entry((source, iova)).or_insert_with(|| dead.translate(source, iova))
    }

    fn translated(&mut self, source: u16, iova: u64, address: u64, expected: Option<u64>) {
        let Reference { reserved, disk, wound, .. } = self.reference;
        let new_mapping = self.swapped && disk.contains(&source) && reserved.contains(address);
        let wound = wound.filter(|wound| wound.concerns(source, iova));
        match (expected, wound) {
            (Some(expected), None) if expected == address => self.unchanged(source),
            (None, _) | (_, Some(_)) if new_mapping => {
                self.check_forgotten();
                self.traced.new_translations += 1;
            }
            (_, Some(wound)) => self.through_damage(wound, iova, address, expected),
            (expected, None) => self.changed(source, iova, address, expected),
        }
    }

    /// By now the unit must know nothing of the dead kernel's tables.
    fn check_forgotten(&mut self) {
        let forgetting = self.forgetting.take();
        let remembered = forgetting.and_then(|forgetting| forgetting.remembered(self.reference.dead));
        self.traced.problems.extend(remembered);
    }

    /// A request went through damaged tables: before the swap because the unit did not know yet. AMD's may answer as before until it was
    /// told to forget that.
    fn through_damage(&mut self, wound: &Wound, iova: u64, address: u64, expected: Option<u64>) {
        let Reference { dead, damaged, .. } = self.reference;
        let is_cached = || [expected, damaged.translate(wound.source, iova)].contains(&Some(address));
        let may_answer = |forgetting: &Forgetting| forgetting.may_answer(wound.source, dead);
        if !self.swapped || self.forgetting.as_ref().is_some_and(may_answer) && is_cached() {
            self.traced.translations_before_swap += 1;
            return;
        }
        self.traced.translations_of_victim += 1;
        if wound.fate == Fate::Closed && self.traced.translations_of_victim == 1 {
            let device = Device::name_of(wound.source);
            let what = format!("{device} {iova:#x} still leads to {address:#x}, through damaged tables");
            self.traced.problems.push(what);
        }
    }

    fn unchanged(&mut self, source: u16) {
        if self.swapped {
            *self.active.entry(source).or_default() += 1;
        } else {
            self.traced.translations_before_swap += 1;
        }
    }

    fn changed(&mut self, source: u16, iova: u64, address: u64, expected: Option<u64>) {
        self.traced.translations_changed += 1;
        if self.traced.translations_changed == 1 {
            let before = expected.map_or("nowhere".to_owned(), |address| format!("to {address:#x}"));
            let device = Device::name_of(source);
            let first =
                format!("first changed translation: {device} {iova:#x} led {before}, now to {address:#x}");
            self.traced.problems.push(first);
        }
    }

    fn finish(mut self) -> Traced {
        self.check_forgotten();
        if !self.swapped {
            self.traced.problems.push("the root pointer was never swapped".to_owned());
        }
        // Where nothing is damaged, nothing is logged.
        if self.reference.wound.is_some() && self.reference.dead.is_of_amd() && !self.log_moved {
            self.traced.problems.push("events go on to the dead kernel's log".to_owned());
        }
        let disk = self.reference.disk;
        let legacy = self.active.into_iter().filter(|(source, _)| !disk.contains(source));
        self.traced.active_after_swap =
            legacy.map(|(source, count)| (Device::name_of(source), count)).collect();
        if self.traced.active_after_swap.is_empty() {
            self.traced
                .problems
                .push("no legacy device was active after the swap: nothing was shown".to_owned());
        }
        self.traced
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use machine::Range;

    use super::super::super::tables::Layout;
    use super::super::super::tables::made::{amd, with_ram};
    use super::super::event::Forgotten;
    use super::*;
    use crate::machines::ram::Ram;

    const HOLDOVER: Range<u64> = Range::new(0x3e00_0000, 0x3f00_0000);
    const SWAP: Event = Event::Root(Root { address: HOLDOVER.start, layout: Layout::Legacy });
    const DISK: u16 = Device::DUMP_DISK.source_id();

    /// Checks events against the tables of a machine in which nothing is mapped.
    fn checked(events: &[Event]) -> Traced {
        checked_with(events, None)
    }

    fn checked_with(events: &[Event], wound: Option<&Wound>) -> Traced {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ram"), [0; 4096]).unwrap();
        let ram = Ram::open(&dir.path().join("ram")).unwrap();
        let dead = Tables::new(&ram, Root { address: 0, layout: Layout::Legacy });
        let reserved = &Reserved::at(HOLDOVER);
        let mut checking = Checking::new(Reference {
            dead,
            damaged: dead,
            new: dead,
            reserved,
            disk: &[DISK],
            entered: UNIX_EPOCH,
            wound,
        });
        for event in events {
            checking.note(event);
        }
        checking.finish()
    }

    #[test]
    fn a_swap_in_halves_and_translation_turned_off_are_noticed() {
        let problems = |event| checked(&[SWAP, event]).problems.join(" ");
        assert!(!problems(Event::Used { source: 0, iova: 0 }).contains("halves"));
        assert!(problems(Event::HalfRoot { high: true, half: 0 }).contains("in halves"));
        assert!(problems(Event::TurnedOff(0x4700_0000)).contains("turned off by 0x47000000"));
    }

    /// Checks answers of AMD's unit after a swap from tables in which the sound controller has these leaves to others in which it has
    /// those.
    fn answered(old: &[(u64, u64)], new: &[(u64, u64)], answers: &[(u64, u64)]) -> Traced {
        let source = 0x10;
        let tables = [amd(0x1000, source, old), amd(0x8000, source, new)].concat();
        with_ram(0x10000, tables, |ram| {
            let [dead, new] = [0x1000, 0x8000].map(|base| Tables::new(ram, Root::of_devices(base)));
            let reserved = &Reserved::at(Range::new(0x8000, 0x10000));
            let reference = Reference {
                dead,
                damaged: dead,
                new,
                reserved,
                disk: &[DISK],
                entered: UNIX_EPOCH,
                wound: None,
            };
            let mut checking = Checking::new(reference);
            checking.note(&Event::Root(Root::of_devices(0x8000)));
            for &(iova, page) in answers {
                checking.note(&Event::Answered { source, iova, page });
            }
            checking.finish()
        })
    }

    #[test]
    fn an_answer_of_amds_unit_is_compared_by_the_size_of_the_page() {
        // Two pages of 4 KiB, or one of 8 KiB.
        let (small, large) = ([(0x2000, 0xc000), (0x3000, 0xd000)], [(0x2000, 0xce00), (0x3000, 0xce00)]);
        let changed = |old: &[(u64, u64)], new: &[(u64, u64)], answer| {
            let traced = answered(old, new, &[answer]);
            assert_eq!(traced.faults, 0);
            traced.translations_changed
        };
        assert_eq!(changed(&small, &small, (0x3010, 0xd000)), 0);
        assert_eq!(changed(&small, &large, (0x3010, 0xc000)), 0);
        assert_eq!(changed(&large, &small, (0x3010, 0xd000)), 0);
        assert_eq!(changed(&small, &small, (0x3010, 0xc000)), 1);
        assert_eq!(changed(&small, &large, (0x2010, 0xd000)), 1);
    }

    #[test]
    fn a_request_that_amds_unit_leads_to_page_0_was_refused() {
        let leaves = [(0x2000, 0xc000)];
        let traced = answered(&leaves, &[], &[(0x2010, 0)]);
        assert_eq!((traced.faults, traced.translations_changed), (1, 0));
        assert!(traced.problems[0].contains("00:02.0 0x2010 was refused"), "{:?}", traced.problems);
        let to_page_0 = [(0x2000, 0)];
        assert_eq!(answered(&to_page_0, &to_page_0, &[(0x2010, 0)]).faults, 0);
    }

    #[test]
    fn an_address_that_led_nowhere_before_may_only_be_new_for_the_dumps_disk() {
        let request = |device: Device| Event::Translated {
            source: device.source_id(),
            iova: 0x1000,
            address: HOLDOVER.start + 0x1000,
            mask: 0xfff,
        };
        let disk = checked(&[SWAP, request(Device::DUMP_DISK)]);
        assert_eq!((disk.new_translations, disk.translations_changed), (1, 0));
        let sound = checked(&[SWAP, request(Device::SOUND)]);
        assert_eq!((sound.new_translations, sound.translations_changed), (0, 1));
    }

    #[test]
    fn only_the_victim_may_fault_and_only_where_it_was_hurt() {
        let wound = Wound {
            source: Device::SOUND.source_id(),
            iovas: Range::new(0x1000, 0x2000),
            fate: Fate::Closed,
            words: Vec::new(),
        };
        let checked = |source, iova| {
            let words = "a fault".to_owned();
            checked_with(&[Event::Fault(Fault { request: Some((source, iova)), words })], Some(&wound))
        };
        let blames = |traced: Traced| traced.problems.join(" ").contains("a fault");
        assert!(!blames(checked(wound.source, 0x1000)));
        assert!(blames(checked(wound.source, 0x2000)));
        assert!(blames(checked(DISK, 0x1000)));
    }

    #[test]
    fn a_way_through_damaged_tables_must_be_closed_after_the_swap() {
        let wound =
            Wound { source: 0xa0, iovas: Range::new(0, 0x2000), fate: Fate::Closed, words: Vec::new() };
        let request = Event::Translated { source: 0xa0, iova: 0x1000, address: 0x5000, mask: 0xfff };
        let closed =
            |events: &[Event]| !checked_with(events, Some(&wound)).problems.join(" ").contains("damaged");
        assert!(closed(&[request.clone(), SWAP]));
        assert!(!closed(&[SWAP, request]));
    }

    #[test]
    fn damaged_tables_of_amds_may_answer_after_the_swap_until_they_are_forgotten_and_nothing_else_may() {
        let source = 0x10;
        let tables = [amd(0x1000, source, &[(0x2000, 0xc000)]), amd(0x8000, source, &[])].concat();
        let iovas = Range::new(0, 0x20_0000);
        let wound = &Wound { source, iovas, fate: Fate::Closed, words: Vec::new() };
        let problems = |events: &[Event]| {
            with_ram(0x10000, tables.clone(), |ram| {
                let [dead, new] = [0x1000, 0x8000].map(|base| Tables::new(ram, Root::of_devices(base)));
                let reserved = &Reserved::at(Range::new(0x8000, 0x10000));
                let (damaged, wound, entered) = (new, Some(wound), UNIX_EPOCH);
                let mut checking =
                    Checking::new(Reference { dead, damaged, new, reserved, disk: &[DISK], entered, wound });
                checking.note(&Event::Root(Root::of_devices(0x8000)));
                for event in events {
                    checking.note(event);
                }
                checking.finish().problems.join(" ")
            })
        };
        let leads = |events: &[Event]| problems(events).contains("still leads");
        let logs_on = |events: &[Event]| problems(events).contains("dead kernel's log");
        let answer = |page| Event::Answered { source, iova: 0x2000, page };
        let all = Event::Forgotten(Forgotten::All);
        assert!(!leads(&[answer(0xc000), all.clone(), answer(0)]));
        assert!(leads(&[answer(0xd000), all.clone()]), "neither before nor by the damaged tables");
        assert!(leads(&[all, answer(0xc000)]), "forgotten");
        assert!(!logs_on(&[Event::Log(0x900_0000_0000_9000)]));
        assert!(logs_on(&[]) && logs_on(&[Event::Log(0x900_0000_0000_3000)]));
    }

    #[test]
    fn what_other_processors_of_the_dying_kernel_still_map_is_not_held_against_holdover() {
        let text = "1@100.000000:vtd_reg_dmar_root addr 0x0 scalable 0
1@200.000000:vtd_dmar_translate dev 00:12.00 iova 0x1000 -> gpa 0x5000 mask 0xfff
1@300.000000:vtd_dmar_translate dev 00:12.00 iova 0x2000 -> gpa 0x6000 mask 0xfff
";
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            std::fs::write(dir.path().join(name), content).unwrap();
            dir.path().join(name)
        };
        let ram = Ram::open(&file("ram", &[0; 4096])).unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let trace = Trace::read(&file("trace", text.as_bytes()), at(150)).unwrap();
        let changed = |entered| {
            let dead = Tables::new(&ram, trace.dead_root().unwrap());
            let reference = Reference {
                dead,
                damaged: dead,
                new: dead,
                reserved: &Reserved::at(HOLDOVER),
                disk: &[DISK],
                entered,
                wound: None,
            };
            reference.check(&trace).unwrap().translations_changed
        };
        assert_eq!(changed(at(150)), 2);
        assert_eq!(changed(at(250)), 1);
    }

    #[test]
    fn a_crash_without_a_swap_is_no_takeover() {
        assert!(checked(&[]).problems.iter().any(|problem| problem.contains("never swapped")));
    }
}
