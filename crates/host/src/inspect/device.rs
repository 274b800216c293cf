//! Names devices in the form that people use.

use std::ops::RangeInclusive;
use std::str::FromStr;

use machine::{Requester, SourceId};
use pci::Function;

/// A device of a PCI segment, with one of its PASIDs or with all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceName {
    segment: u16,
    source: SourceId,
    pasid: Option<u32>,
}

impl DeviceName {
    /// Whether the name matches this device behind a unit of this segment.
    pub(super) fn is(self, segment: u16, source: SourceId) -> bool {
        self.segment == segment && self.source == source
    }

    /// Whether the name matches one of these devices behind a unit of this segment.
    pub(super) fn is_among(self, segment: u16, sources: RangeInclusive<SourceId>) -> bool {
        self.segment == segment && sources.contains(&self.source)
    }

    /// Whether the name matches this requester behind a unit of this segment.
    pub(super) fn means(self, segment: u16, requester: Requester) -> bool {
        let pasid_fits = self.pasid.is_none() || self.pasid == requester.pasid;
        self.is(segment, requester.source) && pasid_fits
    }
}

impl FromStr for DeviceName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a device is written like 00:14.0, 0000:00:14.0 or 00:14.0/0x5 with a PASID";
        parse(text).ok_or(FORM)
    }
}

fn parse(text: &str) -> Option<DeviceName> {
    let (text, pasid) = match text.split_once('/') {
        Some((device, pasid)) => (device, Some(parse_pasid(pasid.strip_prefix("0x").unwrap_or(pasid))?)),
        None => (text, None),
    };
    let function = text.parse().or_else(|_| Function::in_segment(0, text)).ok()?;
    let source = SourceId(function.requester_id());
    // No unit serves functions behind a volume management device under their own ids.
    let segment = function.segment.try_into().ok()?;
    Some(DeviceName { segment, source, pasid })
}

/// Reads a PASID: 20 bits, in up to five hexadecimal digits.
fn parse_pasid(digits: &str) -> Option<u32> {
    let is_number = digits.len() <= 5 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> (u16, u16, Option<u32>) {
        let DeviceName { segment, source, pasid } = text.parse().unwrap();
        (segment, source.0, pasid)
    }

    #[test]
    fn a_device_is_named_as_lspci_does() {
        assert_eq!(device("00:14.0"), (0, 0xA0, None));
        assert_eq!(device("0001:3a:1f.7"), (1, 0x3AFF, None));
        assert_eq!(device("00:14.0/0x15"), (0, 0xA0, Some(0x15)));
        assert_eq!(device("00:14.0/fffff"), (0, 0xA0, Some(0xF_FFFF)));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for text in
            ["", "00:14", "14.0", "00:20.0", "00:14.8", "100:14.0:0", "00:14.0/", "00:14.0/100000", "+0:14.0"]
        {
            assert!(text.parse::<DeviceName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_without_a_pasid_means_all_its_requests() {
        let requester = Requester { source: SourceId(0xA0), pasid: Some(5) };
        let means = |text: &str| text.parse::<DeviceName>().unwrap().means(0, requester);
        assert!(means("00:14.0") && means("00:14.0/5"));
        assert!(!means("00:14.0/6") && !means("0001:00:14.0") && !means("00:14.1"));
    }
}
