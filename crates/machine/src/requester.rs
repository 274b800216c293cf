//! Requesters: who makes the requests that an IOMMU translates, as PCI Express names them.

use core::fmt;

/// Bus, device and function of the requester, as PCI Express carries them: bus in `[15:8]`, device in `[7:3]`,
/// function in `[2:0]`. Printed as `BB:DD.F`. VT-d calls it source-id (3.4.1), AMD-Vi DeviceID (2.2.2).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u16);

impl SourceId {
    /// The requester at this bus and device-function number.
    pub const fn new(bus: u8, devfn: u8) -> Self {
        Self((bus as u16) << 8 | devfn as u16)
    }

    /// The requester at this bus, device (0–31) and function (0–7); excess bits are dropped.
    pub const fn at(bus: u8, device: u8, function: u8) -> Self {
        Self::new(bus, device << 3 | function & 7)
    }

    /// Bus number.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Device and function number.
    pub const fn devfn(self) -> u8 {
        self.0 as u8
    }

    /// Device number, 0 to 31.
    pub const fn device(self) -> u8 {
        self.devfn() >> 3
    }

    /// Function number, 0 to 7.
    pub const fn function(self) -> u8 {
        self.devfn() & 7
    }

    /// The requester with this number, as a field of a register or a table holds it.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Its number.
    pub const fn into_bits(self) -> u16 {
        self.0
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus(), self.device(), self.function())
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A device's requests that carry this PASID, or those that carry none. Printed as `BB:DD.F/PASID` or `BB:DD.F`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requester {
    /// The device.
    pub source: SourceId,
    /// PASID of the requests.
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

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_source_id_is_printed_as_lspci_does() {
        assert_eq!(SourceId(0x00FA).to_string(), "00:1f.2");
        assert_eq!(SourceId::at(0x3A, 0x1F, 7), SourceId(0x3AFF));
    }

    #[test]
    fn a_pasid_is_told_beside_its_device() {
        let device = Requester { source: SourceId(0xA0), pasid: None };
        assert_eq!(device.to_string(), "00:14.0");
        assert_eq!(Requester { pasid: Some(0x15), ..device }.to_string(), "00:14.0/0x15");
    }
}
