//! Walks the dead kernel's tables, and those that Holdover put in their place, with a reader of its own, which shares
//! nothing with the code under test.
//!
//! Both modes of the Intel VT-d specification (revision 4.1), section 9 "Translation Structure Formats", and device tables of the
//! AMD I/O virtualization technology specification (3.08), section 2.2: `function` and `device` find out how a function's requests
//! are translated, `stage` walks page tables by the `format` of their entries, `run` compares the mappings.

mod device;
mod format;
mod function;
#[cfg(test)]
pub(crate) mod made;
mod run;
mod stage;

use std::collections::HashSet;

use machine::{PAGE_SIZE, Range};

use crate::machines::ram::Ram;
pub(crate) use format::Format;
pub(crate) use function::Way;
pub(crate) use run::{Run, difference, without};

/// Bits of table entries that stand at the same place wherever they exist.
const PRESENT: u64 = 1;
const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Below 1 MiB, what is not RAM for a device, on every machine since the first.
const VIDEO_AND_ROMS: Range<u64> = Range::new(0xa_0000, 0x10_0000);

/// What an address in a table can name.
const ALL_ADDRESSES: Range<u64> = Range::new(0, 1 << 52);

/// Where a unit's first table is, and how the unit reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// Its address.
    pub(crate) address: u64,
    /// What it is.
    pub(crate) layout: Layout,
}

/// What a unit's first table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A root table of VT-d's in legacy mode.
    Legacy,
    /// A root table of VT-d's in scalable mode.
    Scalable,
    /// AMD-Vi's device table.
    Devices {
        /// Page frames in a row.
        frames: u64,
    },
}

impl Root {
    /// The register that holds it: RTADDR, whose bit 10 selects scalable mode (VT-d, section 11.4.5), or the device table's base,
    /// whose bits 8:0 count its page frames, less one (AMD-Vi, section 3.4.1).
    pub(crate) fn register(self) -> u64 {
        match self.layout {
            Layout::Legacy => self.address,
            Layout::Scalable => self.address | 1 << 10,
            Layout::Devices { frames } => self.address | (frames - 1),
        }
    }

    /// The device table of such a register.
    pub(crate) fn of_devices(register: u64) -> Self {
        let frames = (register & 0x1ff) + 1;
        Self { address: register & ADDRESS, layout: Layout::Devices { frames } }
    }
}

/// The tables below a root table in a file of guest memory.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'a> {
    ram: &'a Ram,
    root: Root,
}

impl<'a> Tables<'a> {
    /// The tables of a root table.
    pub(crate) fn new(ram: &'a Ram, root: Root) -> Self {
        Self { ram, root }
    }

    /// Whether other tables are the same device table, at another time. What changes there changes by whole entries.
    pub(crate) fn are_in_place_of(&self, other: &Self) -> bool {
        self.is_of_amd() && self.root == other.root
    }

    /// The pages of the device table; none of VT-d's.
    pub(crate) fn device_table_pages(&self) -> impl Iterator<Item = u64> + use<> {
        let Root { address, layout } = self.root;
        let frames = if let Layout::Devices { frames } = layout { frames } else { 0 };
        (0..frames).map(move |frame| address + frame * PAGE_SIZE)
    }

    /// Whether they are a unit's of AMD's.
    pub(crate) fn is_of_amd(&self) -> bool {
        matches!(self.root.layout, Layout::Devices { .. })
    }

    /// Where in memory `iova` of the function `source` leads; `None` if the unit would refuse the request, or nothing is there.
    pub(crate) fn translate(&self, source: u16, iova: u64) -> Option<u64> {
        match self.way(source)? {
            Way::Untranslated => self.ram.contains(iova).then_some(iova),
            Way::Stage(stage) => self.walk(stage, iova),
        }
    }

    /// Where in memory the page begins that `iova` of the function `source` is in, however large that page is, and its size.
    pub(crate) fn page(&self, source: u16, iova: u64) -> Option<(u64, u64)> {
        match self.way(source)? {
            Way::Untranslated => Some((iova & !(PAGE_SIZE - 1), PAGE_SIZE)),
            Way::Stage(stage) => self.leaf(stage, iova),
        }
    }

    /// Everything that a function reaches, in order of I/O addresses; without translation, all memory.
    pub(crate) fn runs(&self, source: u16) -> Vec<Run> {
        match self.way(source) {
            None => Vec::new(),
            Some(Way::Stage(stage)) => self.runs_of(stage),
            Some(Way::Untranslated) => {
                let memory: Vec<_> = self.ram.ranges().into_iter().map(identity).collect();
                difference(&memory, &[identity(VIDEO_AND_ROMS)])
            }
        }
    }

