//! The translation types of scalable mode: first stage, nested, and hardware that has only the first stage.

use super::*;

/// Upper levels of first-stage tables.
const FOUR_LEVELS: [Level; 3] = [Level::FOUR, Level::THREE, Level::TWO];
/// Flags of first-stage entries that name tables: present, writable, user, accessed.
const TABLE: u64 = 0x27;
/// Flags of first-stage leaves: those of tables, and dirty.
const LEAF: u64 = 0x67;

impl Kernel {
    /// A unit with both stages, one nested in the other.
    fn with_both_stages() -> Self {
        let extended =
            ExtendedCapability::new().with_smts(true).with_ssts(true).with_fsts(true).with_nest(true);
        Self::new(TableMode::SCALABLE, extended)
    }

    /// A unit without second stage.
    fn with_first_stage_only() -> Self {
        Self::new(TableMode::SCALABLE, ExtendedCapability::new().with_smts(true).with_fsts(true))
    }

    /// Maps one page or large page in first-stage tables of four levels.
    fn map_first(&mut self, top: u64, level: Level, iova: u64, memory: u64) {
        let page_size = if level == Level::ONE { 0 } else { 0x80 };
        self.map_through(&FOUR_LEVELS, TABLE, top, (level, iova), memory | LEAF | page_size);
    }

    /// A context entry whose PASID 0 has these three words.
    fn pasid_context(&mut self, source: SourceId, words: [u64; 3]) -> u64 {
        let directory = self.scalable_context(source, 0, 0, 0);
        self.set_pasid(directory, 0, words);
        directory
    }

    /// A context entry whose requests go through these first-stage tables.
    fn first_stage_context(&mut self, source: SourceId, top: u64, domain: u64) -> u64 {
        self.pasid_context(source, [FIRST_STAGE, domain, top])
    }

    /// The words of the PASID entry of a device's requests without PASID, in our tables.
    fn pasid_entry(&self, source: SourceId) -> [u64; 3] {
        let own = self.world.own.borrow();
        let half = usize::from(source.devfn() >> 7);
        let contexts = own[&self.root()][usize::from(source.bus()) * 2 + half] & !0xFFF;
        let directory = own[&contexts][usize::from(source.devfn() & 0x7F) * 4] & !0xFFF;
        let table = &own[&(own[&directory][0] & !0xFFF)];
        [table[0], table[1], table[2]]
    }
}

/// Word 0 of PASID entries: PGTT in bits 8:6, AW in 4:2, P.
const FIRST_STAGE: u64 = 1 << 6 | 1;
const NESTED: u64 = 3 << 6 | 1 << 2 | 1;
const PASS_THROUGH: u64 = 4 << 6 | 1;

fn dangers(taken: &Takeover<'_, Port, World>) -> Vec<(Danger, Outcome)> {
    taken.report().hazards.listed.iter().map(|hazard| (hazard.danger, hazard.outcome)).collect()
}

/// Pages of all sizes are carried over, bit for bit, and the driver's addresses are in the lower half, in entries of
/// the same format that need no more accessed and dirty bits.
#[test]
fn first_stage_tables_are_taken_over() {
    let mut kernel = Kernel::with_both_stages();
    kernel.has(|capability| capability.with_fs1gp(true));
    let top = kernel.table();
    kernel.map_first(top, Level::ONE, 0x7FFF_F000, 0x5000);
    kernel.map_first(top, Level::TWO, 0x20_0000, 0x4020_0000);
    kernel.map_first(top, Level::THREE, 0xFFFF_8000_0000_0000, 0x4000_0000);
    kernel.first_stage_context(DISK, top, 7);
    let (mut taken, mut frames) = kernel.die();
    assert!(dangers(&taken).is_empty(), "{:?}", dangers(&taken));
    assert_eq!((taken.report().contexts_accepted(), taken.report().leaf_mappings()), (1, 3));
    assert_eq!(kernel.reach(DISK, 0x7FFF_F123), Some(0x5123));
    assert_eq!(kernel.reach(DISK, 0x21_2345), Some(0x4021_2345));
    assert_eq!(kernel.reach(DISK, 0xFFFF_8000_1234_5678), Some(0x5234_5678));
    assert_eq!(kernel.pasid_entry(DISK)[..2], [FIRST_STAGE, 7]);

    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (7, Inherited::Tables));
    let iova = taken
        .map(&disk, own_pages(0x2000), Permission::ReadWrite, &kernel.memory(), &mut frames)
        .unwrap()
        .get();
    assert_eq!(kernel.reach(DISK, iova + 0x1000), Some(OWN.start + 0x1000));
    // MGAW is 39 bits: QEMU's unit sign-extends from there.
    assert_eq!(taken.addresses(&disk).window().end.get(), 1 << 38);
}

