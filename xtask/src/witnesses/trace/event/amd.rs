//! What QEMU's trace says of AMD's unit.
//!
//! A request that is refused leads to page 0; why is in a line before, which does not say whose request it was.

use super::super::super::tables::Root;
use super::{Event, Fault, Forgotten, after, number, source_id};

/// Where the registers are that matter, from the unit's first (AMD I/O virtualization technology specification, section 3.4).
const DEVICE_TABLE_BASE: u64 = 0x00;
const UPPER_HALF: u64 = DEVICE_TABLE_BASE + 4;

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
        "amdvi_devtab_inval" => Some(Event::Forgotten(Forgotten::Entry(source_id(words.last()?)?))),
        "amdvi_pages_inval" => Some(Event::Forgotten(Forgotten::Domain(number(words.last()?)? as u16))),
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

/// `AMDVI_MMIO_DEVTAB_BASE write addr 0x0, size 8, val 0x2665001, offset 0x0`
fn written(words: &[&str]) -> Option<Event> {
    let value = |name| Some(after(words, name)?.trim_end_matches(','));
    let (at, written) = (number(value("addr")?)?, number(value("val")?)?);
    match (at, value("size")?) {
        (DEVICE_TABLE_BASE, "8") => Some(Event::Root(Root::of_devices(written))),
        (DEVICE_TABLE_BASE | UPPER_HALF, _) => {
            Some(Event::HalfRoot { high: at == UPPER_HALF, half: written })
        }
        _ => None,
    }
}
