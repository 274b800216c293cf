//! What the trace shows of a hand-over to another Linux: until its dump is complete no request is refused, translation is never
//! turned off, and devices that nobody starts anew go on by the translations that they had.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use super::Trace;
use super::event::{Entry, Event};
use crate::machines::reserved::Reserved;
use crate::machines::scenario::capture::SecondTables;
use crate::machines::scenario::device::Device;

/// When the second Linux got how far, by the console; `None` if it never did.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    /// Its first program started: drivers of devices are loaded from then on.
    pub(crate) init: Option<SystemTime>,
    /// Its dump was complete. It may turn translation off afterwards.
    pub(crate) complete: Option<SystemTime>,
}

/// The largest page of an identity table that Holdover makes.
const LARGE_PAGE: u64 = 1 << 30;

/// What was seen of it, each number by device.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct HandedOver {
    /// Requests that were refused before drivers were loaded.
    pub(crate) faults_before_drivers: BTreeMap<String, u64>,
    /// Those refused afterwards.
    pub(crate) faults_with_drivers: BTreeMap<String, u64>,
    /// Requests that were translated after the second Linux had got hold of the unit, and before drivers were loaded.
    pub(crate) translated: BTreeMap<String, u64>,
    /// How often a root table was set.
    pub(crate) roots: u64,
    /// How often, after Holdover, AMD's unit was made to begin with the first command of its buffer: each Linux does so when it gets hold of
    /// the unit.
    pub(crate) commands_anew: u64,
    /// How often translation was turned off.
    pub(crate) turned_off: u64,
}

impl HandedOver {
    /// Reads it from a trace.
    pub(crate) fn of(trace: &Trace, times: Times) -> Result<Self> {
        let since = |time: Option<SystemTime>| match time {
            Some(time) => time.duration_since(UNIX_EPOCH),
            None => Ok(Duration::MAX),
        };
        let (init, complete) = (since(times.init)?, since(times.complete)?);
        let mut seen = Self::default();
        let mut is_holdovers = true;
        for Entry { at, event } in trace.after.iter().take_while(|entry| entry.at < complete) {
            let faults =
                if *at < init { &mut seen.faults_before_drivers } else { &mut seen.faults_with_drivers };
            match event {
                // To page 0 leads what AMD's unit refuses, and what is in a large page that begins there.
                Event::Answered { source, page: 0, iova } if *iova >= LARGE_PAGE => {
                    *faults.entry(Device::name_of(*source)).or_default() += 1;
                }
                Event::Fault(fault) => {
                    let device = fault
                        .request
                        .map_or_else(|| "nobody".to_owned(), |(source, _)| Device::name_of(source));
                    *faults.entry(device).or_default() += 1;
                }
                Event::Translated { source, .. } | Event::Answered { source, .. }
                    if seen.is_in_second_hands() && *at < init =>
                {
                    *seen.translated.entry(Device::name_of(*source)).or_default() += 1;
                }
                Event::Root(_) => seen.roots += 1,
                Event::CommandsAnew if is_holdovers => is_holdovers = false,
                Event::CommandsAnew => seen.commands_anew += 1,
                Event::TurnedOff(_) => seen.turned_off += 1,
                _ => {}
            }
        }
        Ok(seen)
    }

    /// Whether the second Linux has got hold of the unit.
    fn is_in_second_hands(&self) -> bool {
        self.roots > 1 || self.commands_anew > 0
    }

    /// What is wrong with it. `reserved` is the memory in which Holdover's root table must have been, if `tables` says that
    /// there was one; the device is one that must have been at work all the time, if it matters which.
    pub(crate) fn problems(
        &self,
        trace: &Trace,
        reserved: &Reserved,
        tables: SecondTables,
        at_work: Option<Device>,
    ) -> Vec<String> {
        // Kernels for clouds have NVMe's driver built in.
        let is_new = |device: &String| *device == Device::SLOW_DISK.name;
        let was_at_work = at_work.map_or_else(
            || self.translated.keys().any(|device| !is_new(device)),
            |device| self.translated.contains_key(device.name),
        );
        let (are_as_many, wanted) = match tables {
            SecondTables::Own => (self.roots >= 2, "Holdover's and the second Linux's"),
            SecondTables::Holdovers => {
                (self.roots == 1, "Holdover's alone, with which the second Linux goes on")
            }
            SecondTables::Dead => (self.roots == 0, "none: the dead kernel's stays"),
        };
        let first = trace.after.iter().find_map(Entry::root);
        [
            (
                !self.faults_before_drivers.is_empty(),
                format!("refused before drivers were loaded: {:?}", self.faults_before_drivers),
            ),
            (
                !self.faults_with_drivers.is_empty(),
                format!("refused with drivers: {:?}", self.faults_with_drivers),
            ),
            (self.turned_off > 0, "the second Linux turned translation off".to_owned()),
            (!are_as_many, format!("{} root tables were set, and not {wanted}", self.roots)),
            (!self.is_in_second_hands(), "the second Linux never got hold of the unit".to_owned()),
            (
                tables != SecondTables::Dead && !first.is_some_and(|root| reserved.contains(root.address)),
                "the first of them is not Holdover's".to_owned(),
            ),
            (
                !was_at_work,
                "no device that must was at work in the second Linux before its drivers: nothing was shown"
                    .to_owned(),
            ),
        ]
        .into_iter()
        .filter_map(|(is_wrong, what)| is_wrong.then_some(what))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use machine::Range;

    use super::*;

    const RESERVED: Range<u64> = Range::new(0x2c00_0000, 0x3c00_0000);
    const GOOD: &str = "1@10.000000:vtd_reg_dmar_root addr 0x27b1000 scalable 0
1@101.000000:vtd_reg_dmar_root addr 0x2c2de000 scalable 0
1@102.000000:vtd_reg_dmar_root addr 0x2e916000 scalable 0
1@103.000000:vtd_dmar_translate dev 00:14.00 iova 0x1000 -> gpa 0x5000 mask 0xfff
1@109.000000:vtd_reg_write_gcmd status 0xc7000000 value 0x6000000
";

    /// What is wrong with a trace of a Linux that sets its own table.
    fn problems(text: &str) -> Vec<String> {
        problems_of(text, SecondTables::Own)
    }

    fn problems_of(text: &str, tables: SecondTables) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trace");
        std::fs::write(&file, text).unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let trace = Trace::read(&file, at(100)).unwrap();
        let seen = HandedOver::of(&trace, Times { init: Some(at(104)), complete: Some(at(108)) }).unwrap();
        seen.problems(&trace, &Reserved::at(RESERVED), tables, Some(Device::SOUND))
    }