#[test]
fn tables_of_five_levels_are_taken_over_where_the_unit_has_them() {
    for five in [false, true] {
        let mut kernel = Kernel::with_both_stages();
        kernel.has(|capability| capability.with_fs5lp(five));
        let top = kernel.table();
        let below = kernel.below(top, Level::FIVE.index(0x1_0000_0000_0000.into()), TABLE);
        kernel.map_first(below, Level::ONE, 0x3000, 0x5000);
        kernel.pasid_context(DISK, [FIRST_STAGE, 1, top | 1 << 2]);
        let (taken, _) = kernel.die();
        assert_eq!(kernel.reach(DISK, 0x1_0000_0000_3000), five.then_some(0x5000));
        assert_eq!(taken.report().contexts_accepted(), u64::from(five));
    }
}

/// The parts of pages of all sizes that are ours are cut out; malformed entries faulted before and fault now.
#[test]
fn first_stage_pages_that_reach_our_memory_are_fenced() {
    let mut kernel = Kernel::with_both_stages();
    let top = kernel.table();
    kernel.map_first(top, Level::ONE, 0x1000, OWN.start);
    kernel.map_first(top, Level::TWO, 0x20_0000, OWN.start);
    kernel.map_first(top, Level::THREE, 0x4000_0000, 0);
    kernel.map_first(top, Level::ONE, 0x2000, 0x9000);
    kernel.first_stage_context(DISK, top, 1);
    let (taken, _) = kernel.die();
    for iova in [0x1000, 0x20_0000, 0x3F_FFFF] {
        assert_eq!(kernel.reach(DISK, iova), None);
    }
    assert_eq!(kernel.reach(DISK, 0x2000), Some(0x9000));
    // Pages of 1 GiB are none of this unit's.
    assert_eq!(kernel.reach(DISK, 0x4000_0000), None);
    assert_eq!(taken.report().domains[0].outcome, Outcome::Fenced);
}

/// A page of 1 GiB around our memory is split, and its memory type goes with its parts.
#[test]
fn a_first_stage_page_around_our_memory_is_split() {
    let mut kernel = Kernel::with_both_stages();
    kernel.has(|capability| capability.with_fs1gp(true));
    let top = kernel.table();
    let pat = 0x1000;
    kernel.map_first(top, Level::THREE, 0x4000_0000, pat);
    kernel.first_stage_context(DISK, top, 1);
    let (_taken, _frames) = kernel.die();
    for offset in [0, OWN.start - 1, OWN.end, 0x3FFF_FFFF] {
        assert_eq!(kernel.reach(DISK, 0x4000_0000 + offset), Some(offset));
    }
    assert_eq!(kernel.reach(DISK, 0x4000_0000 + OWN.start), None);
}

