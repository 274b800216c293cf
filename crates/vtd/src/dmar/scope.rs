//! Device scopes: the devices that a remapping structure covers (8.3.1).

use machine::SourceId;
use machine::bytes::u8_at;

/// Bytes of a device scope before its path (8.3.1).
const SCOPE_HEADER: usize = 6;

/// The device scopes of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceScopes<'a> {
    bytes: &'a [u8],
}

impl<'a> DeviceScopes<'a> {
    /// The device scopes from this offset of a structure on; `None` if the structure ends before it.
    pub(super) fn at(structure: &'a [u8], offset: usize) -> Option<Self> {
        Some(Self { bytes: structure.get(offset..)? })
    }

    /// The scopes in the table's order, up to the first whose length is impossible.
    pub fn iter(&self) -> DeviceScopeIter<'a> {
        DeviceScopeIter { bytes: self.bytes }
    }

    /// Whether every scope has a possible length.
    pub fn is_sound(&self) -> bool {
        let mut scopes = self.iter();
        scopes.by_ref().for_each(drop);
        scopes.bytes.is_empty()
    }
}

impl<'a> IntoIterator for &DeviceScopes<'a> {
    type Item = DeviceScope<'a>;
    type IntoIter = DeviceScopeIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Walks the device scopes of a structure.
#[derive(Clone, Debug)]
pub struct DeviceScopeIter<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for DeviceScopeIter<'a> {
    type Item = DeviceScope<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u8_at(self.bytes, 1)?);
        let scope = self.bytes.get(..length).filter(|scope| scope.len() >= SCOPE_HEADER)?;
        self.bytes = self.bytes.get(length..)?;
        Some(DeviceScope {
            kind: ScopeType(u8_at(scope, 0)?),
            enumeration_id: u8_at(scope, 4)?,
            bus: u8_at(scope, 5)?,
            path: scope.get(SCOPE_HEADER..)?,
        })
    }
}

/// What a device scope names (8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeType(pub u8);

impl ScopeType {
    /// One PCI function.
    pub const ENDPOINT: Self = Self(1);
    /// A PCI bridge and everything behind it.
    pub const BRIDGE: Self = Self(2);
    /// An I/O APIC.
    pub const IOAPIC: Self = Self(3);
    /// A timer that sends MSIs.
    pub const HPET: Self = Self(4);
    /// A device in the ACPI namespace.
    pub const NAMESPACE: Self = Self(5);
}

/// A device or bridge, named by a path from a bus (8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceScope<'a> {
    /// What is named.
    pub kind: ScopeType,
    /// I/O APIC id, HPET number or ANDD number.
    pub enumeration_id: u8,
    /// Bus on which the path starts.
    pub bus: u8,
    path: &'a [u8],
}

impl<'a> DeviceScope<'a> {
    /// Device and function numbers from the start bus downwards; all but the last are bridges.
    pub fn path(&self) -> impl Iterator<Item = (u8, u8)> + use<'a> {
        self.path.chunks_exact(2).filter_map(|hop| Some((*hop.first()?, *hop.get(1)?)))
    }

    /// The source-id, if the path has a single hop: only then does it not depend on the configuration of bridges.
    pub fn source(&self) -> Option<SourceId> {
        let mut path = self.path();
        let (device, function) = path.next()?;
        path.next().is_none().then(|| SourceId::at(self.bus, device, function))
    }
}
