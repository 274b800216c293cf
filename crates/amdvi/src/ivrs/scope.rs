//! Device scopes: the devices behind a unit as ranges of source-ids, from entries that begin and end them (5.2.2.1).

use machine::SourceId;

use super::device::{DeviceEntries, DeviceEntry, DeviceEntryIter, DteSetting};

/// Devices that follow each other, and what holds for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceScope {
    /// The first device.
    pub first: SourceId,
    /// The last device; before the first if there is none.
    pub last: SourceId,
    /// The source-id under which their requests arrive, if it is another's.
    pub alias: Option<SourceId>,
    /// The setting.
    pub setting: DteSetting,
    /// Extended setting; bit 31 forbids a device-TLB.
    pub extended: u32,
}

impl DeviceScope {
    /// The devices that one entry names, as far as it goes; `None` if it names none.
    fn of(entry: &DeviceEntry<'_>) -> Option<Self> {
        let one =
            |source, alias, setting, extended| Self { first: source, last: source, alias, setting, extended };
        match *entry {
            DeviceEntry::All(setting) => {
                Some(Self { last: SourceId(u16::MAX), ..one(SourceId(0), None, setting, 0) })
            }
            DeviceEntry::Select { source, setting, extended }
            | DeviceEntry::RangeStart { source, setting, extended } => {
                Some(one(source, None, setting, extended))
            }
            DeviceEntry::AliasSelect { source, alias, setting }
            | DeviceEntry::AliasRangeStart { source, alias, setting } => {
                Some(one(source, Some(alias), setting, 0))
            }
            DeviceEntry::Special(device) => Some(one(device.source, None, device.setting, 0)),
            DeviceEntry::Acpi(device) => Some(one(device.source, None, device.setting, 0)),
            DeviceEntry::Padding | DeviceEntry::RangeEnd(_) | DeviceEntry::Unknown { .. } => None,
        }
    }

    /// Whether a device is one of them.
    pub fn contains(&self, source: SourceId) -> bool {
        (self.first..=self.last).contains(&source)
    }
}

/// The devices behind a unit, in the order of the block's entries. A range whose end is missing has its first device only, and
/// an end without a start has none.
#[derive(Clone, Debug)]
pub struct DeviceScopes<'a> {
    entries: DeviceEntryIter<'a>,
}

impl<'a> DeviceScopes<'a> {
    pub(super) const fn of(entries: DeviceEntries<'a>) -> Self {
        Self { entries: entries.iter() }
    }

    /// The end of a range, if that is what comes next but for padding.
    fn end(&mut self) -> Option<SourceId> {
        let mut ahead = self.entries.clone();
        let end = ahead.find(|entry| *entry != DeviceEntry::Padding);
        let Some(DeviceEntry::RangeEnd(last)) = end else { return None };
        self.entries = ahead;
        Some(last)
    }
}

impl Iterator for DeviceScopes<'_> {
    type Item = DeviceScope;

    fn next(&mut self) -> Option<DeviceScope> {
        loop {
            let entry = self.entries.next()?;
            let Some(scope) = DeviceScope::of(&entry) else { continue };
            let starts =
                matches!(entry, DeviceEntry::RangeStart { .. } | DeviceEntry::AliasRangeStart { .. });
            let end = if starts { self.end() } else { None };
            return Some(DeviceScope { last: end.unwrap_or(scope.last), ..scope });
        }
    }
}