    fn with(line: &str) -> String {
        problems(&GOOD.replace("1@109", &format!("{line}\n1@109"))).join("; ")
    }

    #[test]
    fn what_happens_after_the_dump_is_no_matter() {
        assert_eq!(problems(GOOD), Vec::<String>::new());
    }

    #[test]
    fn a_fault_and_translation_turned_off_are_noticed() {
        let fault = "vtd_dmar_fault sid 0xa0 fault 5 addr 0x1000 write 1";
        assert!(with(&format!("1@103.500000:{fault}")).contains("before drivers were loaded: {\"HDA\": 1}"));
        assert!(with(&format!("1@105.000000:{fault}")).contains("with drivers: {\"HDA\": 1}"));
        let off = "1@105.000000:vtd_reg_write_gcmd status 0xc7000000 value 0x6000000";
        assert!(with(off).contains("turned translation off"));
    }

    #[test]
    fn a_linux_that_goes_on_with_holdovers_table_sets_none_and_gets_hold_of_the_unit() {
        let at = |second: u32, what: &str| {
            use std::fmt::Write;
            let mut line = String::new();
            let _ = writeln!(line, "1970-01-01T00:01:{second:02}.000000Z {what}");
            line
        };
        let written = |second, at_register: &str, value: &str| {
            at(
                second,
                &format!("amdvi_mmio_write X write addr {at_register}, size 8, val {value}, offset 0x0"),
            )
        };
        let before = "1970-01-01T00:00:10.000000Z amdvi_mmio_write X write addr 0x0, size 8, val 0x11f0001, offset 0x0\n";
        let began = written(41, "0x2000", "0x0");
        let (swap, hold) = (began.clone() + &written(41, "0x0", "0x2c2de001"), written(42, "0x2000", "0x0"));
        let answer = at(43, "amdvi_translation_result devid: 00:14.0 gpa 0xffff7020 hpa 0x15887000");
        let whole = [before, &swap, &hold, &answer].concat();
        assert_eq!(problems_of(&whole, SecondTables::Holdovers), Vec::<String>::new());
        assert!(problems_of(&whole, SecondTables::Own).join("; ").contains("1 root tables"));
        let own = whole.clone() + &written(44, "0x0", "0x2e916001");
        assert!(problems_of(&own, SecondTables::Holdovers).join("; ").contains("not Holdover's alone"));
        let untouched = [before, &swap, &answer].concat();
        assert!(problems_of(&untouched, SecondTables::Holdovers).join("; ").contains("never got hold"));

        let in_place = [before, &began, &hold, &answer].concat();
        assert_eq!(problems_of(&in_place, SecondTables::Dead), Vec::<String>::new());
        assert!(problems_of(&in_place, SecondTables::Holdovers).join("; ").contains("0 root tables"));
        assert!(problems_of(&whole, SecondTables::Dead).join("; ").contains("1 root tables"));
    }

    /// QEMU says where an answer's page begins, however large the page is: with addresses as they are, it is the first for many.
    #[test]
    fn an_answer_in_a_large_page_at_0_is_no_refusal() {
        let answer = |iova: &str| {
            let line = format!(
                "1970-01-01T00:01:43.000000Z amdvi_translation_result devid: 00:14.0 gpa {iova} hpa 0x0"
            );
            problems(&GOOD.replace("1@109", &format!("{line}\n1@109"))).join("; ")
        };
        assert_eq!(answer("0x103f000"), "");
        assert!(answer("0xffff7020").contains("before drivers were loaded: {\"HDA\": 1}"));
    }

    #[test]
    fn a_crash_in_which_nobody_handed_over_shows_nothing() {
        let without = |line: &str| {
            let lines: Vec<_> = GOOD.lines().filter(|kept| !kept.contains(line)).collect();
            problems(&(lines.join("\n") + "\n")).join("; ")
        };
        assert!(without("0x2e916000").contains("1 root tables"));
        assert!(without("0x2c2de000").contains("not Holdover's"));
        assert!(without("dev 00:14").contains("nothing was shown"));
    }
}
