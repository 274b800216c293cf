//! The first witness: QEMU's trace of its remapping unit, which names every access, every fault and every command.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use machine::PAGE_SIZE;
use serde::Serialize;

use super::tables::{Root, Tables};
use crate::damage::{Fate, Wound};
use crate::reserved::Reserved;
use crate::scenario::device::Device;

/// Translation enable: bit 31 of the global command and status registers (VT-d specification, section 11.4.4).
const TRANSLATION_ENABLE: u32 = 1 << 31;

/// One line of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    at: Duration,
    event: Event,
}

/// What the unit did.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// A device's request was translated; `mask` covers the offset within the page.
    Translated { source: u16, iova: u64, address: u64, mask: u64 },
    /// A device has used an address, exactly.
    Used { source: u16, iova: u64 },
    /// Software wrote the root table's address.
    Root(Root),
    /// Software wrote the global command register.
    Command { status: u32, value: u32 },
    /// A request was refused, or something else went wrong.
    Fault(Fault),
}

/// A request that was refused, if it was that, in QEMU's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Whose request for which I/O page.
    request: Option<(u16, u64)>,
    words: String,
}

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

/// A trace that was read, with what is known about the crash from elsewhere.
pub(crate) struct Trace {
    /// Before the panic.
    before: Vec<Entry>,
    /// From the panic on.
    after: Vec<Entry>,
}

impl Trace {
    /// Reads a trace and cuts it in two at the panic.
    pub(crate) fn read(file: &Path, panic: SystemTime) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("no trace in {}", file.display()))?;
        let mut before: Vec<_> = text.lines().filter_map(parse).collect();
        let panic = panic.duration_since(UNIX_EPOCH)?;
        let after = before.split_off(before.partition_point(|entry| entry.at < panic));
        Ok(Self { before, after })
    }

    /// The dead kernel's root table.
    pub(crate) fn dead_root(&self) -> Result<Root> {
        self.before.iter().rev().find_map(Entry::root).context("the dead kernel set no root table")
    }

    /// Holdover's root table, if it has set one.
    pub(crate) fn new_root(&self) -> Option<Root> {
        self.after.iter().rev().find_map(Entry::root)
    }

    /// The lowest I/O page that a function has used before the panic: the sound controller's are the samples it plays.
    pub(crate) fn lowest_iova(&self, source: u16) -> Option<u64> {
        let used = self.before.iter().filter_map(|entry| match entry.event {
            Event::Translated { source: user, iova, .. } if user == source => Some(iova & !(PAGE_SIZE - 1)),
            _ => None,
        });
        used.min()
    }

    /// The I/O pages that some functions have used from the panic on.
    pub(crate) fn used_by(&self, sources: &[u16]) -> HashSet<u64> {
        let page = |entry: &Entry| match entry.event {
            Event::Used { source, iova } if sources.contains(&source) => Some(iova & !(PAGE_SIZE - 1)),
            _ => None,
        };
        self.after.iter().filter_map(page).collect()
    }
}

/// What the trace is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    /// What the dead kernel left.
    pub(crate) dead: Tables<'a>,
    /// Holdover's memory.
    pub(crate) reserved: &'a Reserved,
    /// Source-ids of the dump's disk.
    pub(crate) disk: &'a [u16],
    /// When Holdover started: until then other processors of the dying kernel may still map and unmap.
    pub(crate) entered: SystemTime,
    /// What was damaged.
    pub(crate) wound: Option<&'a Wound>,
}

impl Case<'_> {
    /// Counts faults from the panic on, and compares every access since Holdover started with the dead kernel's tables.
    pub(crate) fn judge(self, trace: &Trace) -> Result<Traced> {
        let entered = self.entered.duration_since(UNIX_EPOCH)?;
        let mut judging = Judging::new(self);
        let unsettled =
            |entry: &&Entry| entry.at < entered && matches!(entry.event, Event::Translated { .. });
        for entry in trace.after.iter().filter(|entry| !unsettled(entry)) {
            judging.hear(&entry.event);
        }
        Ok(judging.finish())
    }
}

