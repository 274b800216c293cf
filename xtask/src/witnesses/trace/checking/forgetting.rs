//! What AMD's unit was told to forget since its device table was replaced. An emulator that caches little shows no harm if software
//! forgets to say it; hardware may answer by old tables for ever (AMD I/O virtualization technology specification, section 2.4).

use std::collections::BTreeSet;

use super::super::super::tables::Tables;
use super::super::event::Forgotten;
use crate::machines::scenario::device::Device;

/// Commands so far.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    all: bool,
    entries: BTreeSet<u16>,
    domains: BTreeSet<u16>,
}

impl Forgetting {
    /// Takes one more command into account.
    pub(super) fn note(&mut self, forgotten: Forgotten) {
        match forgotten {
            Forgotten::All => self.all = true,
            Forgotten::Entry(source) => drop(self.entries.insert(source)),
            Forgotten::Domain(domain) => drop(self.domains.insert(domain)),
        }
    }

    /// Whether the unit may still answer a function by these tables, because it was not told to forget them.
    pub(super) fn may_answer(&self, source: u16, dead: Tables<'_>) -> bool {
        let has_forgotten = |domain| self.domains.contains(&domain);
        let told = self.entries.contains(&source) && dead.domain(source).is_none_or(has_forgotten);
        dead.is_of_amd() && !self.all && !told
    }

    /// The first thing that the unit may still know of these tables, which are no longer in force.
    pub(super) fn remembered(&self, dead: Tables<'_>) -> Option<String> {
        if self.all || !dead.is_of_amd() {
            return None;
        }
        let known = |source: &u16| !self.entries.contains(source);
        let functions = dead.functions();
        let entry = functions.iter().copied().find(known).map(|source| {
            format!("the unit was not told to forget {}'s device table entry", Device::name_of(source))
        });
        let mut domains = functions.into_iter().filter_map(|source| dead.domain(source));
        let domain = domains.find(|domain| !self.domains.contains(domain));
        entry.or(domain.map(|domain| format!("the unit was not told to forget the pages of domain {domain}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::tables::made::{amd, legacy, with_ram};
    use super::super::super::super::tables::{Layout, Root};
    use super::*;

    const NETWORK: u16 = 0x08;

    /// After these commands.
    fn told(commands: &[Forgotten]) -> Forgetting {
        let mut forgetting = Forgetting::default();
        for &command in commands {
            forgetting.note(command);
        }
        forgetting
    }

    /// What the unit may still know after these commands.
    fn remembered(root: Root, words: Vec<(u64, u64)>, commands: &[Forgotten]) -> Option<String> {
        let forgetting = told(commands);
        with_ram(0x10000, words, |ram| forgetting.remembered(Tables::new(ram, root)))
    }

    #[test]
    fn each_entry_and_domain_or_everything_must_be_forgotten() {
        let after = |commands: &[Forgotten]| {
            remembered(Root::of_devices(0x1000), amd(0x1000, NETWORK, &[]), commands)
        };
        let (entry, domain) = (Forgotten::Entry(NETWORK), Forgotten::Domain(5));
        assert_eq!(after(&[entry, domain]), None);
        assert_eq!(after(&[Forgotten::All]), None);
        assert!(after(&[]).unwrap().contains("00:01.0's device table entry"));
        assert!(after(&[domain, Forgotten::Entry(NETWORK + 1)]).unwrap().contains("00:01.0's"));
        assert!(after(&[entry, Forgotten::Domain(4)]).unwrap().contains("domain 5"));
    }

    #[test]
    fn the_unit_may_answer_by_old_tables_until_it_was_told_to_forget_entry_and_pages() {
        let may = |commands: &[Forgotten]| {
            let forgetting = told(commands);
            let root = Root::of_devices(0x1000);
            with_ram(0x10000, amd(0x1000, NETWORK, &[]), |ram| {
                forgetting.may_answer(NETWORK, Tables::new(ram, root))
            })
        };
        let (entry, domain) = (Forgotten::Entry(NETWORK), Forgotten::Domain(5));
        assert!(may(&[]) && may(&[entry]) && may(&[domain]));
        assert!(may(&[Forgotten::Entry(NETWORK + 1), domain]) && may(&[entry, Forgotten::Domain(4)]));
        assert!(!may(&[entry, domain]) && !may(&[Forgotten::All]));
    }

    #[test]
    fn nothing_is_asked_of_units_of_intels() {
        let root = Root { address: 0x1000, layout: Layout::Legacy };
        let may_answer = with_ram(0x10000, legacy(0x1000, NETWORK, &[]), |ram| {
            Forgetting::default().may_answer(NETWORK, Tables::new(ram, root))
        });
        assert!(!may_answer);
        assert_eq!(remembered(root, legacy(0x1000, NETWORK, &[]), &[]), None);
    }
}
