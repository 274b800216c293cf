//! The parts of a record in words, for people.

use core::fmt;

use machine::SourceId;

use crate::{Counts, HazardPlace, Outcome};

impl fmt::Display for HazardPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(bus) => write!(f, "bus {bus:02x}"),
            Self::Device(source) => write!(f, "device {}", SourceId(*source)),
            Self::Domain { id, start, end } => write!(f, "domain {id:#x}, {start:#x}..{end:#x}"),
            Self::Unit => f.write_str("unit"),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { contexts_accepted, tables_duplicated, leaf_mappings, domains_reserved, hazards } = self;
        write!(
            f,
            "{contexts_accepted} contexts accepted, {tables_duplicated} tables with {leaf_mappings} mappings \
             duplicated, {domains_reserved} domain-ids reserved, {hazards} hazards"
        )
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
    fn places_are_told_as_people_write_them() {
        assert_eq!(HazardPlace::Bus(10).to_string(), "bus 0a");
        assert_eq!(HazardPlace::Device(0xFA).to_string(), "device 00:1f.2");
        let iova = HazardPlace::Domain { id: 0x12, start: 0x1000, end: 0x3000 };
        assert_eq!(iova.to_string(), "domain 0x12, 0x1000..0x3000");
    }
}
