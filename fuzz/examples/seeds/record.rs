//! Records of takeovers, as the capture kernel encodes them.

use crate::Seed;
use record::{
    Architecture, Context, Counts, Domain, Entry, Hazard, HazardPlace, List, Outcome, Queue, Record,
    Register, Takeover, Text, UnitFate, UnitRecord,
};

pub(crate) fn seeds() -> Vec<Seed> {
    vec![
        ("nothing", encoded(vec![])),
        ("off", encoded(vec![unit(UnitFate::Off)])),
        (
            "taken_over",
            encoded(vec![
                unit(UnitFate::TakenOver(takeover())),
                unit(UnitFate::Lost(Text::new("no answer"))),
            ]),
        ),
    ]
}

fn encoded(units: Vec<UnitRecord>) -> Vec<u8> {
    let record = Record { writer: Text::new("Holdover"), host_address_bits: 39, units: list(units) };
    record.encode().expect("memory suffices")
}

fn unit(state: UnitFate) -> UnitRecord {
    let registers = list(vec![Register { offset: 0x20, value: 0x1_2345_6000 }]);
    UnitRecord { architecture: Architecture::Vtd, base: 0xFED9_0000, segment: 0, registers, state }
}

fn takeover() -> Takeover {
    let context =
        |pasid, entry| Context { source: 0x10, pasid, entry, domain: Some(7), outcome: Outcome::Fenced };
    let domain =
        Domain { id: 7, address_bits: 39, tables: 3, leaves: 512, fenced: 1, outcome: Outcome::Fenced };
    let place = HazardPlace::Domain { id: 7, start: 0x1000, end: 0x2000 };
    Takeover {
        old_root: 0x1_2345_6000,
        new_root: 0x200_0000,
        queue: Queue::Stuck { head: 16, tail: 32 },
        faults: list(vec![(0x1000, 1 << 63)]),
        counts: Counts::default(),
        contexts: list(vec![context(None, Entry::Context([3, 5])), context(Some(1), Entry::Pasid([9; 8]))]),
        domains: list(vec![domain]),
        hazards: list(vec![Hazard { place, what: Text::new("maps too much"), outcome: Outcome::Fenced }]),
    }
}

fn list<T>(listed: Vec<T>) -> List<T> {
    List { listed, unlisted: 0 }
}