/// Linux gives all first-stage tables one domain-id: hardware tells them apart by PASID.
#[test]
fn first_stage_tables_of_different_pasids_share_a_domain_id() {
    let mut kernel = Kernel::with_both_stages();
    let (kernel_tables, process_tables) = (kernel.table(), kernel.table());
    kernel.map_first(kernel_tables, Level::ONE, 0x1000, 0x5000);
    kernel.map_first(process_tables, Level::ONE, 0x1000, 0x6000);
    let directory = kernel.first_stage_context(DISK, kernel_tables, 1);
    kernel.set_pasid(directory, 5, [FIRST_STAGE, 1, process_tables]);
    kernel.pasid_context(SOUND, [PASS_THROUGH, 1, 0]);
    let (taken, _) = kernel.die();
    let ids: Vec<u16> = taken.report().domains.iter().map(|domain| domain.id).collect();
    assert_eq!(ids, [1, 1, 2]);
    // Pass-through became second-stage tables, which share an id with no others.
    assert_eq!(dangers(&taken)[0], (Danger::DomainIdShared(1), Outcome::Duplicated));
    assert_eq!(kernel.reach(SOUND, 0x1234_5678), Some(0x1234_5678));
    assert_eq!(kernel.reach(DISK, 0x1000), Some(0x5000));
}

/// The guest's pointer stays, and the second stage that confines it is copied; a driver gets a new domain.
#[test]
fn a_nested_translation_keeps_its_first_stage() {
    let mut kernel = Kernel::with_both_stages();
    let second_stage = kernel.table();
    kernel.map(second_stage, Level::ONE, 0x1000, 0x5000);
    kernel.map(second_stage, Level::ONE, 0x2000, OWN.start);
    let guests = 0x12_3000;
    kernel.pasid_context(DISK, [NESTED | second_stage, 3, guests]);
    let (mut taken, mut frames) = kernel.die();
    let expected = [
        (Danger::GuestTables, Outcome::KeptInPlace),
        (Danger::ReachesOwnMemory(OWN.start.into()), Outcome::Fenced),
    ];
    assert_eq!(dangers(&taken), expected);
    let entry = kernel.pasid_entry(DISK);
    assert_eq!((entry[0] & 0x1DF, entry[1], entry[2]), (NESTED, 3, guests));
    assert!(OWN.contains(entry[0] & !0xFFF));
    assert_eq!(taken.report().contexts[0].outcome, Outcome::Fenced);

    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    assert_eq!(disk.inherited, Inherited::Nothing);
    let iova = taken
        .map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
        .unwrap()
        .get();
    assert_eq!(kernel.reach(DISK, iova), Some(OWN.start));
    assert_eq!(kernel.pasid_entry(DISK)[1..], [u64::from(disk.id), 0]);
    assert_eq!(taken.attach(DISK, &[], &mut frames).unwrap(), disk);
}

