//! Lists everything that a requester can reach: each leaf of its tables, found once.

use super::first_stage::as_guest;
use super::second_stage::Step;
use super::{Device, FirstStage, Page, Reached, Rights, SecondStage, Table, Trail, Translation, Walker};
use crate::answer::Requester;
use crate::memory::MemoryKind;
use machine::{ENTRIES, IoAddress, Level, PhysicalAddress, Range};
use std::collections::{BTreeMap, BTreeSet};
use vtd::control::TableMode;

/// Functions that one context table of scalable mode covers; a context table of legacy mode covers twice as many.
const HALF_A_BUS: usize = 128;

impl Walker<'_> {
    /// All requesters that have a well-formed entry.
    pub(crate) fn requesters(&self) -> Vec<Requester> {
        let half_buses = (0..=u16::MAX).step_by(HALF_A_BUS).filter(|first| self.has_context_table(*first));
        let sources = half_buses.flat_map(|first| first..=first | (HALF_A_BUS - 1) as u16);
        let devices = sources.filter_map(|source| Some((source, self.device(source).ok()?)));
        devices.flat_map(|(source, device)| self.requesters_of(source, device)).collect()
    }

    fn has_context_table(&self, source: u16) -> bool {
        match self.root.mode() {
            TableMode::SCALABLE => self.half_bus_table(source).is_ok(),
            _ => self.context_table((source >> 8) as u8).is_ok(),
        }
    }

    /// A function's requests without PASID, and those with each of its PASIDs.
    fn requesters_of(&self, source: u16, device: Device) -> Vec<Requester> {
        let without = self.context_of(device, None).ok().map(|_| None);
        let with = match device {
            Device::Legacy(_) => Vec::new(),
            Device::Scalable(directory) => self.pasids(directory),
        };
        without
            .into_iter()
            .chain(with.into_iter().map(Some))
            .map(|pasid| Requester { source, pasid })
            .collect()
    }

    /// All memory that a requester reaches. Each table is entered once per level and rights, however many entries
    /// lead to it, so the search also ends in tables that form loops or fan out.
    pub(crate) fn reach(&self, requester: Requester) -> Vec<Reached> {
        self.context(requester)
            .map_or_else(|_| Vec::new(), |context| self.reach_by(requester, context.translation))
    }

    fn reach_by(&self, requester: Requester, translation: Translation) -> Vec<Reached> {
        let pages = match translation {
            Translation::PassThrough => return self.all_memory(requester),
            Translation::SecondStage(second) => self.second_leaves(second),
            Translation::FirstStage(first) => self.first_leaves(first, None),
            Translation::Nested(first, second) => self.nested_leaves(first, second),
        };
        let reached = |page: Page| Reached {
            requester,
            iova: page.iova,
            memory: Range::new(page.address, page.address.saturating_add(page.level.span())),
            rights: page.rights,
        };
        pages.into_iter().map(reached).collect()
    }

    /// Everything that any requester reaches and `is_wanted` selects. Tables that many requesters share are searched
    /// once.
    pub(crate) fn reach_of_all(&self, is_wanted: impl Fn(&Reached) -> bool) -> Vec<Reached> {
        let mut known: BTreeMap<Translation, Vec<Reached>> = BTreeMap::new();
        let mut found = Vec::new();
        for requester in self.requesters() {
            let Ok(context) = self.context(requester) else { continue };
            let reached = known
                .entry(context.translation)
                .or_insert_with(|| self.reach_by(requester, context.translation));
            found.extend(reached.iter().map(|reached| Reached { requester, ..*reached }).filter(&is_wanted));
        }
        found
    }

    /// What a requester reaches in pass-through: all RAM.
    fn all_memory(&self, requester: Requester) -> Vec<Reached> {
        let ranges =
            [MemoryKind::Old, MemoryKind::Capture].into_iter().flat_map(|kind| self.memory.ranges(kind));
        let reached = |memory: Range<PhysicalAddress>| {
            let iova = IoAddress::new(memory.start.get());
            Reached { requester, iova, memory, rights: Rights::ALL }
        };
        ranges.map(reached).collect()
    }

    fn second_leaves(&self, second: SecondStage) -> Vec<Page> {
        leaves(second.root, |table, index| self.second_step(second, table, index, &mut Trail::default()).ok())
    }

    /// The leaves of first-stage tables, found through the host if there is one.
    fn first_leaves(&self, first: FirstStage, host: Option<SecondStage>) -> Vec<Page> {
        let mut host = |address, trail: &mut Trail| match host {
            None => Ok(Page::identity(address)),
            Some(second) => self.second_stage(second, second.root, address, trail),
        };
        let mut found = leaves(first.root, |table, index| {
            self.first_step(first, table, index, &mut host, &mut Trail::default()).ok()
        });
        let unused = 64 - first.root.level.width();
        let sign_extended = |iova: IoAddress| {
            IoAddress::new(((iova.get() << unused).cast_signed() >> unused).cast_unsigned())
        };
        for page in &mut found {
            page.iova = sign_extended(page.iova);
        }
        found
    }

    /// The leaves of a guest, split at the boundaries of its host's leaves. Each page of the guest is looked up once.
    fn nested_leaves(&self, first: FirstStage, second: SecondStage) -> Vec<Page> {
        let mut seen = BTreeSet::new();
        let mut guests = self.first_leaves(first, Some(second));
        guests.retain(|page| seen.insert((page.address, page.level, page.rights)));
        guests.iter().flat_map(|guest| self.through_host(*guest, second)).collect()
    }

    fn through_host(&self, guest: Page, second: SecondStage) -> Vec<Page> {
        let (mut found, mut offset) = (Vec::new(), 0);
        while offset < guest.level.span() {
            let address = as_guest(guest.address.saturating_add(offset));
            let host = self.second_stage(second, second.root, address, &mut Trail::default());
            let level = host.map_or(Level::ONE, |page| page.level.min(guest.level));
            if let Ok(host) = host {
                let rights = guest.rights.and(host.rights);
                let page = Page {
                    iova: guest.iova.saturating_add(offset),
                    address: host.place(address),
                    level,
                    rights,
                    noted: true,
                };
                found.extend(Some(page.aligned()).filter(|page| page.rights.any()));
            }
            offset += level.span();
        }
        found
    }
}

/// All leaves under `root` that allow anything. Each table is entered once per level and rights.
fn leaves(root: Table, mut step: impl FnMut(Table, usize) -> Option<Step>) -> Vec<Page> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([root]);
    let mut open = vec![(root, IoAddress::default())];
    while let Some((table, iova)) = open.pop() {
        for index in 0..ENTRIES {
            let iova = table.level.address_at(iova, index);
            match step(table, index) {
                Some(Step::Down(next)) if next.rights.any() && seen.insert(next) => open.push((next, iova)),
                Some(Step::Leaf { address, rights, noted }) if rights.any() => {
                    found.push(Page { iova, address, level: table.level, rights, noted });
                }
                _ => (),
            }
        }
    }
    found
}
