//! How the parts of a record are told to people.

use core::fmt;

use vtd::source::SourceId;

use crate::{Outcome, Place};

/// A device, or one of its PASIDs; written `BB:DD.F` or `BB:DD.F/PASID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requester {
    /// The device.
    pub source: SourceId,
    /// PASID of the requests; `None` for those that carry none.
    pub pasid: Option<u32>,
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, pasid } = self;
        match pasid {
            Some(pasid) => write!(f, "{source}/{pasid:#x}"),
            None => write!(f, "{source}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(bus) => write!(f, "bus {bus:02x}"),
            Self::Device(source) => write!(f, "device {}", SourceId(*source)),
            Self::Domain { id, start, end } => write!(f, "domain {id:#x}, {start:#x}..{end:#x}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Duplicated => "duplicated",
            Self::Folded => "folded",
            Self::KeptInPlace => "kept in place",
            Self::Fenced => "fenced",
            Self::Blocked => "blocked",
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_pasid_is_told_beside_its_device() {
        let device = Requester { source: SourceId(0xA0), pasid: None };
        assert_eq!(device.to_string(), "00:14.0");
        assert_eq!(Requester { pasid: Some(0x15), ..device }.to_string(), "00:14.0/0x15");
    }

    #[test]
    fn places_are_told_as_people_write_them() {
        assert_eq!(Place::Bus(10).to_string(), "bus 0a");
        assert_eq!(Place::Device(0xFA).to_string(), "device 00:1f.2");
        let iova = Place::Domain { id: 0x12, start: 0x1000, end: 0x3000 };
        assert_eq!(iova.to_string(), "domain 0x12, 0x1000..0x3000");
    }
}
