//! The record as bytes: a version, then the values in postcard's format.
//!
//! postcard writes fields in order and variants by number, without names: a change to any structure of this crate
//! must increase [`VERSION`].

use alloc::vec::Vec;

use machine::OutOfMemory;
use machine::growth::filled;

use crate::{Record, UnitFate, UnitRecord};

/// Version of the encoding: the first four bytes, little-endian.
pub const VERSION: u32 = 3;
/// The longest record, in bytes: room for the contexts of a large machine.
pub const MAX_BYTES: usize = 256 << 10;

/// Bytes of the version.
const HEADER: usize = size_of::<u32>();

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Another version of Holdover wrote it.
    #[error("the record is of version {0}, and this program reads version {VERSION}")]
    Version(u32),
    /// The record is too short or too long, or holds impossible values.
    #[error("the record is damaged")]
    Damaged,
}

impl Record {
    /// Encodes the record in at most [`MAX_BYTES`] bytes. If it is larger, the later parts of its lists are left out.
    pub fn encode(mut self) -> Result<Vec<u8>, OutOfMemory> {
        let mut bytes = filled(0, MAX_BYTES)?;
        bytes[..HEADER].copy_from_slice(&VERSION.to_le_bytes());
        let len = loop {
            match postcard::to_slice(&self, &mut bytes[HEADER..]) {
                Ok(body) => break HEADER + body.len(),
                Err(_) => self.shorten(),
            }
        };
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Decodes a record from any bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (version, body) = bytes.split_first_chunk().ok_or(DecodeError::Damaged)?;
        match u32::from_le_bytes(*version) {
            VERSION => {}
            other => return Err(DecodeError::Version(other)),
        }
        if bytes.len() > MAX_BYTES {
            return Err(DecodeError::Damaged);
        }
        match postcard::take_from_bytes(body) {
            Ok((record, [])) => Ok(record),
            _ => Err(DecodeError::Damaged),
        }
    }

    /// Leaves out half of each unit's lists; once the lists are empty, half of the units.
    fn shorten(&mut self) {
        if self.units.listed.iter().any(UnitRecord::has_lists) {
            self.units.listed.iter_mut().for_each(UnitRecord::shorten);
        } else {
            self.units.halve();
        }
    }
}

impl UnitRecord {
    fn has_lists(&self) -> bool {
        let UnitFate::TakenOver(takeover) = &self.state else { return false };
        let lens =
            [takeover.contexts.listed.len(), takeover.domains.listed.len(), takeover.hazards.listed.len()];
        lens.iter().any(|len| *len > 0)
    }

