//! The lines of QEMU's trace; those of AMD's unit are in `amd`.

mod amd;
mod time;

pub(super) use amd::with_requests;

use std::time::Duration;

use machine::PAGE_SIZE;

use super::super::tables::{Layout, Root};

/// Translation enable: bit 31 of the global command and status registers (VT-d specification, section 11.4.4).
const TRANSLATION_ENABLE: u64 = 1 << 31;

/// One line of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: Duration,
    pub(super) event: Event,
}

/// What the unit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A device's request was translated; `mask` covers the offset within the page.
    Translated { source: u16, iova: u64, address: u64, mask: u64 },
    /// A device has used an address, exactly.
    Used { source: u16, iova: u64 },
    /// The same, and what it led to: the beginning of a page of unknown size, or 0 if the request was refused. AMD's unit says
    /// this of each request.
    Answered { source: u16, iova: u64, page: u64 },
    /// Software wrote the root table's address, or the device table's.
    Root(Root),
    /// Software wrote one half of the device table's base; the unit has it when the second half comes.
    HalfRoot { high: bool, half: u64 },
    /// Software named the memory in which AMD's unit logs events, by this value of a register.
    Log(u64),
    /// Software wrote one half of that.
    HalfLog { high: bool, half: u64 },
    /// Software had AMD's unit begin with the first command of its buffer.
    CommandsAnew,
    /// Software turned translation off, by this value of a register.
    TurnedOff(u64),
    /// Software had the unit forget something.
    Forgotten(Forgotten),
    /// A request was refused, or something else went wrong.
    Fault(Fault),
}

/// What AMD's unit was told to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forgotten {
    /// A function's device table entry.
    Entry(u16),
    /// The translations of a domain.
    Domain(u16),
    /// Everything.
    All,
}

/// A request that was refused, if it was that, in QEMU's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Whose request for which I/O page.
    pub(super) request: Option<(u16, u64)>,
    pub(super) words: String,
}

impl Entry {
    pub(super) fn root(&self) -> Option<Root> {
        match self.event {
            Event::Root(root) => Some(root),
            _ => None,
        }
    }
}

/// Parses `PID@SECONDS.MICROSECONDS:EVENT VALUES` or, of QEMU since 11, `YEAR-MONTH-DAYTHOUR:MINUTE:SECOND.MICROSECONDSZ EVENT VALUES`;
/// `None` for what else QEMU writes to its log.
pub(super) fn parse(line: &str) -> Option<Entry> {
    let (at, said) = match line.split_once(' ') {
        Some((stamp, said)) if stamp.ends_with('Z') => (time::of_date(stamp)?, said),
        _ => {
            let (stamp, said) = line.split_once('@')?.1.split_once(':')?;
            (time::of_seconds(stamp)?, said)
        }
    };
    let (name, values) = said.split_once(' ').unwrap_or((said, ""));
    Some(Entry { at, event: event(name, values)? })
}

fn event(name: &str, values: &str) -> Option<Event> {
    let words: Vec<_> = values.split_whitespace().collect();
    if name.starts_with("amdvi_") {
        return amd::event(name, &words);
    }
    match name {
        "vtd_dmar_translate" => translated(&words),
        "vtd_iotlb_page_hit" | "vtd_iotlb_page_update" => used(&words),
        "vtd_reg_dmar_root" => root(&words),
        "vtd_reg_write_gcmd" => {
            let (status, value) = (number(after(&words, "status")?)?, number(after(&words, "value")?)?);
            (status & !value & TRANSLATION_ENABLE != 0).then_some(Event::TurnedOff(value))
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
    let layout = if after(words, "scalable")? == "1" { Layout::Scalable } else { Layout::Legacy };
    Some(Event::Root(Root { address, layout }))
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

    fn parsed(line: &str) -> Event {
        parse(line).unwrap().event
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
        assert_eq!(parsed(line), Event::Root(Root { address: 0x266_5000, layout: Layout::Scalable }));
    }

    #[test]
    fn only_clearing_translation_enable_turns_translation_off() {
        let command = |said: &str| parse(&format!("77@1.000002:vtd_reg_write_gcmd {said}"));
        let off = command("status 0xc7000000 value 0x47000000").unwrap().event;
        assert_eq!(off, Event::TurnedOff(0x4700_0000));
        assert_eq!(command("status 0xc7000000 value 0xc3000000"), None);
        assert_eq!(command("status 0x47000000 value 0x43000000"), None);
    }

    #[test]
    fn lines_of_another_kind_are_not_events() {
        assert_eq!(parse("qemu-system-x86_64: warning: something"), None);
    }
}