    /// Everything that the tables allow a function: without translation, also addresses where there is no memory.
    pub(crate) fn allowed(&self, source: u16) -> Vec<Run> {
        match self.way(source) {
            Some(Way::Untranslated) => vec![identity(ALL_ADDRESSES)],
            _ => self.runs(source),
        }
    }

    /// The functions that reach memory untranslated.
    pub(crate) fn untranslated(&self) -> Vec<u16> {
        let functions = self.functions().into_iter();
        functions.filter(|&source| self.way(source) == Some(Way::Untranslated)).collect()
    }

    /// The page frames that a translated function may write, by address.
    pub(crate) fn writable_pages(&self) -> HashSet<u64> {
        let runs = self.stages().into_iter().flat_map(|stage| self.runs_of(stage));
        let writable = runs.filter(|run| run.writable);
        writable.flat_map(|run| (run.address..run.address + run.len).step_by(PAGE_SIZE as usize)).collect()
    }

    /// The page frames that hold first-stage tables: the unit sets accessed and dirty bits in them.
    pub(crate) fn noted_pages(&self) -> HashSet<u64> {
        let stages = self.stages().into_iter().filter(|stage| stage.format == Format::First);
        stages.flat_map(|stage| self.tables_of(stage)).collect()
    }

    /// All page tables, each once however many functions share it.
    fn stages(&self) -> HashSet<stage::Stage> {
        let stage = |source| match self.way(source) {
            Some(Way::Stage(stage)) => Some(stage),
            _ => None,
        };
        self.functions().into_iter().filter_map(stage).collect()
    }

    /// What the unit reads at an address; `None` where there is no memory, and it refuses the request.
    fn word(&self, address: u64) -> Option<u64> {
        self.ram.read_u64(address).ok()
    }
}