/// The judgement while it is under way.
struct Judging<'a> {
    case: Case<'a>,
    /// What the dead kernel's tables say, remembered: devices ask for the same pages again and again.
    known: HashMap<(u16, u64), Option<u64>>,
    swapped: bool,
    active: BTreeMap<u16, u64>,
    traced: Traced,
}

impl<'a> Judging<'a> {
    fn new(case: Case<'a>) -> Self {
        let (known, active, traced) = (HashMap::new(), BTreeMap::new(), Traced::default());
        Self { case, known, swapped: false, active, traced }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::Used { .. } => {}
            Event::Fault(fault) => self.fault(fault),
            Event::Root(root) => self.swap(*root),
            Event::Command { status, value } => self.command(*status, *value),
            Event::Translated { source, iova, address, mask } => {
                let expected = self.expected(*source, *iova);
                self.translated(*source, *iova, address + (iova & mask), expected);
            }
        }
    }

    fn fault(&mut self, fault: &Fault) {
        self.traced.faults += 1;
        let wound = self.case.wound;
        if fault.request.is_some_and(|(source, iova)| wound.is_some_and(|wound| wound.concerns(source, iova)))
        {
            self.traced.faults_of_victim += 1;
        } else if self.traced.faults - self.traced.faults_of_victim == 1 {
            self.traced.problems.push(format!("first fault: {}", fault.words));
        }
    }

    fn swap(&mut self, root: Root) {
        self.swapped = true;
        let address = root.address;
        if !self.case.reserved.contains(address) {
            self.traced.problems.push(format!("the root table at {address:#x} is not in Holdover's memory"));
        }
    }

    fn command(&mut self, status: u32, value: u32) {
        if status & TRANSLATION_ENABLE != 0 && value & TRANSLATION_ENABLE == 0 {
            self.traced.problems.push(format!("translation was turned off by command {value:#x}"));
        }
    }

    fn expected(&mut self, source: u16, iova: u64) -> Option<u64> {
        let dead = self.case.dead;
        *self.known.entry((source, iova)).or_insert_with(|| dead.translate(source, iova))
    }

    fn translated(&mut self, source: u16, iova: u64, address: u64, expected: Option<u64>) {
        let Case { reserved, disk, wound, .. } = self.case;
        let new_mapping = self.swapped && disk.contains(&source) && reserved.contains(address);
        let wound = wound.filter(|wound| wound.concerns(source, iova));
        match (expected, wound) {
            (Some(expected), None) if expected == address => self.unchanged(source),
            (None, _) | (_, Some(_)) if new_mapping => self.traced.new_translations += 1,
            (_, Some(wound)) => self.through_damage(wound, iova, address),
            (expected, None) => self.changed(source, iova, address, expected),
        }
    }

    /// A request went through damaged tables: before the swap because the unit did not know yet.
    fn through_damage(&mut self, wound: &Wound, iova: u64, address: u64) {
        if !self.swapped {
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
        if !self.swapped {
            self.traced.problems.push("the root pointer was never swapped".to_owned());
        }
        let disk = self.case.disk;
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

impl Entry {
    fn root(&self) -> Option<Root> {
        match self.event {
            Event::Root(root) => Some(root),
            _ => None,
        }
    }
}

/// Parses `PID@SECONDS.MICROSECONDS:EVENT VALUES`; `None` for what else QEMU writes to its log.
fn parse(line: &str) -> Option<Entry> {
    let (stamp, said) = line.split_once('@')?.1.split_once(':')?;
    let (seconds, micros) = stamp.split_once('.')?;
    let at = Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?);
    let (name, values) = said.split_once(' ').unwrap_or((said, ""));
    Some(Entry { at, event: event(name, values)? })
}

fn event(name: &str, values: &str) -> Option<Event> {
    let words: Vec<_> = values.split_whitespace().collect();
    match name {
        "vtd_dmar_translate" => translated(&words),
        "vtd_iotlb_page_hit" | "vtd_iotlb_page_update" => used(&words),
        "vtd_reg_dmar_root" => root(&words),
        "vtd_reg_write_gcmd" => {
            let (status, value) = (number(after(&words, "status")?)?, number(after(&words, "value")?)?);
            Some(Event::Command { status: status as u32, value: value as u32 })
        }
        _ => Some(Event::Fault(Fault { request: refused(name, &words), words: format!("{name} {values}") })),
    }
}

/// `IOTLB page hit sid 0x90 iova 0x2d72040 slpte 0x2c00083 domain 0x2`
fn used(words: &[&str]) -> Option<Event> {
    let source = number(after(words, "sid")?)? as u16;
    Some(Event::Used { source, iova: number(after(words, "iova")?)? })
}

/// `addr 0x2665000 scalable 0`
fn root(words: &[&str]) -> Option<Event> {
    let address = number(after(words, "addr")?)?;
    Some(Event::Root(Root { address, scalable: after(words, "scalable")? == "1" }))
}

/// `vtd_dmar_fault sid 0xa0 fault 5 addr 0x1000 write 1`, or the record of it, `vtd_frr_new index 0 high 0x80000005000000a0 low
/// 0x1000` (VT-d specification, section 11.4.14.1): source-id in bits 79:64.
fn refused(name: &str, words: &[&str]) -> Option<(u16, u64)> {
    let (source, address) = match name {
        "vtd_dmar_fault" => (number(after(words, "sid")?)?, number(after(words, "addr")?)?),
        "vtd_frr_new" => (number(after(words, "high")?)? & 0xffff, number(after(words, "low")?)?),
        _ => return None,
    };
    Some((source as u16, address & !(PAGE_SIZE - 1)))
}

/// `dev 00:14.00 iova 0xfffff000 -> gpa 0x123000 mask 0xfff`
fn translated(words: &[&str]) -> Option<Event> {
    let source = source_id(after(words, "dev")?)?;
    let iova = number(after(words, "iova")?)?;
    let address = number(after(words, "gpa")?)?;
    Some(Event::Translated { source, iova, address, mask: number(after(words, "mask")?)? })
}

/// Bus, device and function, all hexadecimal, as one number.
fn source_id(text: &str) -> Option<u16> {
    let (bus, rest) = text.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let [bus, device, function] = [bus, device, function].map(|part| u16::from_str_radix(part, 16).ok());
    Some(bus? << 8 | device? << 3 | function?)
}

fn after<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == name)?;
    words.get(at + 1).copied()
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram::Ram;
    use machine::Range;

    const HOLDOVER: Range = Range::new(0x3e00_0000, 0x3f00_0000);
    const SWAP: Event = Event::Root(Root { address: HOLDOVER.start, scalable: false });
    const DISK: u16 = Device::DUMP_DISK.source_id();

    fn parsed(line: &str) -> Event {
        parse(line).unwrap().event
    }

    /// Judges events against the tables of a machine in which nothing is mapped.
    fn judged(events: &[Event]) -> Traced {
        judged_with(events, None)
    }

    fn judged_with(events: &[Event], wound: Option<&Wound>) -> Traced {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ram"), [0; 4096]).unwrap();
        let ram = Ram::open(&dir.path().join("ram")).unwrap();
        let dead = Tables::new(&ram, Root { address: 0, scalable: false });
        let reserved = &Reserved::at(HOLDOVER);
        let mut judging = Judging::new(Case { dead, reserved, disk: &[DISK], entered: UNIX_EPOCH, wound });
        for event in events {
            judging.hear(event);
        }
        judging.finish()
    }

    #[test]
    fn a_translation_names_function_and_addresses() {
        let line = "77@1795330636.217867:vtd_dmar_translate dev 00:14.00 iova 0xffff4000 -> gpa 0x2c518000 mask 0xfff";
        let expected =
            Event::Translated { source: 0xa0, iova: 0xffff_4000, address: 0x2c51_8000, mask: 0xfff };
        assert_eq!(parsed(line), expected);
        assert_eq!(parse(line).unwrap().at, Duration::new(1_795_330_636, 217_867_000));
    }

    #[test]
    fn whatever_else_the_unit_says_is_a_fault() {
        let request = |said: &str| match parsed(&format!("77@1.000002:{said}")) {
            Event::Fault(fault) => fault.request,
            other => panic!("{other:?} is no fault"),
        };
        assert_eq!(request("vtd_dmar_fault sid 0xa0 fault 5 addr 0x1234 write 1"), Some((0xa0, 0x1000)));
        assert_eq!(request("vtd_frr_new index 0 high 0x80000005000000a0 low 0x1000"), Some((0xa0, 0x1000)));
        assert_eq!(request("vtd_err_dmar_translate dev 00:14.00 iova 0x0"), None);
    }

    #[test]
    fn what_the_cache_of_translations_is_asked_for_is_exact() {
        let line = "77@1.000002:vtd_iotlb_page_hit IOTLB page hit sid 0x90 iova 0x2d72040 slpte 0x2c00083 domain 0x2";
        assert_eq!(parsed(line), Event::Used { source: 0x90, iova: 0x2d7_2040 });
    }

    #[test]
    fn a_root_table_is_of_one_mode() {
        let line = "77@1.000002:vtd_reg_dmar_root addr 0x2665000 scalable 1";
        assert_eq!(parsed(line), Event::Root(Root { address: 0x266_5000, scalable: true }));
    }

    #[test]
    fn lines_of_another_kind_are_not_events() {
        assert_eq!(parse("qemu-system-x86_64: warning: something"), None);
    }

    #[test]
    fn clearing_translation_enable_is_noticed_and_setting_other_bits_is_not() {
        let kept = Event::Command { status: 0xc700_0000, value: 0xc300_0000 };
        let cleared = Event::Command { status: 0xc700_0000, value: 0x4700_0000 };
        let off = "turned off";
        assert!(!judged(&[SWAP, kept]).problems.join(" ").contains(off));
        assert!(judged(&[SWAP, cleared]).problems.join(" ").contains(off));
    }

    #[test]
    fn an_address_that_led_nowhere_before_may_only_be_new_for_the_dumps_disk() {
        let request = |device: Device| Event::Translated {
            source: device.source_id(),
            iova: 0x1000,
            address: HOLDOVER.start + 0x1000,
            mask: 0xfff,
        };
        let disk = judged(&[SWAP, request(Device::DUMP_DISK)]);
        assert_eq!((disk.new_translations, disk.translations_changed), (1, 0));
        let sound = judged(&[SWAP, request(Device::SOUND)]);
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
        let judged = |source, iova| {
            let words = "a fault".to_owned();
            judged_with(&[Event::Fault(Fault { request: Some((source, iova)), words })], Some(&wound))
        };
        let blames = |traced: Traced| traced.problems.join(" ").contains("a fault");
        assert!(!blames(judged(wound.source, 0x1000)));
        assert!(blames(judged(wound.source, 0x2000)));
        assert!(blames(judged(DISK, 0x1000)));
    }

    #[test]
    fn a_way_through_damaged_tables_must_be_closed_after_the_swap() {
        let wound =
            Wound { source: 0xa0, iovas: Range::new(0, 0x2000), fate: Fate::Closed, words: Vec::new() };
        let request = Event::Translated { source: 0xa0, iova: 0x1000, address: 0x5000, mask: 0xfff };
        let closed =
            |events: &[Event]| !judged_with(events, Some(&wound)).problems.join(" ").contains("damaged");
        assert!(closed(&[request.clone(), SWAP]));
        assert!(!closed(&[SWAP, request]));
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
            let case = Case { dead, reserved: &Reserved::at(HOLDOVER), disk: &[DISK], entered, wound: None };
            case.judge(&trace).unwrap().translations_changed
        };
        assert_eq!(changed(at(150)), 2);
        assert_eq!(changed(at(250)), 1);
    }

    #[test]
    fn a_crash_without_a_swap_is_no_takeover() {
        assert!(judged(&[]).problems.iter().any(|problem| problem.contains("never swapped")));
    }
}
