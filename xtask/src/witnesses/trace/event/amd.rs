//! What QEMU 11.1's trace says of AMD's unit.
//!
//! A request that is refused leads to page 0; why is in a line before, which does not say whose request it was: [`with_requests`] puts
//! both together.

use super::super::super::tables::Root;
use super::{Entry, Event, Fault, Forgotten, after, number, source_id};
use machine::PAGE_SIZE;

/// Where the registers are that matter, from the unit's first (AMD I/O virtualization technology specification, section 3.4).
const DEVICE_TABLE_BASE: u64 = 0x00;
const UPPER_HALF: u64 = DEVICE_TABLE_BASE + 4;
const EVENT_LOG_BASE: u64 = 0x10;
const UPPER_HALF_OF_LOG: u64 = EVENT_LOG_BASE + 4;
const COMMAND_HEAD: u64 = 0x2000;

/// `IommuEn` of the control register.
const ENABLE: u64 = 1 << 0;

/// The event of a line, by its name and the words of its values.
pub(super) fn event(name: &str, words: &[&str]) -> Option<Event> {
    match name {
        "amdvi_translation_result" => answered(words),
        "amdvi_mmio_write" => written(words),
        "amdvi_control_status" => {
            let control = number(words.last()?)?;
            (control & ENABLE == 0).then_some(Event::TurnedOff(control))
        }
        "amdvi_devtab_inval" => Some(Event::Forgotten(Forgotten::Entry(source_id(after(words, "devid:")?)?))),
        "amdvi_pages_inval" => {
            Some(Event::Forgotten(Forgotten::Domain(number(after(words, "domain")?)? as u16)))
        }
        "amdvi_all_inval" => Some(Event::Forgotten(Forgotten::All)),
        _ => Some(Event::Fault(Fault { request: None, words: format!("{name} {}", words.join(" ")) })),
    }
}

/// `devid: 00:14.0 gpa 0xffff4123 hpa 0x2c518000`
fn answered(words: &[&str]) -> Option<Event> {
    let source = source_id(after(words, "devid:")?)?;
    let iova = number(after(words, "gpa")?)?;
    Some(Event::Answered { source, iova, page: number(after(words, "hpa")?)? })
}

/// `AMDVI_MMIO_DEVICE_TABLE write addr 0x0, size 8, val 0x2665001, offset 0x0`
fn written(words: &[&str]) -> Option<Event> {
    let value = |name| Some(after(words, name)?.trim_end_matches(','));
    let (at, written) = (number(value("addr")?)?, number(value("val")?)?);
    match (at, value("size")?) {
        (DEVICE_TABLE_BASE, "8") => Some(Event::Root(Root::of_devices(written))),
        (DEVICE_TABLE_BASE | UPPER_HALF, _) => {
            Some(Event::HalfRoot { high: at == UPPER_HALF, half: written })
        }
        (EVENT_LOG_BASE, "8") => Some(Event::Log(written)),
        (EVENT_LOG_BASE | UPPER_HALF_OF_LOG, _) => {
            Some(Event::HalfLog { high: at == UPPER_HALF_OF_LOG, half: written })
        }
        (COMMAND_HEAD, _) if written == 0 => Some(Event::CommandsAnew),
        _ => None,
    }
}

