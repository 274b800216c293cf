//! Measures how fast tables are duplicated and checked, compared with a plain copy; and how long a vast machine
//! takes.
//!
//! `take_over` and `memcpy` handle the same bytes in the same run: compare their throughputs.

mod world;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use machine::{ENTRIES, OldMemory, PAGE_SIZE, PhysicalAddress, Table, Unreadable};
use takeover::Outcome;
use world::{ALLOWED, OLD, Pool, scattered, tables};

fn main() {
    divan::main();
}

/// Pages of 4 KiB that are mapped.
const LEAVES: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// Frames besides those for tables: what a takeover leaves for later.
const SPARE: usize = 80;

/// Census, plan, duplicate, swap.
#[divan::bench(args = LEAVES, min_time = 1)]
fn take_over(bencher: Bencher<'_, '_>, leaves: usize) {
    let old = tables(leaves);
    let mut pool = Pool::new(old.0.len() + SPARE);
    let report = world::take_over(&old, &mut pool);
    assert_eq!((report.leaf_mappings(), report.tables_duplicated), (leaves as u64, old.0.len() as u64));
    bencher
        .counter(BytesCount::new(old.0.len() as u64 * PAGE_SIZE))
        .bench_local(|| world::take_over(black_box(&old), &mut pool));
}

/// The same tables, copied one by one to the same place.
#[divan::bench(args = LEAVES, min_time = 1)]
fn memcpy(bencher: Bencher<'_, '_>, leaves: usize) {
    let old = tables(leaves);
    let mut pool = Pool::new(old.0.len() + SPARE);
    bencher.counter(BytesCount::new(old.0.len() as u64 * PAGE_SIZE)).bench_local(|| {
        for (frame, table) in pool.raw().iter_mut().zip(black_box(&old.0)) {
            black_box(&mut frame.0).copy_from_slice(black_box(&table.0));
        }
    });
}

/// The tables of 1 TiB in pages of 4 KiB, 2 GiB of them: made when they are read.
struct Terabyte {
    page: fn(u64) -> u64,
}

/// Where they are: root, contexts, four levels.
const TOP: u64 = OLD + 2 * PAGE_SIZE;
const MIDDLE: u64 = OLD + 0x10_0000;
const LOWER: u64 = OLD + 0x100_0000;
const LEAF_TABLES: u64 = OLD + 0x1_0000_0000;

impl OldMemory for Terabyte {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        Err(Unreadable { address, len: into.len() as u64 })
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        let fill = |into: &mut Table, first: u64, count: usize| {
            into[count..].fill(0);
            let entries = (first..).step_by(PAGE_SIZE as usize);
            into[..count].iter_mut().zip(entries).for_each(|(entry, table)| *entry = table | ALLOWED);
        };
        let entries = ENTRIES as u64;
        match address.get() {
            LEAF_TABLES.. => {
                let first = (address.get() - LEAF_TABLES) / PAGE_SIZE * entries;
                into.iter_mut().zip(first..).for_each(|(entry, leaf)| *entry = (self.page)(leaf) | ALLOWED);
            }
            LOWER.. => fill(into, LEAF_TABLES + (address.get() - LOWER) * entries, ENTRIES),
            MIDDLE.. => fill(into, LOWER + (address.get() - MIDDLE) * entries, ENTRIES),
            TOP => fill(into, MIDDLE, 2),
            _ => {
                into.fill(0);
                let root = address.get() == OLD;
                let at = if root { 0 } else { 0x20 };
                into[at] = if root { OLD + PAGE_SIZE } else { TOP } | 1;
                into[at + 1] = if root { 0 } else { 7 << 8 | 2 };
            }
        }
        Ok(())
    }
}

/// A quarter of a reservation of 32 MiB.
const BUDGET: usize = (32 << 20) / 4 / PAGE_SIZE as usize;

/// Runs of neighbouring pages, as a driver makes them that maps all of its memory: they are folded.
#[divan::bench(sample_count = 5)]
fn terabyte_of_neighbours() -> u64 {
    let report =
        world::take_over(&Terabyte { page: |leaf| (1 << 40) + leaf * PAGE_SIZE }, &mut Pool::new(BUDGET));
    check(report.domains[0].outcome, Outcome::Folded, report.leaf_mappings())
}

/// Pages all over memory: their tables are checked and stay where they are.
#[divan::bench(sample_count = 5)]
fn terabyte_of_scattered_pages() -> u64 {
    let report = world::take_over(&Terabyte { page: scattered }, &mut Pool::new(BUDGET));
    check(report.domains[0].outcome, Outcome::KeptInPlace, report.leaf_mappings())
}

fn check(outcome: Outcome, wanted: Outcome, leaves: u64) -> u64 {
    assert_eq!(outcome, wanted);
    leaves
}