    fn shorten(&mut self) {
        if let UnitFate::TakenOver(takeover) = &mut self.state {
            takeover.contexts.halve();
            takeover.domains.halve();
            takeover.hazards.halve();
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::{
        Architecture, Context, Counts, Domain, Entry, Hazard, HazardPlace, Outcome, Queue, Register,
        Takeover, Text,
    };
    use proptest::prelude::*;
    use std::vec;

    fn takeover(contexts: usize, hazards: usize) -> Takeover {
        let context = |source: usize| Context {
            source: source as u16,
            pasid: Some(source as u32),
            entry: Entry::Pasid([u64::MAX; 8]),
            domain: Some(source as u16),
            outcome: Outcome::Duplicated,
        };
        let hazard = |at: usize| Hazard {
            place: HazardPlace::Domain { id: 2, start: at as u64, end: u64::MAX },
            what: Text::new("reserved bits are set"),
            outcome: Outcome::Fenced,
        };
        let domain =
            Domain { id: 2, address_bits: 48, tables: 3, leaves: 4, fenced: 5, outcome: Outcome::Folded };
        Takeover {
            old_root: 0x1000,
            new_root: 0x2000,
            queue: Queue::Stuck { head: 0x10, tail: 0x20 },
            faults: [(1, 2)].into_iter().collect(),
            counts: Counts { contexts_accepted: contexts as u64, ..Counts::default() },
            contexts: (0..contexts).map(context).collect(),
            domains: [domain].into_iter().collect(),
            hazards: (0..hazards).map(hazard).collect(),
        }
    }

    fn unit(state: UnitFate) -> UnitRecord {
        let registers = [Register { offset: 0x20, value: 0x1000 }].into_iter().collect();
        UnitRecord { architecture: Architecture::Vtd, base: 0xFED9_0000, segment: 0, registers, state }
    }

    fn record(states: impl IntoIterator<Item = UnitFate>) -> Record {
        let units = states.into_iter().map(unit).collect();
        Record { writer: Text::new("1.2.3"), host_address_bits: 39, units }
    }

    #[test]
    fn a_record_is_read_back_as_it_was() {
        let record = record([
            UnitFate::TakenOver(takeover(3, 2)),
            UnitFate::Off,
            UnitFate::Lost(Text::new("no frames")),
            UnitFate::Absent(Text::new("nothing answers")),
        ]);
        assert_eq!(Record::decode(&record.clone().encode().unwrap()), Ok(record));
    }

    /// The bytes of version 3 in postcard's format (its specification: varint numbers, variants by number, text and lists with
    /// their length first). If this fails, dumps of yesterday cannot be read: count [`VERSION`] up.
    #[test]
    fn the_encoding_stays_as_it_is() {
        let record = record([UnitFate::Off]);
        let mut expected = vec![3, 0, 0, 0, 5];
        expected.extend(b"1.2.3");
        // 39 bits; one unit: of VT-d, base, segment, one register at 0x20 of 0x1000, none left out, Off; no unit left out.
        expected.extend([39, 1, 0, 0x80, 0x80, 0xE4, 0xF6, 0x0F, 0, 1, 0x20, 0x80, 0x20, 0, 1, 0]);
        assert_eq!(record.encode().unwrap(), expected);
    }

    #[test]
    fn a_record_that_is_too_large_says_what_it_leaves_out() {
        let large = record((0..4).map(|_| UnitFate::TakenOver(takeover(4000, 5))));
        let bytes = large.encode().unwrap();
        assert!(bytes.len() <= MAX_BYTES);
        let read = Record::decode(&bytes).unwrap();
        assert_eq!(read.units.listed.len(), 4);
        for unit in &read.units.listed {
            let UnitFate::TakenOver(takeover) = &unit.state else { panic!("another state") };
            assert_eq!((takeover.contexts.count(), takeover.counts.contexts_accepted), (4000, 4000));
            assert!(takeover.contexts.unlisted > 0 && !takeover.contexts.listed.is_empty());
        }
    }

    #[test]
    fn too_many_units_are_counted() {
        let mut large = record([]);
        large.units = (0..4000).map(|_| unit(UnitFate::Lost(Text::new("x".repeat(160))))).collect();
        let read = Record::decode(&large.encode().unwrap()).unwrap();
        assert_eq!(read.units.count(), 4000);
        assert!(read.units.unlisted > 0);
    }

    #[test]
    fn other_versions_and_cut_records_are_refused() {
        let bytes = record([UnitFate::Off]).encode().unwrap();
        assert_eq!(Record::decode(&bytes[..bytes.len() - 1]), Err(DecodeError::Damaged));
        assert_eq!(Record::decode(&[bytes.as_slice(), &[0]].concat()), Err(DecodeError::Damaged));
        assert_eq!(Record::decode(&[1, 0, 0, 0]), Err(DecodeError::Version(1)));
        assert_eq!(Record::decode(&[]), Err(DecodeError::Damaged));
    }

    #[test]
    fn a_list_that_claims_to_be_endless_takes_no_memory() {
        let mut bytes = vec![3, 0, 0, 0, 0, 39];
        bytes.extend([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
        assert_eq!(Record::decode(&bytes), Err(DecodeError::Damaged));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes: Vec<u8>) {
            bytes.splice(..0, VERSION.to_le_bytes());
            let _ = Record::decode(&bytes);
        }

        #[test]
        fn a_damaged_record_is_refused_or_read(at: prop::sample::Index, to: u8) {
            let mut bytes = record([UnitFate::TakenOver(takeover(3, 2)), UnitFate::Off]).encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(read) = Record::decode(&bytes) {
                let read_again = Record::decode(&read.clone().encode().unwrap());
                prop_assert_eq!(read_again, Ok(read));
            }
        }
    }
}