/// QEMU's unit with first-stage tables has no second stage: pass-through becomes first-stage tables, and so does what a
/// stranger gets.
#[test]
fn a_unit_without_second_stage_gets_first_stage_tables() {
    let mut kernel = Kernel::with_first_stage_only();
    // AW, EAFE and FSPM mean nothing in pass-through.
    kernel.pasid_context(DISK, [PASS_THROUGH | 2 << 2, 1, 0x9000 | 1 << 7 | 1 << 2]);
    let (mut taken, mut frames) = kernel.die();
    assert_eq!(kernel.reach(DISK, OWN.end), Some(OWN.end));
    assert_eq!(kernel.reach(DISK, OWN.start), None);
    assert_eq!(kernel.pasid_entry(DISK)[..2], [FIRST_STAGE, 1]);
    assert_eq!(kernel.pasid_entry(DISK)[2] & 0xFFF, 0);
    for source in [DISK, SOUND] {
        let device = taken.attach(source, &[], &mut frames).unwrap();
        let iova = taken
            .map(&device, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
            .unwrap()
            .get();
        assert_eq!(kernel.reach(source, iova), Some(OWN.start));
    }
    assert_eq!(kernel.pasid_entry(SOUND)[0], FIRST_STAGE);
}

/// Second-stage tables on a unit without them faulted before; a driver's device gets new ones.
#[test]
fn types_that_the_unit_lacks_are_blocked() {
    for (kernel, kind) in
        [(Kernel::with_first_stage_only(), 2), (Kernel::scalable(), 1), (Kernel::scalable(), 3)]
    {
        let mut kernel = kernel;
        let top = kernel.table();
        kernel.pasid_context(DISK, [top | kind << 6 | 1 << 2 | 1, 1, top]);
        let (mut taken, mut frames) = kernel.die();
        assert_eq!(taken.report().contexts_accepted(), 0);
        assert!(matches!(dangers(&taken)[..], [(Danger::UnsupportedPasidType(_), Outcome::Blocked)]));
        assert!(taken.attach(DISK, &[], &mut frames).is_ok());
    }
}

/// Two tables of level 2 amount to a page of 1 GiB each; what the other says, one page less, stays a table.
#[test]
fn a_domain_that_does_not_fit_is_folded_into_the_largest_pages() {
    let mut kernel = Kernel::with_both_stages();
    kernel.has(|capability| capability.with_fs1gp(true));
    let top = kernel.table();
    let gib = 1 << 30;
    for page in 0..512 {
        kernel.map_first(top, Level::TWO, gib + page * Level::TWO.span(), gib + page * Level::TWO.span());
    }
    for page in 0..5 * 512 {
        kernel.map_first(top, Level::ONE, page * PAGE_SIZE, 0x3000_0000 + page * PAGE_SIZE);
    }
    kernel.first_stage_context(DISK, top, 1);
    // Root, context table, directory, PASID table; seven for a domain that has nine, three of which are left after folding.
    let (taken, _) = kernel.die_with(11);
    assert_eq!(taken.report().domains[0].outcome, Outcome::Folded, "{:?}", dangers(&taken));
    assert_eq!(taken.report().domains[0].tables, 3);
    assert_eq!(kernel.reach(DISK, gib + 0x1234_5678), Some(gib + 0x1234_5678));
    assert_eq!(kernel.reach(DISK, 0x1F_F123), Some(0x301F_F123));
    let root = kernel.world.own.borrow()[&(kernel.pasid_entry(DISK)[2] & !0xFFF)][0] & !0xFFF;
    assert_eq!(kernel.world.own.borrow()[&root][1], gib | 0xE7);
}

/// A domain in which every address is below a table that is kept: a new mapping copies the tables on its path, and the
/// others stay. A table that came to reach our memory is left as it is.
#[test]
fn a_mapping_into_a_kept_table_copies_its_path() {
    let mut kernel = Kernel::legacy();
    let [top, below, leaves] = [(); 3].map(|()| kernel.table());
    for index in 0..512 {
        kernel.set(top, index, below | 3);
        kernel.set(below, index, leaves | 3);
    }
    kernel.set(leaves, 5, 0x1234_5003);
    kernel.legacy_context(DISK, 0, top, 2);
    let (mut taken, mut frames) = kernel.die_with(4);
    assert_eq!(taken.report().domains[0].outcome, Outcome::KeptInPlace, "{:?}", dangers(&taken));
    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    let before = frames.available();
    kernel.world.forgotten.borrow_mut().clear();
    let iova = taken
        .map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
        .unwrap()
        .get();
    assert_eq!(before - frames.available(), 2);
    assert_eq!(kernel.reach(DISK, iova), Some(OWN.start));
    assert_eq!(kernel.reach(DISK, 0x5123), Some(0x1234_5123));
    assert_eq!(kernel.reach(DISK, iova + Level::TWO.span()), None);
    assert_eq!(kernel.reach(DISK, 0x5123 + Level::TWO.span()), Some(0x1234_5123));
    assert_eq!(*kernel.world.forgotten.borrow(), [DescriptorType::IOTLB]);

    kernel.world.old.borrow_mut().get_mut(&leaves).unwrap()[7] = OWN.start | 3;
    let len = Level::TWO.span() - 5 * PAGE_SIZE;
    let refused = taken.map(&disk, own_pages(len), Permission::ReadWrite, &kernel.memory(), &mut frames);
    assert_eq!(refused, Err(takeover::MapError::NoAddress));
    assert_eq!(before - frames.available(), 2);
}

/// A kept table that was damaged after its check does not get into a copy: the mapping is refused, and nothing else
/// changes.
#[test]
fn a_kept_table_that_changed_for_the_worse_is_not_copied() {
    const RESERVED: u64 = 1 << 45;
    for changed in [OWN.start | 3, OWN.start | 0x83, RESERVED | 3, RESERVED | 0x83] {
        let mut kernel = Kernel::legacy();
        let [top, full, below, leaves] = [(); 4].map(|()| kernel.table());
        for index in 0..512 {
            kernel.set(top, index, below | 3);
            kernel.set(full, index, 0x4020_0083);
        }
        kernel.set(top, 0, full | 3);
        kernel.set(below, 0, leaves | 3);
        kernel.set(leaves, 5, 0x1234_5003);
        kernel.legacy_context(DISK, 0, top, 2);
        // Root, context table, and two for the domain: `full` is copied, `below` is not.
        let (mut taken, mut frames) = kernel.die_with(4);
        assert_eq!(taken.report().domains[0].outcome, Outcome::KeptInPlace, "{:?}", dangers(&taken));
        let disk = taken.attach(DISK, &[], &mut frames).unwrap();
        let before = frames.available();
        let mut map =
            || taken.map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames);

        kernel.world.old.borrow_mut().get_mut(&below).unwrap()[300] = changed;
        assert_eq!(map(), Err(takeover::MapError::NoAddress), "{changed:#x}");
        assert_eq!(frames.available(), before);
        assert_eq!(kernel.reach(DISK, 1 << 30 | 0x5123), Some(0x1234_5123));
    }
}

