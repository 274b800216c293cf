//! Checks damage: the damaged entry must exist.

use machine::IoAddress;
use model::damage::{Damage, Harm, Victim};
use model::scenario::{Domain, Mapping};
use toml::Spanned;

use super::{Check, HOLE, MOST_MEMORY, REGISTERS};
use crate::file::{self, Aim, Entry, Error, File};

/// An address bit beyond all memory of the machine.
const BEYOND: u32 = 45;

impl Check<'_> {
    pub(super) fn damage(self, file: &File, domains: &[Domain]) -> Result<Vec<Damage>, Error> {
        let damaged = file.damage.iter().map(|damage| {
            let victim = self.victim(file, damage, domains)?;
            Ok(Damage { victim, harm: harm(file, damage.get_ref().aim) })
        });
        damaged.collect()
    }

    /// The damaged entry, which must exist.
    fn victim(
        self,
        file: &File,
        damage: &Spanned<file::Damage>,
        domains: &[Domain],
    ) -> Result<Victim, Error> {
        match damage.get_ref().entry {
            Entry::Context(source) => {
                let known = file.devices.iter().any(|device| *device.at.get_ref() == source);
                self.ensure(damage, known, format!("there is no device {source}"))?;
                Ok(Victim::Context(source.0))
            }
            Entry::Page { iova, domain } => {
                let domain = self.domain(file, damage, domain)?;
                let iova = IoAddress::new(iova);
                let maps = |mapping: &Mapping| mapping.level.entry_span(mapping.iova).contains(iova);
                let mapped = domains[domain].mappings.iter().any(maps);
                self.ensure(damage, mapped, format!("{iova:#x} is not mapped there"))?;
                Ok(Victim::Leaf { domain, iova })
            }
        }
    }
}

fn harm(file: &File, aim: Aim) -> Harm {
    match aim {
        Aim::BeyondMemory => Harm::PointAnywhere(HOLE.end.get() + MOST_MEMORY),
        Aim::CaptureKernel => Harm::PointAnywhere(file.reservation.get_ref().start),
        Aim::Registers => Harm::PointAnywhere(REGISTERS.start.get()),
        Aim::ReservedBits => Harm::Flip(BEYOND),
    }
}
