//! What AMD's unit was told to forget since its device table was replaced. An emulator that caches little shows no harm if software
//! forgets to say it; hardware may answer by old tables for ever (AMD I/O virtualization technology specification, section 2.4).

use std::collections::BTreeSet;

use super::super::super::tables::{Layout, Tables};
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

    /// The first thing that the unit may still know of these tables, which are no longer in force.
    pub(super) fn remembered(&self, dead: Tables<'_>) -> Option<String> {
        if self.all || !matches!(dead.layout(), Layout::Devices { .. }) {
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
