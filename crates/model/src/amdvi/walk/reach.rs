//! Lists everything that a requester can reach: each leaf of its tables, found once.

use super::guest::{CR3_STRIDE, as_guest};
use super::host::Step;
use super::{Abort, Context, Guest, Host, Page, Table, Trail, Translation, Walker};
use crate::answer::Requester;
use crate::memory::MemoryKind;
use crate::reached::{Reached, Rights};
use machine::{IoAddress, Level, PhysicalAddress, Range};
use std::collections::{BTreeMap, BTreeSet};

/// Bits of a PASID.
const PASID_BITS: u32 = 20;

impl Walker<'_> {
    /// All requesters that reach something: those whose entry is well-formed and does not block all, and devices that pass
    /// untranslated because no entry names them.
    pub(crate) fn requesters(&self) -> Vec<Requester> {
        (0..=u16::MAX).flat_map(|source| self.requesters_of(source)).collect()
    }

    /// A function's requests without PASID, and those with each of its PASIDs.
    fn requesters_of(&self, source: u16) -> Vec<Requester> {
        let Ok(entry) = self.entry(source) else { return Vec::new() };
        if !entry.host.valid() && !self.devices.contains(&source) {
            return Vec::new();
        }
        let reaches = |pasid: &Option<u32>| {
            self.context_of(entry, *pasid).is_ok_and(|context| {
                let rooted = match context.translation {
                    Translation::Guest(guest, host) => self.root_of(guest, host).is_ok(),
                    Translation::Host(_) | Translation::Untranslated => true,
                };
                rooted && context.rights.any()
            })
        };
        let with = match self.context_of(entry, Some(0)).map(|context| context.translation) {
            Ok(Translation::Guest(guest, host)) => self.pasids(guest, host),
            _ => Vec::new(),
        };
        // Requests without PASID may be those of PASID zero.
        let same = entry.host.guest_without_pasid();
        let with = with.into_iter().filter(|pasid| !same || *pasid != 0);
        let all = std::iter::once(None).chain(with.map(Some));
        all.filter(reaches).map(|pasid| Requester { source, pasid }).collect()
    }

    /// The root of a guest's page tables.
    fn root_of(&self, guest: Guest, host: Option<Host>) -> Result<Table, Abort> {
        self.guest_root(guest, &mut self.through(host))
    }

    /// The PASIDs that have a root. Each table is entered once per level, however many entries lead to it: by any
    /// of them its PASIDs reach the same. So at most 512 are listed for each table in memory, not the million that three damaged
    /// levels can name.
    fn pasids(&self, guest: Guest, host: Option<Host>) -> Vec<u32> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::from([(guest.cr3_table, guest.cr3_levels)]);
        let mut open = vec![(guest.cr3_table, guest.cr3_levels, 0)];
        while let Some((table, levels, first)) = open.pop() {
            for index in 0..1 << CR3_STRIDE {
                let pasid = first << CR3_STRIDE | index;
                let Ok(next) = self.cr3_step(table, index, &mut self.through(host)) else { continue };
                match levels {
                    1 => found.push(pasid),
                    _ if pasid >> (PASID_BITS - CR3_STRIDE * u32::from(levels - 1)) != 0 => (),
                    _ if seen.insert((next, levels - 1)) => open.push((next, levels - 1, pasid)),
                    _ => (),
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// Translates a guest's physical addresses.
    pub(super) fn through(
        &self,
        host: Option<Host>,
    ) -> impl FnMut(IoAddress, &mut Trail) -> Result<Page, Abort> + '_ {
        move |address, trail| match host {
            None => Ok(Page::identity(address)),
            Some(host) => self.host_page(host, host.root, address, trail),
        }
    }

    /// All memory that a requester reaches. Each table is entered once per level and rights, however many entries lead to it,
    /// so the search also ends in tables that fan out.
    pub(crate) fn reach(&self, requester: Requester) -> Vec<Reached> {
        self.context(requester).map_or_else(|_| Vec::new(), |context| self.reach_by(requester, &context))
    }

    fn reach_by(&self, requester: Requester, context: &Context) -> Vec<Reached> {
        let pages = match context.translation {
            Translation::Untranslated => self.all_memory(),
            Translation::Host(host) => self.host_leaves(host),
            Translation::Guest(guest, host) => self.guest_leaves(guest, host),
        };
        let allowed = |(iova, memory, rights): (IoAddress, Range<PhysicalAddress>, Rights)| {
            (iova, memory, rights.and(context.rights))
        };
        let reached = |(iova, memory, rights): (IoAddress, Range<PhysicalAddress>, Rights)| {
            Some(Reached { requester, iova, memory, rights }).filter(|_| rights.any())
        };
        let excluded = self.excluded(requester);
        pages.into_iter().map(allowed).chain(excluded).filter_map(reached).collect()
    }

    /// Everything that any requester reaches and `is_wanted` selects. Tables that many requesters share are searched once.
    pub(crate) fn reach_of_all(&self, is_wanted: impl Fn(&Reached) -> bool) -> Vec<Reached> {
        let mut known: BTreeMap<(Translation, Rights, bool), Vec<Reached>> = BTreeMap::new();
        let mut found = Vec::new();
        for requester in self.requesters() {
            let Ok(context) = self.context(requester) else { continue };
            let key = (context.translation, context.rights, self.excluded(requester).is_some());
            let reached = known.entry(key).or_insert_with(|| self.reach_by(requester, &context));
            found.extend(reached.iter().map(|reached| Reached { requester, ..*reached }).filter(&is_wanted));
        }
        found
    }

    /// The exclusion range, if it is for this requester.
    fn excluded(&self, requester: Requester) -> Option<(IoAddress, Range<PhysicalAddress>, Rights)> {
        let range = self.bases.exclusion;
        let iova = IoAddress::new(range.start.get());
        let its = requester.pasid.is_none() && self.is_excluded(self.entry(requester.source).ok()?, iova);
        its.then_some((iova, range, Rights::ALL))
    }

    /// What a requester reaches untranslated: all RAM.
    fn all_memory(&self) -> Vec<(IoAddress, Range<PhysicalAddress>, Rights)> {
        let kinds = [MemoryKind::Old, MemoryKind::Capture].into_iter();
        let ranges = kinds.flat_map(|kind| self.memory.ranges(kind));
        ranges.map(|memory| (IoAddress::new(memory.start.get()), memory, Rights::ALL)).collect()
    }

    fn host_leaves(&self, host: Host) -> Vec<(IoAddress, Range<PhysicalAddress>, Rights)> {
        let step = |table, iova| self.host_step(host, table, iova, &mut Trail::default()).ok();
        leaves(host.root, step).into_iter().map(Piece::range).collect()
    }

    /// The leaves of a guest, split at the boundaries of its host's leaves. Each piece of the guest is looked up once.
    fn guest_leaves(
        &self,
        guest: Guest,
        host: Option<Host>,
    ) -> Vec<(IoAddress, Range<PhysicalAddress>, Rights)> {
        let Ok(root) = self.root_of(guest, host) else { return Vec::new() };
        let mut through = self.through(host);
        let step = |table, iova| self.guest_step(table, iova, &mut through, &mut Trail::default()).ok();
        let mut pieces = leaves(root, step);
        let unused = 64 - guest.top.width();
        for piece in &mut pieces {
            let extended = (piece.iova.get() << unused).cast_signed() >> unused;
            piece.iova = IoAddress::new(extended.cast_unsigned());
        }
        let Some(host) = host else { return pieces.into_iter().map(Piece::range).collect() };
        let mut seen = BTreeSet::new();
        pieces.retain(|piece| seen.insert((piece.memory, piece.len, piece.rights)));
        pieces.iter().flat_map(|piece| self.through_host(piece, host)).map(Piece::range).collect()
    }

    fn through_host(&self, guest: &Piece, host: Host) -> Vec<Piece> {
        let (mut found, mut offset) = (Vec::new(), 0);
        while offset < guest.len {
            let address = as_guest(guest.memory.saturating_add(offset));
            let page = self.host_page(host, host.root, address, &mut Trail::default());
            let size = page.map_or(Level::ONE.span(), |page| 1 << page.shift);
            let len = (size - address.get() % size).min(guest.len - offset);
            if let Ok(page) = page {
                let (iova, rights) = (guest.iova.saturating_add(offset), guest.rights.and(page.rights));
                found.push(Piece { iova, memory: page.place(address), len, rights });
            }
            offset += len;
        }
        found
    }
}

/// What one entry maps.
#[derive(Clone, Copy, Debug)]
struct Piece {
    iova: IoAddress,
    memory: PhysicalAddress,
    len: u64,
    rights: Rights,
}

impl Piece {
    fn range(self) -> (IoAddress, Range<PhysicalAddress>, Rights) {
        (self.iova, Range::new(self.memory, self.memory.saturating_add(self.len)), self.rights)
    }
}

/// What each entry under `root` maps that allows anything. Each table is entered once per level and rights.
fn leaves(root: Table, mut step: impl FnMut(Table, IoAddress) -> Option<Step>) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([root]);
    let mut open = vec![(root, IoAddress::default())];
    while let Some((table, iova)) = open.pop() {
        for index in 0..table.level.entries() {
            let iova = table.level.address_at(iova, index);
            match step(table, iova) {
                Some(Step::Down(next)) if next.rights.any() && seen.insert(next) => open.push((next, iova)),
                Some(Step::Leaf(page)) if page.rights.any() => {
                    let len = table.level.span().min(1 << page.shift);
                    found.push(Piece { iova, memory: page.place(iova), len, rights: page.rights });
                }
                _ => (),
            }
        }
    }
    found
}