/// Says of each fault that does not name its request which one it was, if the next line answers that: with page 0. One fault is made of both.
pub(in super::super) fn with_requests(entries: Vec<Entry>) -> Vec<Entry> {
    let mut named: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        match (named.last_mut().map(|last| &mut last.event), &entry.event) {
            (
                Some(Event::Fault(fault @ Fault { request: None, .. })),
                Event::Answered { source, iova, page: 0 },
            ) => fault.request = Some((*source, iova & !(PAGE_SIZE - 1))),
            _ => named.push(entry),
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::super::super::super::tables::Root;
    use super::super::parse;
    use super::*;

    /// What a line says, after its time.
    fn said(line: &str) -> Option<Event> {
        Some(parse(&format!("2026-11-30T10:13:36.414730Z {line}"))?.event)
    }

    #[test]
    fn an_answer_names_function_exact_address_and_page() {
        let line = "amdvi_translation_result devid: 00:14.0 gpa 0xffff7020 hpa 0x15887000";
        let answered = Event::Answered { source: 0xa0, iova: 0xffff_7020, page: 0x1588_7000 };
        assert_eq!(said(line), Some(answered));
    }

    #[test]
    fn the_base_of_the_device_table_is_told_from_other_registers_and_a_half_from_the_whole() {
        let written = |value: &str| said(&format!("amdvi_mmio_write {value}, offset 0x0"));
        let whole = written("AMDVI_MMIO_DEVICE_TABLE write addr 0x0, size 8, val 0x11f0001");
        assert_eq!(whole, Some(Event::Root(Root::of_devices(0x11f_0001))));
        let low = written("AMDVI_MMIO_DEVICE_TABLE write addr 0x0, size 4, val 0x11f0001");
        assert_eq!(low, Some(Event::HalfRoot { high: false, half: 0x11f_0001 }));
        let high = written("UNHANDLED write addr 0x4, size 4, val 0x1");
        assert_eq!(high, Some(Event::HalfRoot { high: true, half: 1 }));
        let log = written("AMDVI_MMIO_EVENT_BASE write addr 0x10, size 4, val 0x11f4000");
        assert_eq!(log, Some(Event::HalfLog { high: false, half: 0x11f_4000 }));
        let log = written("AMDVI_MMIO_EVENT_BASE write addr 0x10, size 8, val 0x9000000011f4000");
        assert_eq!(log, Some(Event::Log(0x900_0000_011f_4000)));
        let anew = written("AMDVI_MMIO_DEVTAB_BASE write addr 0x2000, size 4, val 0x0");
        assert_eq!(anew, Some(Event::CommandsAnew));
        assert_eq!(written("AMDVI_MMIO_COMMAND_TAIL write addr 0x2008, size 4, val 0xff0"), None);
        assert_eq!(written("AMDVI_MMIO_COMMAND_BASE write addr 0x8, size 8, val 0x9000000001200000"), None);
    }

    #[test]
    fn only_clearing_the_enable_bit_turns_translation_off() {
        assert_eq!(said("amdvi_control_status MMIO_STATUS state 0x3148e"), Some(Event::TurnedOff(0x3_148e)));
        assert_eq!(said("amdvi_control_status MMIO_STATUS state 0x3048f"), None);
    }

    #[test]
    fn what_the_unit_is_told_to_forget_is_known() {
        let forgotten = |line| match said(line) {
            Some(Event::Forgotten(forgotten)) => forgotten,
            other => panic!("{other:?}"),
        };
        let entry = forgotten("amdvi_devtab_inval device table entry for devid: 00:1f.2 invalidated");
        assert_eq!(entry, Forgotten::Entry(0xfa));
        let domain = forgotten("amdvi_pages_inval AMD-Vi pages for domain 0x4 invalidated");
        assert_eq!(domain, Forgotten::Domain(4));
        assert_eq!(forgotten("amdvi_all_inval Invalidation of all AMD-Vi cache requested"), Forgotten::All);
    }

    #[test]
    fn a_fault_is_that_of_the_request_that_is_refused_next_and_of_no_other() {
        let line = |said: &str| parse(&format!("2026-11-30T10:13:36.414730Z {said}")).unwrap();
        let fault = || line("amdvi_page_fault error: page fault accessing guest physical address 0xffff7020");
        let answer =
            |page| line(&format!("amdvi_translation_result devid: 00:14.0 gpa 0xffff7020 hpa {page}"));
        let requests = |entries: &[Entry]| -> Vec<_> {
            let named = with_requests(entries.to_vec());
            let request = |entry: &Entry| match &entry.event {
                Event::Fault(fault) => Some(fault.request),
                _ => None,
            };
            named.iter().map(request).collect()
        };
        assert_eq!(requests(&[fault(), answer("0x0")]), [Some(Some((0xa0, 0xffff_7000)))]);
        assert_eq!(requests(&[fault(), answer("0x5000")]), [Some(None), None]);
        assert_eq!(
            requests(&[fault(), fault(), answer("0x0")]),
            [Some(None), Some(Some((0xa0, 0xffff_7000)))]
        );
        assert_eq!(requests(&[answer("0x0"), fault()]), [None, Some(None)]);
    }

    #[test]
    fn whatever_else_it_says_is_a_fault() {
        let fault = said("amdvi_page_fault error: page fault accessing guest physical address 0xffff7020");
        assert!(matches!(fault, Some(Event::Fault(_))), "{fault:?}");
    }
}