/// Addresses that lead to themselves.
pub(crate) fn identity(memory: Range<u64>) -> Run {
    Run { iova: memory.start, address: memory.start, len: memory.len(), writable: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// 00:14.0.
    const SOURCE: u16 = 0xa0;
    const LEGACY: Root = Root { address: 0x1000, layout: Layout::Legacy };
    const SCALABLE: Root = Root { layout: Layout::Scalable, ..LEGACY };

    /// Root at 0x1000, bus 0's context table at 0x2000, function 00:14.0 with three levels at 0x3000.
    fn legacy() -> HashMap<u64, u64> {
        HashMap::from([
            (0x1000, 0x2001),             // root entry of bus 0: present
            (0x2000 + 0xa0 * 16, 0x3001), // context entry: present, translated
            (0x2008 + 0xa0 * 16, 0x0101), // domain 1, 39 bits wide
            (0x3000 + 3 * 8, 0x4003),     // IOVA 0xc000_0000 and up
            (0x4000, 0x5003),             // its first 2 MiB in small pages
            (0x4008, 0x20_0083),          // the next 2 MiB in one page, writable
            (0x5000, 0x9001),             // read-only page
            (0x5008, 0xa003),             // writable page
        ])
    }

    /// The same page tables under a PASID entry of RID_PASID 65, in the upper half of the bus.
    fn scalable() -> HashMap<u64, u64> {
        let mut memory = legacy();
        memory.extend([
            (0x1000, 0),
            (0x1008, 0x6001), // upper half of bus 0's root entry: functions from 0x80 up
            (0x6000 + 0x20 * 32, 0x7001), // context entry of 0xa0: directory at 0x7000, of 128 entries
            (0x6008 + 0x20 * 32, 65), // RID_PASID
            (0x7008, 0x8001), // directory entry of PASIDs 64 to 127
            (0x8040, 0x3085), // PASID 65: present, width 1 (39 bits), second stage
        ]);
        memory
    }

    /// A PASID entry of the first stage: four levels at 0xb000, whose entries lead to the tables above.
    fn first_stage() -> HashMap<u64, u64> {
        let mut memory = scalable();
        memory.extend([
            (0x8040, 0x41),   // present, first stage
            (0x8050, 0xb000), // four levels at 0xb000
            (0xb000, 0x3007), // present, writable, for users
            (0x3000 + 3 * 8, 0x4007),
            (0x4000, 0x5007),
            (0x4008, 0x20_0087),
            (0x5000, 0x9005), // read-only
            (0x5008, 0xa007),
            (0x5010, 0xd003), // not for users
        ]);
        memory
    }

    fn with_tables<T>(memory: &HashMap<u64, u64>, root: Root, use_tables: impl FnOnce(&Tables) -> T) -> T {
        made::with_ram(0x10000, memory.clone(), |ram| use_tables(&Tables::new(ram, root)))
    }

    #[test]
    fn small_and_large_pages_are_walked_to_their_address_in_every_mode() {
        for (memory, root) in [(legacy(), LEGACY), (scalable(), SCALABLE), (first_stage(), SCALABLE)] {
            with_tables(&memory, root, |tables| {
                assert_eq!(tables.functions(), [SOURCE]);
                assert_eq!(tables.translate(SOURCE, 0xc000_1234), Some(0xa234));
                assert_eq!(tables.translate(SOURCE, 0xc030_0010), Some(0x30_0010));
            });
        }
    }

    #[test]
    fn what_is_not_mapped_leads_nowhere() {
        with_tables(&legacy(), LEGACY, |tables| {
            assert_eq!(tables.translate(SOURCE, 0xc000_2000), None, "empty leaf entry");
            assert_eq!(tables.translate(SOURCE, 0), None, "empty entry further up");
            assert_eq!(tables.translate(0xa8, 0xc000_1000), None, "no context entry");
            assert_eq!(tables.translate(0x1a0, 0xc000_1000), None, "no bus");
            assert_eq!(tables.translate(SOURCE, 1 << 39), None, "past the width");
        });
        with_tables(&first_stage(), SCALABLE, |tables| {
            assert_eq!(tables.translate(SOURCE, 0xc000_2000), None, "not for users");
            assert_eq!(tables.translate(SOURCE, 0xffff_0000_c000_1234), None, "not canonical");
        });
    }

    #[test]
    fn a_pointer_that_leaves_memory_leads_nowhere() {
        for at in [0x1000, 0x2000 + 0xa0 * 16, 0x3000 + 3 * 8, 0x4000] {
            let mut memory = legacy();
            memory.insert(at, 0xfed0_0003);
            with_tables(&memory, LEGACY, |tables| {
                assert_eq!(tables.translate(SOURCE, 0xc000_1000), None);
                assert!(tables.runs(SOURCE).iter().all(|run| run.address == 0x20_0000));
            });
        }
    }

    #[test]
    fn a_pasid_past_the_end_of_its_directory_leads_nowhere() {
        let mut memory = scalable();
        memory.insert(0x6008 + 0x20 * 32, 128 << 6);
        with_tables(&memory, SCALABLE, |tables| assert_eq!(tables.way(SOURCE), None));
    }

    #[test]
    fn only_pages_that_a_device_may_write_count_as_writable() {
        with_tables(&legacy(), LEGACY, |tables| {
            let pages = tables.writable_pages();
            assert!(!pages.contains(&0x9000));
            assert!(pages.contains(&0xa000) && pages.contains(&0x20_0000) && pages.contains(&0x3f_f000));
            assert_eq!(pages.len(), 1 + 512);
        });
    }

    #[test]
    fn a_read_only_entry_further_up_makes_everything_below_read_only() {
        let mut memory = legacy();
        memory.insert(0x3000 + 3 * 8, 0x4001);
        with_tables(&memory, LEGACY, |tables| assert!(tables.writable_pages().is_empty()));
    }

    #[test]
    fn without_translation_all_memory_is_reached_as_it_is() {
        let mut legacy = legacy();
        legacy.insert(0x2000 + 0xa0 * 16, 0x9);
        let mut scalable = scalable();
        scalable.insert(0x8040, 0x101);
        for (memory, root) in [(legacy, LEGACY), (scalable, SCALABLE)] {
            with_tables(&memory, root, |tables| {
                assert_eq!(tables.translate(SOURCE, 0x1234), Some(0x1234));
                assert_eq!(tables.translate(SOURCE, 0x1234_5678), None, "nothing is there");
                assert_eq!(tables.runs(SOURCE), [Run { iova: 0, address: 0, len: 0x10000, writable: true }]);
                assert_eq!(tables.untranslated(), [SOURCE]);
            });
        }
    }

    #[test]
    fn only_first_stage_tables_are_noted_in() {
        with_tables(&first_stage(), SCALABLE, |tables| {
            assert_eq!(tables.noted_pages(), HashSet::from([0xb000, 0x3000, 0x4000, 0x5000]));
        });
        with_tables(&scalable(), SCALABLE, |tables| assert!(tables.noted_pages().is_empty()));
    }
}
