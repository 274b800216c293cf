//! Memory of words, and what the tables in it say, as text.

use std::collections::BTreeMap;

use machine::{Level, OldMemory, PhysicalAddress, Table, Unreadable};
use reach::{Budget, Route, Tables, Target, UnitSetup};

/// Pages of words; words that were not written are zero, and pages from `END` on cannot be read.
#[derive(Default)]
pub(crate) struct Words(pub(crate) BTreeMap<u64, u64>);

pub(crate) const END: u64 = 0x10_0000;

impl OldMemory for Words {
    fn read(&self, address: PhysicalAddress, _: &mut [u8]) -> Result<(), Unreadable> {
        Err(Unreadable { address, len: 0 })
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        if address.get() >= END {
            return Err(Unreadable { address, len: 4096 });
        }
        for (at, word) in (address.get()..).step_by(8).zip(into) {
            *word = self.0.get(&at).copied().unwrap_or(0);
        }
        Ok(())
    }
}

/// Where a route's addresses lead: `iova+len->address rights level`, or what is in the way.
pub(crate) fn pieces(words: &Words, unit: UnitSetup, route: Route) -> Vec<String> {
    let mut found = Vec::new();
    let tables = Tables::new(words, unit);
    let done = tables.each_piece(route, &mut Budget::new(100), &mut |piece| {
        found.push(match piece.target {
            Target::Memory { address, rights, level } => {
                let level = level.map_or(0, Level::number);
                format!("{:#x}+{:#x}->{address:#x} {rights} {level}", piece.iova, piece.len)
            }
            Target::Obstacle(obstacle) => format!("{:#x}+{:#x}: {obstacle}", piece.iova, piece.len),
        });
    });
    done.unwrap();
    found
}