/// A table that two places share, and that cannot be kept in the first, cannot be kept in the second either.
#[test]
fn what_was_found_unfit_to_be_kept_stays_so() {
    let mut kernel = Kernel::legacy();
    let [top, good, shared, leaves] = [(); 4].map(|()| kernel.table());
    for (index, below) in [good, shared, shared].into_iter().enumerate() {
        kernel.set(top, index, below | 3);
    }
    kernel.set(good, 0, 0x4020_0083);
    kernel.set(shared, 0, leaves | 3);
    kernel.set(leaves, 0, OWN.start | 3);
    kernel.legacy_context(DISK, 0, top, 2);
    // Root, context table, and one for the domain.
    let (taken, _) = kernel.die_with(3);
    assert_eq!(kernel.reach(DISK, 0x1234), Some(0x4020_1234));
    assert_eq!((kernel.reach(DISK, 1 << 30), kernel.reach(DISK, 2 << 30)), (None, None));
    let fenced = (Danger::ReachesOwnMemory(OWN.start.into()), Outcome::Fenced);
    let rest =
        [Outcome::Blocked, Outcome::Blocked, Outcome::KeptInPlace].map(|end| (Danger::OverBudget, end));
    assert_eq!(dangers(&taken), [[fenced].as_slice(), &rest].concat());
}

/// Without frames to cut one bad page out, the good page beside it is lost: that is told as blocked, not as fenced,
/// and neither page counts as mapped.
#[test]
fn what_is_lost_beside_a_bad_page_is_told_as_blocked() {
    let mut kernel = Kernel::legacy();
    let [top, middle] = [(); 2].map(|()| kernel.table());
    kernel.set(top, 0, middle | 3);
    kernel.set(middle, 0, 0x4020_0083);
    kernel.set(middle, 1, OWN.start | 0x83);
    kernel.legacy_context(DISK, 0, top, 2);
    // Root, context table, and one for the domain, which has two.
    let (taken, _) = kernel.die_with(3);
    assert_eq!((kernel.reach(DISK, 0), kernel.reach(DISK, 2 << 20)), (None, None));
    let domain = taken.report().domains[0];
    assert_eq!((domain.outcome, domain.leaves), (Outcome::Blocked, 0));
    assert_eq!(taken.report().contexts[0].outcome, Outcome::Blocked);
}
