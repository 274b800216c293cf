//! Takeovers of a small machine, told step by step.
//!
//! The unit here executes commands at once. The model in `tests/invariants/` has late, stuck and forgetful units.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at the first surprise")]

use std::collections::BTreeMap;

use machine::{Frames, Level, PAGE_SIZE, Permission, Range, SourceId};
use vtd::capability::ExtendedCapability;
use vtd::control::{RootTableAddress, TableMode};
use vtd::queue::{DescriptorType, QueueAddress};
use vtd::registers::{CAP, ECAP, FRCD_SIZE, FSTS, GCMD, GSTS, IQA, IQERCD, IQH, IQT, RTADDR};

use takeover::hazard::Danger;
use takeover::{DeviceTlb, Inherited, Limits, OldQueue, Outcome, Surroundings, Takeover, Unit};

mod aliases;
mod device_tlbs;
mod hardware;
mod kernel;
mod pasids;
mod stages;
mod twins;
mod world;

use kernel::{DISK, Kernel, SOUND};
use world::{FAULTS, MEMORY, OWN, Pool, Port, World, own_pages, physical};

/// Context entry and page tables are copied, the queue is drained and replaced, the root pointer is swapped, all
/// caches are invalidated in order, and the disk gets new addresses besides its old ones.
#[test]
fn a_legacy_unit_is_taken_over() {
    let mut kernel = Kernel::legacy();
    let top = kernel.table();
    kernel.map(top, Level::ONE, 0xFFFF_F000, 0x1234_5000);
    kernel.legacy_context(DISK, 0, top, 7);
    let old_root = kernel.root();

    let (mut taken, mut frames) = kernel.die();
    let report = taken.report();
    assert_ne!(kernel.root(), old_root);
    assert_eq!(report.found.queue(), OldQueue::Drained);
    assert_eq!((report.contexts_accepted(), report.leaf_mappings(), report.domains_reserved()), (1, 1, 1));
    assert_eq!(report.tables_duplicated, 5);
    assert!(report.hazards.listed.is_empty());
    assert_eq!(kernel.reach(DISK, 0xFFFF_F123), Some(0x1234_5123));
    assert_eq!(*kernel.world.forgotten.borrow(), [DescriptorType::CONTEXT_CACHE, DescriptorType::IOTLB]);
    assert_eq!(kernel.world.get(GSTS.offset) & 0x8700_0000, 0x8700_0000 & !0x100_0000);

    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (7, Inherited::Tables));
    let iova = taken
        .map(&disk, own_pages(0x3000), Permission::ReadWrite, &kernel.memory(), &mut frames)
        .unwrap()
        .get();
    assert_eq!(kernel.reach(DISK, iova + 0x2000), Some(OWN.start + 0x2000));
    assert_eq!(kernel.reach(DISK, 0xFFFF_F123), Some(0x1234_5123));
    taken.unmap(&disk, Range::from(iova..iova + 0x3000), &mut frames).unwrap();
    assert_eq!(kernel.reach(DISK, iova), None);
}

/// In legacy mode the upper half of a root entry must be zero (9.1): hardware blocked such a bus, and so does the copy, but
/// a driver's device on it works.
#[test]
fn a_bus_whose_root_entry_has_a_reserved_half_stays_blocked_until_a_driver_attaches() {
    let mut kernel = Kernel::legacy();
    let top = kernel.table();
    kernel.map(top, Level::ONE, 0x1000, 0x1234_5000);
    kernel.legacy_context(DISK, 0, top, 7);
    let (root, upper_half) = (kernel.root(), usize::from(DISK.bus()) * 2 + 1);
    kernel.set(root, upper_half, 1);

    let (mut taken, mut frames) = kernel.die();
    assert_eq!(taken.report().contexts_accepted(), 0);
    let hazards: Vec<_> = taken.report().hazards.listed.iter().map(|hazard| hazard.danger).collect();
    assert_eq!(hazards, [Danger::ReservedBits]);
    assert_eq!(kernel.reach(DISK, 0x1000), None);

    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    let iova = taken
        .map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
        .unwrap()
        .get();
    assert_eq!(kernel.reach(DISK, iova), Some(OWN.start));
    let new_root = RootTableAddress::from_bits(kernel.world.get(RTADDR.offset)).address().get();
    assert_eq!(kernel.world.own.borrow()[&new_root][upper_half], 0);
}

