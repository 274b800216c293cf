//! Damage to entries that there are.

use model::damage::{Damage, Harm, Victim};
use model::scenario::Domain;

use super::{Check, HOLE, MOST_MEMORY, REGISTERS};
use crate::file::{Aim, Entry, Error, File};

/// An address bit that no memory of the machine has.
const BEYOND: u32 = 45;

impl Check<'_> {
    pub(super) fn damage(self, file: &File, domains: &[Domain]) -> Result<Vec<Damage>, Error> {
        file.damage
            .iter()
            .map(|damage| {
                let victim = match damage.get_ref().entry {
                    Entry::Context(source) => {
                        let known = file.devices.iter().any(|device| *device.at.get_ref() == source);
                        self.ensure(damage, known, format!("there is no device {source}"))?;
                        Victim::Context(source.0)
                    }
                    Entry::Page { iova, domain } => {
                        let domain = self.domain(file, damage, domain)?;
                        let mapped = domains[domain].mappings.iter().any(|mapping| {
                            (mapping.iova..mapping.iova + mapping.level.span()).contains(&iova)
                        });
                        self.ensure(damage, mapped, format!("{iova:#x} is not mapped there"))?;
                        Victim::Leaf { domain, iova }
                    }
                };
                Ok(Damage { victim, harm: harm(file, damage.get_ref().aim) })
            })
            .collect()
    }
}

fn harm(file: &File, aim: Aim) -> Harm {
    match aim {
        Aim::BeyondMemory => Harm::PointAnywhere(HOLE.end + MOST_MEMORY),
        Aim::CaptureKernel => Harm::PointAnywhere(file.reservation.get_ref().start),
        Aim::Registers => Harm::PointAnywhere(REGISTERS.start),
        Aim::ReservedBits => Harm::Flip(BEYOND),
    }
}
