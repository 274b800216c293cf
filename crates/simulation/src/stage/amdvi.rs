//! The same machine with AMD's IOMMU: what a description for VT-d says, in AMD-Vi's words.

use amdvi::device_table::ENTRY_BYTES;
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use machine::PAGE_SIZE;
use model::amdvi::damage::{Damage, Victim};
use model::amdvi::scenario::{Attached, Domain, Function, OldCommands, UnitScenario};
use model::amdvi::{Scenario, walk::Traits};
use model::habits::{Chore, Habit, Habits};
use model::scenario::OldQueue;
use model::{Rights, damage, scenario};

use super::HOST_ADDRESS_BITS;
use crate::file::{self, File};

/// The machine that `scenario` describes.
pub(super) fn scenario(file: &File, scenario: &model::Scenario) -> Scenario {
    let queue = scenario.units.first().map_or(OldQueue::Idle, |unit| unit.queue);
    Scenario {
        seed: scenario.seed,
        memory: scenario.memory.clone(),
        units: vec![unit(file, queue)],
        domains: scenario.domains.iter().filter_map(domain).collect(),
        functions: scenario.functions.iter().map(function).collect(),
        damage: scenario.damage.iter().filter_map(self::damage).collect(),
        ..Scenario::default()
    }
}

/// Pages of the device table: it has an entry for each device of the file, and for the disk.
pub(super) fn table_pages(file: &File) -> u64 {
    let devices = file.devices.iter().map(|device| device.at.get_ref().0);
    let last = devices.fold(file.disk.get_ref().0, u16::max);
    u64::from(last) * ENTRY_BYTES as u64 / PAGE_SIZE + 1
}

/// What a unit of AMD's does instead of a chore of VT-d's; `None` if it does nothing of the kind.
pub(super) const fn chore(stuck: file::Chore) -> Option<Chore> {
    match stuck {
        // It takes a new device table at once.
        file::Chore::TakeRoot => None,
        file::Chore::SwitchQueue => Some(Chore::StopCommands),
        file::Chore::FetchDescriptor => Some(Chore::FetchDescriptor),
        file::Chore::ForgetContexts | file::Chore::ForgetTranslations => Some(Chore::FinishDescriptor),
    }
}

fn unit(file: &File, queue: OldQueue) -> UnitScenario {
    let stuck = file.unit.stuck.iter().filter_map(|stuck| chore(*stuck.get_ref()));
    UnitScenario {
        traits: Traits {
            feature: ExtendedFeature::new().with_ia(true).with_hats(2),
            feature2: ExtendedFeature2::new(),
            host_address_bits: HOST_ADDRESS_BITS,
        },
        habits: stuck.fold(Habits::default(), |habits, chore| habits.with(chore, Habit::Never)),
        table_pages: table_pages(file),
        commands: match queue {
            OldQueue::Off => OldCommands::Off,
            OldQueue::Busy(waits) => OldCommands::Busy(waits),
            OldQueue::Stopped => OldCommands::Stopped,
            _ => OldCommands::Idle,
        },
        ..UnitScenario::default()
    }
}

/// `None` if no width has as many levels, which the stage has checked.
fn domain(domain: &scenario::Domain) -> Option<Domain> {
    let (id, mappings) = (domain.id, domain.mappings.clone());
    Some(Domain { id, top: domain.width.top()?, mappings, ..Domain::default() })
}

fn function(function: &scenario::Function) -> Function {
    Function {
        source: function.source,
        attached: match function.attached {
            scenario::Attached::To(domain) => Attached::To(domain),
            scenario::Attached::PassThrough(id) => Attached::PassThrough(id, Rights::ALL),
        },
        works_at: function.works_at.clone(),
        device_tlb: function.device_tlb,
        ..Function::default()
    }
}

/// Files name no other victims.
fn damage(damage: &damage::Damage) -> Option<Damage> {
    let victim = match damage.victim {
        damage::Victim::Context(source) => Victim::Entry { source, word: 0 },
        damage::Victim::Leaf { domain, iova } => Victim::Leaf { domain, iova },
        _ => return None,
    };
    Some(Damage { victim, harm: damage.harm })
}

#[cfg(test)]
mod tests {
    use crate::{File, Simulation, Stage, run};

    /// The shipped machine, with these lines above its domains.
    fn simulated(lines: &str) -> Result<Simulation, crate::Error> {
        let text = include_str!("../../../../scenarios/amd-vi.toml");
        let text = text.replacen("[[domain]]", &format!("{lines}\n[[domain]]"), 1);
        Ok(run(&Stage::set(File::parse(&text)?, &text)?))
    }

    #[test]
    fn a_machine_of_amds_is_taken_over() {
        let simulation = simulated("").unwrap();
        assert_eq!((simulation.mode, simulation.failure, simulation.without_buffer), ("AMD-Vi", None, None));
        let [accept, off, reset] = &simulation.policies[..] else { panic!("{:?}", simulation.policies) };
        assert_eq!(accept.traffic.faulted, 0);
        assert!(off.traffic.astray > 0 && reset.traffic.faulted > 0, "{:?}", simulation.policies);
    }

    /// A device table of 2 MiB must have its place in what the capture kernel leaves.
    #[test]
    fn a_machine_with_little_memory_is_simulated_or_refused() {
        for (memory, start) in [(4, 1), (5, 2), (6, 3), (8, 2), (8, 4), (8, 6), (10, 5), (16, 8)] {
            let text = format!(
                "title = \"\"\nmemory = \"{memory}M\"\nreservation = \"1M@{start}M\"\nmode = \"amd-vi\"\n\
                 disk = \"ff:1f.7\"\n[[device]]\nat = \"ff:1f.7\"\nname = \"\"\ndomain = \"pass-through\"\n"
            );
            if let Ok(stage) = Stage::set(File::parse(&text).unwrap(), &text) {
                assert_eq!(run(&stage).devices.len(), 1, "{memory} MiB");
            }
        }
    }

    #[test]
    fn damage_to_a_device_is_to_its_entry() {
        let simulation = simulated("damage = [\"context of 00:14.0 points beyond memory\"]").unwrap();
        let blocked = simulation.hazards.iter().any(|hazard| hazard.contains("blocked"));
        assert!(blocked, "{:?}", simulation.hazards);
    }

    #[test]
    fn a_unit_that_is_stuck_is_told() {
        let fails = |stuck: &str| simulated(&format!("[unit]\nstuck = [\"{stuck}\"]")).unwrap().failure;
        assert!(fails("switch-queue").is_some());
        assert!(fails("fetch-descriptor").is_some());
        let error = simulated("[unit]\nstuck = [\"take-root\"]").unwrap_err();
        assert!(error.what.contains("at once") && error.line > 1, "{error}");
    }
}
