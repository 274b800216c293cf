//! The old kernel of the stories: writes tables into its memory, and dies.

use std::collections::BTreeMap;
use std::time::Duration;

use machine::{ENTRIES, Frames, Level, PAGE_SIZE, Permission, SourceId};
use paging::{Format, Step};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::{RootTableAddress, TableMode};
use vtd::registers::{CAP, ECAP, GSTS, RTADDR, VER};
use vtd::second_stage::SecondStageEntry;

use takeover::{DeviceTlb, Limits, Surroundings, Takeover, Unit};

use super::world::{FAULTS, MEMORY, OLD, OWN, OldRam, Pool, Port, Shared, World, physical};

/// How long a unit may take to answer: nine looks at the clock.
pub(crate) const DEADLINE: Duration = Duration::from_millis(9);
/// The bit, which hardware ignores, of entries that name tables which a domain does not own.
const MARK: u64 = 1 << 55;

/// The old kernel at work: writes tables into its memory.
pub(crate) struct Kernel {
    pub(crate) world: Shared,
    pub(crate) next: u64,
    pub(crate) device_tlbs: Vec<DeviceTlb>,
}

impl Kernel {
    pub(crate) fn new(mode: TableMode, extended: ExtendedCapability) -> Self {
        let world = Shared::default();
        let capability = Capability::new().with_nd(6).with_sagaw(0b0010).with_mgaw(38).with_sslps(0b11);
        let capability = capability.with_fro((FAULTS / 16) as u16).with_nfr(3);
        world.set(VER.offset, 0x10);
        world.set(CAP.offset, capability.into_bits());
        world.set(ECAP.offset, extended.with_iro(0x21).with_qi(true).with_pt(true).into_bits());
        // TE, RTPS, QIE, IRE, IRTPS: what Linux leaves.
        world.set(GSTS.offset, 0xC700_0000);
        let mut kernel = Self { world, next: OLD, device_tlbs: Vec::new() };
        let root = kernel.table();
        let rtaddr = RootTableAddress::new().with_mode(mode).with_frame(root >> 12);
        kernel.world.set(RTADDR.offset, rtaddr.into_bits());
        kernel
    }

    pub(crate) fn legacy() -> Self {
        Self::new(TableMode::LEGACY, ExtendedCapability::new())
    }

    pub(crate) fn scalable() -> Self {
        Self::new(TableMode::SCALABLE, ExtendedCapability::new().with_smts(true).with_ssts(true))
    }

    /// Changes what the unit can do.
    pub(crate) fn has(&self, capability: impl Fn(Capability) -> Capability) {
        let old = Capability::from_bits(self.world.get(CAP.offset));
        self.world.set(CAP.offset, capability(old).into_bits());
    }

    pub(crate) fn root(&self) -> u64 {
        RootTableAddress::from_bits(self.world.get(RTADDR.offset)).address().get()
    }

    pub(crate) fn table(&mut self) -> u64 {
        let table = self.next;
        self.next += PAGE_SIZE;
        self.world.old.borrow_mut().insert(table, Box::new([0; ENTRIES]));
        table
    }

    pub(crate) fn set(&mut self, table: u64, word: usize, value: u64) {
        self.world.old.borrow_mut().get_mut(&table).unwrap()[word] = value;
    }

    /// The table that an entry points to; makes one if there is none.
    pub(crate) fn below(&mut self, table: u64, word: usize, flags: u64) -> u64 {
        let entry = self.world.old.borrow()[&table][word];
        if entry != 0 {
            return entry & !0xFFF;
        }
        let below = self.table();
        self.set(table, word, below | flags);
        below
    }

    /// Maps one page or large page in second-stage tables of three levels.
    pub(crate) fn map(&mut self, top: u64, level: Level, iova: u64, memory: u64) {
        let leaf = SecondStageEntry::leaf(level, memory.into(), Permission::ReadWrite).0;
        self.map_through(&[Level::THREE, Level::TWO], 3, top, (level, iova), leaf);
    }

    /// Sets the entry for an address at a level, in tables of these levels and below, whose entries have these flags.
    pub(crate) fn map_through(
        &mut self,
        uppers: &[Level],
        flags: u64,
        top: u64,
        place: (Level, u64),
        leaf: u64,
    ) {
        let (mut table, (level, iova)) = (top, place);
        for above in uppers.iter().filter(|above| **above > level) {
            table = self.below(table, above.index(iova.into()), flags);
        }
        self.set(table, level.index(iova.into()), leaf);
    }

    pub(crate) fn legacy_context(&mut self, source: SourceId, translation: u64, top: u64, domain: u16) {
        let contexts = self.below(self.root(), usize::from(source.bus()) * 2, 1);
        self.set(contexts, usize::from(source.devfn()) * 2, top | translation << 2 | 1);
        self.set(contexts, usize::from(source.devfn()) * 2 + 1, u64::from(domain) << 8 | 1);
    }

