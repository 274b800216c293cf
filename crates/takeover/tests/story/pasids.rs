//! PASIDs: a device's directory of them, and the PASID of requests without one.

use super::*;
use takeover::failure::AttachError;

/// Word 0 of PASID entries: PGTT in bits 8:6, AW in 4:2, P.
const SECOND_STAGE: u64 = 2 << 6 | 1 << 2 | 1;
/// PDTS 3: a directory of two pages.
const TWO_PAGES: u64 = 3 << 9;
/// PDTS 0: the smallest directory, 128 entries for 64 PASIDs each.
const SMALLEST: usize = 128 * 64;

impl Kernel {
    /// A unit that supports RID_PASID.
    fn with_pasids() -> Self {
        Self::new(
            TableMode::SCALABLE,
            ExtendedCapability::new().with_smts(true).with_ssts(true).with_pasid(true).with_rps(true),
        )
    }

    /// Gives a PASID tables of its own, which map a page.
    fn use_pasid(&mut self, directory: u64, pasid: usize, domain: u64) {
        let top = self.table();
        self.map(top, Level::ONE, 0x1000, 0x5000);
        self.set_pasid(directory, pasid, [top | SECOND_STAGE, domain, 0]);
    }

    /// A context entry with PASID 0 in domain 1, and this RID_PASID; returns its directory of one page.
    fn context_with_rid_pasid(&mut self, source: SourceId, rid_pasid: u64) -> u64 {
        let directory = self.scalable_context(source, 2, 0, 1);
        self.use_pasid(directory, 0, 1);
        let (contexts, word) = self.scalable_place(source);
        self.set(contexts, word + 1, rid_pasid);
        directory
    }
}

/// A directory of two pages in which PASID 40000 is in use is copied whole, into frames side by side.
#[test]
fn pasids_beyond_the_first_page_of_a_directory_are_carried_over() {
    let mut kernel = Kernel::with_pasids();
    let directory = kernel.context_with_rid_pasid(DISK, 0);
    let (contexts, word) = kernel.scalable_place(DISK);
    kernel.set(contexts, word, directory | TWO_PAGES | 1);
    kernel.use_pasid(directory, 40002, 2);
    let (taken, _) = kernel.die();
    assert!(taken.report().hazards.listed.is_empty());
    assert_eq!(taken.report().contexts_accepted(), 2);
    let own = kernel.world.own.borrow();
    let new = own[&(own[&kernel.root()][0] & !0xFFF)][usize::from(DISK.devfn()) * 4];
    assert_eq!(new & 0xFFF, TWO_PAGES | 1);
    let table = own[&((new & !0xFFF) + PAGE_SIZE)][40002 / 64 - 512] & !0xFFF;
    assert_eq!(own[&table][40002 % 64 * 8] & 0xFFF, SECOND_STAGE);
    assert_eq!(taken.report().contexts[1].pasid, Some(40002));
}

/// A disk whose RID_PASID names no place in its directory. Its requests without PASID faulted; now they do until a driver
/// gets it, and PASID 0 is as it was.
#[test]
fn a_device_whose_rid_pasid_is_beyond_its_directory_can_be_given_to_a_driver() {
    let mut kernel = Kernel::with_pasids();
    kernel.context_with_rid_pasid(DISK, 0xF_FFFF);
    let (mut taken, mut frames) = kernel.die();
    let hazards: Vec<_> =
        taken.report().hazards.listed.iter().map(|found| (found.danger, found.outcome)).collect();
    assert_eq!(hazards, [(Danger::RidPasidTooLarge(0xF_FFFF), Outcome::Fenced)]);
    let pasids = |taken: &Takeover<'_, Port, World>| -> Vec<_> {
        taken.report().contexts.iter().map(|context| (context.pasid, context.outcome)).collect()
    };
    assert_eq!(pasids(&taken), [(Some(0), Outcome::Duplicated)]);
    assert_eq!(kernel.reach(DISK, 0x1000), None);

    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (2, Inherited::Nothing));
    let memory = kernel.memory();
    let iova =
        taken.map(&disk, own_pages(0x1000), Permission::ReadWrite, &memory, &mut frames).unwrap().get();
    assert_eq!(kernel.reach(DISK, iova), Some(OWN.start));
    let own = kernel.world.own.borrow();
    let follow = |entry: u64| &own[&(entry & !0xFFF)];
    let context = &follow(own[&kernel.root()][0])[usize::from(DISK.devfn()) * 4..];
    assert_eq!(context[1], 1, "the lowest PASID that nobody uses");
    let pasids = follow(follow(context[0])[0]);
    assert_eq!(pasids[1] & 0xFFFF, 1, "PASID 0 keeps its domain");
}

/// Of a directory of two pages only the first is in use, and is copied: RID_PASID was within the old one.
#[test]
fn a_rid_pasid_in_a_page_of_the_directory_that_nobody_uses_is_no_hazard() {
    let mut kernel = Kernel::with_pasids();
    let directory = kernel.context_with_rid_pasid(DISK, 40000);
    let (contexts, word) = kernel.scalable_place(DISK);
    kernel.set(contexts, word, directory | TWO_PAGES | 1);
    let (mut taken, mut frames) = kernel.die();
    assert!(taken.report().hazards.listed.is_empty());
    assert_eq!(taken.attach(DISK, &[], &mut frames).unwrap().inherited, Inherited::Nothing);
}

/// The takeover takes no PASID from its user.
#[test]
fn a_directory_without_an_unused_pasid_has_no_place_for_a_driver() {
    let mut kernel = Kernel::with_pasids();
    let directory = kernel.context_with_rid_pasid(DISK, SMALLEST as u64);
    let (contexts, word) = kernel.scalable_place(DISK);
    kernel.set(contexts, word, directory | 1);
    let top = kernel.table();
    (0..SMALLEST).for_each(|pasid| kernel.set_pasid(directory, pasid, [top | SECOND_STAGE, 1, 0]));
    let (mut taken, mut frames) = kernel.die();
    assert_eq!(taken.report().contexts_accepted(), SMALLEST as u64);
    assert_eq!(taken.attach(DISK, &[], &mut frames), Err(AttachError::NoPlace));
}