/// Both halves of a bus, the PASID directory and table, wide descriptors, and the PASID cache between the other two.
#[test]
fn a_scalable_unit_is_taken_over() {
    let mut kernel = Kernel::scalable();
    for (source, domain, memory) in [(DISK, 1, 0x5000), (SOUND, 2, 0x6000)] {
        let top = kernel.table();
        kernel.map(top, Level::ONE, 0x7FFF_F000, memory);
        kernel.scalable_context(source, 2, top, domain);
    }
    let (mut taken, mut frames) = kernel.die();
    assert_eq!(kernel.reach(DISK, 0x7FFF_F001), Some(0x5001));
    assert_eq!(kernel.reach(SOUND, 0x7FFF_F001), Some(0x6001));
    assert_eq!(RootTableAddress::from_bits(kernel.world.get(RTADDR.offset)).mode(), TableMode::SCALABLE);
    assert!(QueueAddress::from_bits(kernel.world.get(IQA.offset)).wide());
    let order = [DescriptorType::CONTEXT_CACHE, DescriptorType::PASID_CACHE, DescriptorType::IOTLB];
    assert_eq!(*kernel.world.forgotten.borrow(), order);

    let sound = taken.attach(SOUND, &[], &mut frames).unwrap();
    let iova = taken
        .map(&sound, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
        .unwrap()
        .get();
    assert_eq!(kernel.reach(SOUND, iova), Some(OWN.start));
    assert_eq!(kernel.reach(DISK, iova), None);
}

/// A device that the old kernel did not know gets tables all the way down, in either mode.
#[test]
fn a_stranger_gets_a_domain_of_its_own() {
    for kernel in [Kernel::legacy(), Kernel::scalable()] {
        let (mut taken, mut frames) = kernel.die();
        let stranger = taken.attach(SOUND, &[], &mut frames).unwrap();
        assert_eq!(stranger.inherited, Inherited::Nothing);
        let iova = taken
            .map(&stranger, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
            .unwrap()
            .get();
        assert_eq!(kernel.reach(SOUND, iova), Some(OWN.start));
        assert_eq!(taken.attach(SOUND, &[], &mut frames).unwrap(), stranger);
    }
}

/// In pass-through a device reaches all memory but ours, and the driver's addresses are beyond memory.
#[test]
fn pass_through_becomes_a_map_without_our_memory() {
    let mut legacy = Kernel::legacy();
    legacy.legacy_context(DISK, 2, 0, 1);
    let mut scalable = Kernel::scalable();
    scalable.scalable_context(DISK, 4, 0, 1);
    for kernel in [legacy, scalable] {
        let (mut taken, mut frames) = kernel.die();
        for address in [0, OWN.start - 1, OWN.end, MEMORY.end - 1] {
            assert_eq!(kernel.reach(DISK, address), Some(address));
        }
        assert_eq!(kernel.reach(DISK, OWN.start), None);
        assert_eq!(kernel.reach(DISK, OWN.end - 1), None);
        assert_eq!(taken.report().domains[0].outcome, Outcome::Fenced);
        let disk = taken.attach(DISK, &[], &mut frames).unwrap();
        let iova = taken
            .map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
            .unwrap()
            .get();
        assert!(iova >= MEMORY.end);
        assert_eq!(kernel.reach(DISK, iova), Some(OWN.start));
    }
}

/// Only the part of a large page that is ours is cut out.
#[test]
fn a_large_page_around_our_memory_is_split() {
    let mut kernel = Kernel::legacy();
    let top = kernel.table();
    kernel.map(top, Level::THREE, 0x4000_0000, 0);
    kernel.legacy_context(DISK, 0, top, 3);
    let (taken, _) = kernel.die();
    for offset in [0, OWN.start - 1, OWN.end, 0x3FFF_FFFF] {
        assert_eq!(kernel.reach(DISK, 0x4000_0000 + offset), Some(offset));
    }
    assert_eq!(kernel.reach(DISK, 0x4000_0000 + OWN.start), None);
    assert_eq!(kernel.reach(DISK, 0x4000_0000 + OWN.end - 1), None);
    let hazards = &taken.report().hazards.listed;
    assert_eq!(hazards.len(), 1, "{hazards:?}");
    assert_eq!(
        (hazards[0].danger, hazards[0].outcome),
        (Danger::ReachesOwnMemory(OWN.start.into()), Outcome::Fenced)
    );
}

/// Two domains, a small one and one of three tables of level 1: neighbouring pages, scattered pages, and one page
/// of ours.
fn kernel_with_a_large_domain() -> Kernel {
    let mut kernel = Kernel::legacy();
    let small = kernel.table();
    kernel.map(small, Level::ONE, 0x1000, 0x9000);
    kernel.legacy_context(SOUND, 0, small, 1);
    let large = kernel.table();
    for page in 0..512 {
        kernel.map(large, Level::ONE, 0x20_0000 + page * PAGE_SIZE, 0x3000_0000 + page * PAGE_SIZE);
        kernel.map(large, Level::ONE, 0x40_0000 + page * PAGE_SIZE, 0x4000_0000 + page * 2 * PAGE_SIZE);
    }
    kernel.map(large, Level::ONE, 0x60_0000, OWN.start);
    kernel.map(large, Level::ONE, 0x60_1000, 0x7000);
    kernel.legacy_context(DISK, 0, large, 2);
    kernel
}

/// Nine frames: a root and a context table, three tables of the small domain, four for the large one, which has
/// five. Its tables of level 1 are folded or kept in place; only the one in which something must be cut out is
/// copied. New mappings avoid the addresses below kept tables.
#[test]
fn a_domain_that_does_not_fit_is_folded_and_kept_in_place() {
    let kernel = kernel_with_a_large_domain();
    let (mut taken, mut frames) = kernel.die_with(9);
    let domains = &taken.report().domains;
    assert_eq!((domains[0].outcome, domains[0].tables), (Outcome::Fenced, 3));
    assert_eq!((domains[1].outcome, domains[1].tables), (Outcome::Duplicated, 3));
    assert_eq!(kernel.reach(SOUND, 0x1000), Some(0x9000));
    assert_eq!(kernel.reach(DISK, 0x20_5123), Some(0x3000_5123));
    assert_eq!(kernel.reach(DISK, 0x40_5123), Some(0x4000_A123));
    assert_eq!(kernel.reach(DISK, 0x60_1000), Some(0x7000));
    assert_eq!(kernel.reach(DISK, 0x60_0000), None);
    let outcomes: Vec<Outcome> = taken.report().hazards.listed.iter().map(|hazard| hazard.outcome).collect();
    assert_eq!(outcomes, [Outcome::Folded, Outcome::KeptInPlace, Outcome::Fenced]);

    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    let iova = taken
        .map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
        .unwrap()
        .get();
    assert!(!Range::new(0x20_0000, 0x60_2000).contains(iova));
    assert_eq!(kernel.reach(DISK, iova), Some(OWN.start));
}

/// With eight frames the large domain's tables stay in place, but for the three that lead to a bad page.
#[test]
fn only_tables_that_lead_to_a_bad_page_are_copied() {
    let kernel = kernel_with_a_large_domain();
    let (taken, _) = kernel.die_with(8);
    let domain = &taken.report().domains[0];
    assert_eq!((domain.outcome, domain.tables, domain.leaves), (Outcome::Fenced, 3, 1025));
    let reached = [0x20_5123, 0x40_5123, 0x60_1000, 0x60_0000].map(|iova| kernel.reach(DISK, iova));
    assert_eq!(reached, [Some(0x3000_5123), Some(0x4000_A123), Some(0x7000), None]);
}

/// With seven frames the table with the bad page is blocked, with three the whole domain is. The disk can still be
/// attached, and gets addresses that its old domain did not map.
#[test]
fn what_cannot_be_kept_is_blocked_and_said_so() {
    let kernel = kernel_with_a_large_domain();
    let (taken, _) = kernel.die_with(7);
    let domain = &taken.report().domains[0];
    assert_eq!((domain.outcome, domain.tables, domain.leaves), (Outcome::Blocked, 2, 1024));
    let reached = [0x20_5123, 0x40_5123, 0x60_1000, 0x60_0000].map(|iova| kernel.reach(DISK, iova));
    assert_eq!(reached, [Some(0x3000_5123), Some(0x4000_A123), None, None]);

    let kernel = kernel_with_a_large_domain();
    let (mut taken, mut frames) = kernel.die_with(3);
    assert_eq!(taken.report().contexts_accepted(), 1);
    assert_eq!(kernel.reach(DISK, 0x20_5123), None);
    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (2, Inherited::Addresses));
    let iova = taken
        .map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
        .unwrap()
        .get();
    assert!(!Range::new(0x20_0000, 0x80_0000).contains(iova));
}

/// Caches tell domains apart by id only, so the second domain with an id gets another one.
#[test]
fn two_domains_with_one_id_are_told_apart() {
    let mut kernel = Kernel::legacy();
    for (source, memory) in [(DISK, 0x5000), (SOUND, 0x6000)] {
        let top = kernel.table();
        kernel.map(top, Level::ONE, 0x1000, memory);
        kernel.legacy_context(source, 0, top, 9);
    }
    let (taken, _) = kernel.die();
    assert_eq!((kernel.reach(DISK, 0x1000), kernel.reach(SOUND, 0x1000)), (Some(0x5000), Some(0x6000)));
    let ids: Vec<u16> = taken.report().domains.iter().map(|domain| domain.id).collect();
    assert_eq!(ids, vec![9, 1]);
    assert_eq!(taken.report().hazards.listed[0].danger, Danger::DomainIdShared(9));
}