    /// A context entry whose PASID 0 is of this type (PGTT); returns its directory.
    pub(crate) fn scalable_context(&mut self, source: SourceId, kind: u64, top: u64, domain: u16) -> u64 {
        let (contexts, word) = self.scalable_place(source);
        let (directory, _second_page) = (self.table(), self.table());
        self.set(contexts, word, directory | 2 << 9 | 1);
        let pasids = self.below(directory, 0, 1);
        self.set(pasids, 0, top | kind << 6 | 1 << 2 | 1);
        self.set(pasids, 1, domain.into());
        directory
    }

    /// Sets the first three words of a PASID's entry.
    pub(crate) fn set_pasid(&mut self, directory: u64, pasid: usize, words: [u64; 3]) {
        let page = directory + pasid as u64 / (64 * ENTRIES as u64) * PAGE_SIZE;
        let table = self.below(page, pasid / 64 % ENTRIES, 1);
        for (index, word) in words.into_iter().enumerate() {
            self.set(table, pasid % 64 * 8 + index, word);
        }
    }

    /// The context table of a device in scalable mode, and the first word of its entry there.
    pub(crate) fn scalable_place(&mut self, source: SourceId) -> (u64, usize) {
        let half = usize::from(source.devfn() >> 7);
        let contexts = self.below(self.root(), usize::from(source.bus()) * 2 + half, 1);
        (contexts, usize::from(source.devfn() & 0x7F) * 4)
    }

    /// What is left of it.
    pub(crate) fn memory(&self) -> OldRam {
        OldRam(self.world.clone())
    }

    /// Dies, and is taken over with plenty of frames.
    pub(crate) fn die(&self) -> (Takeover<'_, Port, World>, Pool) {
        self.die_with((OWN.len() / PAGE_SIZE) as usize - 64)
    }

    /// Dies, and is taken over with just this many frames for tables.
    pub(crate) fn die_with(&self, budget: usize) -> (Takeover<'_, Port, World>, Pool) {
        let mut frames = Pool { world: self.world.clone(), tables: BTreeMap::new() };
        let unit = Unit::vtd(Port(self.world.clone()), 0x1000, &*self.world).unwrap();
        let (memory, own) = ([physical(MEMORY)], [physical(OWN)]);
        let surroundings =
            Surroundings { device_tlbs: &self.device_tlbs, ..Surroundings::new(39, &memory, &own) };
        let old = OldRam(self.world.clone());
        // The queue takes a frame for descriptors and one for the status of waits.
        let spare_frames = frames.available() - budget - 2;
        let limits = Limits { deadline: DEADLINE, spare_frames, ..Limits::default() };
        let taken = takeover::take_over(unit, &old, &mut frames, &surroundings, &limits).unwrap();
        (taken, frames)
    }

    /// Where the unit now leads a device's address: through published tables, and through old tables only where
    /// entries are marked.
    pub(crate) fn reach(&self, source: SourceId, iova: u64) -> Option<u64> {
        let root = RootTableAddress::from_bits(self.world.get(RTADDR.offset));
        let (own, old, mut kept) = (self.world.own.borrow(), self.world.old.borrow(), false);
        let follow = |entry: u64| own.get(&(entry & 0x000F_FFFF_FFFF_F000)).filter(|_| entry & 3 != 0);
        let (mut table, format, top) = if root.mode() == TableMode::LEGACY {
            let contexts = follow(own[&root.address().get()][usize::from(source.bus()) * 2])?;
            (follow(contexts[usize::from(source.devfn()) * 2])?, Format::SecondStage, Level::THREE)
        } else {
            let half = usize::from(source.devfn() >> 7);
            let contexts = follow(own[&root.address().get()][usize::from(source.bus()) * 2 + half])?;
            let context = &contexts[usize::from(source.devfn() & 0x7F) * 4..];
            let rid_pasid = (context[1] & 0xF_FFFF) as usize;
            let pasids = follow(*follow(context[0])?.get(rid_pasid / 64)?)?;
            let pasid = &pasids[rid_pasid % 64 * 8..];
            match pasid[0] >> 6 & 7 {
                1 => (
                    own.get(&(pasid[2] & !0xFFF))?,
                    Format::FirstStage,
                    Level::new((pasid[2] >> 2 & 3) as u8 + 4)?,
                ),
                _ => (follow(pasid[0])?, Format::SecondStage, Level::new((pasid[0] >> 2 & 7) as u8 + 2)?),
            }
        };
        for level in (1..=top.number()).rev().filter_map(Level::new) {
            let entry = format.entry(table[level.index(iova.into())]);
            let next = match entry.step(level) {
                Step::Page(page) => return Some(page.memory().start.get() | iova & (level.span() - 1)),
                Step::Table { table, .. } => table,
                Step::Absent | Step::Malformed => return None,
            };
            kept |= entry.bits & MARK != 0;
            let kept_table = old.get(&next.get()).filter(|_| kept);
            table = follow(entry.bits).or(kept_table)?;
        }
        None
    }
}

pub(crate) const DISK: SourceId = SourceId::at(0, 2, 0);
/// A device of the upper half of its bus, which in scalable mode has a context table of its own.
pub(crate) const SOUND: SourceId = SourceId::at(0, 31, 3);
