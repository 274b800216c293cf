//! Allocates I/O addresses around a dead kernel's mappings: this crate compared with others' allocators.
//!
//! 100,000 ranges are in use, one to four pages each, with gaps of one to three pages between them and free space
//! after the last, as a network card's buffers leave a domain. The benchmark measures (1) how long an allocator takes
//! to learn of them, and (2) a driver's work: 1,000 allocations of one and of sixteen pages in turn, of which 64 live
//! at a time.
//!
//! `range-alloc` cannot learn what is in use: the benchmark allocates everything in order and frees the gaps, which
//! is not measured. `rangemap` is a set of ranges, not an allocator: the benchmark searches it for gaps from where
//! the last one was found, as this crate does.

use std::collections::VecDeque;
use std::sync::LazyLock;

use divan::{Bencher, black_box};
use machine::{IoAddress, Range};
use range_alloc::RangeAllocator;
use rangemap::RangeSet;
use vm_allocator::{AddressAllocator, AllocPolicy, RangeInclusive};

const PAGE: u64 = 4096;
const WINDOW: Range<u64> = Range::new(PAGE, 1 << 39);
const RESERVED: usize = 100_000;
const REQUESTS: usize = 1_000;
const LIVE: usize = 64;

fn main() {
    divan::main();
}

/// What is in use, ascending.
static USED: LazyLock<Vec<Range<u64>>> = LazyLock::new(|| {
    let mut next = WINDOW.start;
    let mut used = |seed: u64| {
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let start = next + (1 + mixed % 3) * PAGE;
        next = start + (1 + mixed / 3 % 4) * PAGE;
        Range::new(start, next)
    };
    (0..RESERVED as u64).map(&mut used).collect()
});

/// The operations of all allocators.
trait Allocator: Sized {
    /// Makes an allocator that knows the ranges in use.
    fn among(used: &[Range<u64>]) -> Self;
    fn allocate(&mut self, len: u64) -> Range<u64>;
    fn release(&mut self, range: Range<u64>);
}

/// Converts a range of numbers into one of I/O addresses.
fn io(range: Range<u64>) -> Range<IoAddress> {
    Range::from(range.start..range.end)
}

/// This crate.
struct Iova(iova::Space);

impl Allocator for Iova {
    fn among(used: &[Range<u64>]) -> Self {
        let mut space = iova::Space::new(io(WINDOW), used.len()).expect("memory");
        for range in used {
            space.reserve(io(*range));
        }
        Self(space)
    }

    fn allocate(&mut self, len: u64) -> Range<u64> {
        let start = self.0.allocate(len, PAGE, io(WINDOW)).expect("room").get();
        Range::new(start, start + len)
    }

    fn release(&mut self, range: Range<u64>) {
        self.0.release(io(range)).expect("what was allocated");
    }
}

struct VmAllocator(AddressAllocator);

impl VmAllocator {
    fn take(&mut self, len: u64, policy: AllocPolicy) -> Range<u64> {
        let range = self.0.allocate(len, PAGE, policy).expect("room");
        Range::new(range.start(), range.end() + 1)
    }
}

impl Allocator for VmAllocator {
    fn among(used: &[Range<u64>]) -> Self {
        let mut this = Self(AddressAllocator::new(WINDOW.start, WINDOW.len()).expect("an allocator"));
        for range in used {
            this.take(range.len(), AllocPolicy::ExactMatch(range.start));
        }
        this
    }

    fn allocate(&mut self, len: u64) -> Range<u64> {
        self.take(len, AllocPolicy::FirstMatch)
    }

    fn release(&mut self, range: Range<u64>) {
        let range = RangeInclusive::new(range.start, range.end - 1).expect("a range");
        self.0.free(&range).expect("what was allocated");
    }
}

struct RangeAlloc(RangeAllocator<u64>);

impl Allocator for RangeAlloc {
    fn among(used: &[Range<u64>]) -> Self {
        let mut this = Self(RangeAllocator::new(WINDOW.start..WINDOW.end));
        let mut gaps = Vec::new();
        let mut next = WINDOW.start;
        for range in used {
            gaps.push(this.allocate(range.start - next));
            this.allocate(range.len());
            next = range.end;
        }
        for gap in gaps.into_iter().rev() {
            this.release(gap);
        }
        this
    }

    fn allocate(&mut self, len: u64) -> Range<u64> {
        let range = self.0.allocate_range(len).expect("room");
        Range::new(range.start, range.end)
    }

    fn release(&mut self, range: Range<u64>) {
        self.0.free_range(range.start..range.end);
    }
}

struct RangeMap {
    used: RangeSet<u64>,
    next: u64,
}

impl RangeMap {
    fn find(&self, len: u64, from: u64) -> Option<u64> {
        let all = from..WINDOW.end;
        self.used.gaps(&all).find(|gap| gap.end - gap.start >= len).map(|gap| gap.start)
    }
}

impl Allocator for RangeMap {
    fn among(used: &[Range<u64>]) -> Self {
        Self { used: used.iter().map(|range| range.start..range.end).collect(), next: WINDOW.start }
    }

    fn allocate(&mut self, len: u64) -> Range<u64> {
        let start = self.find(len, self.next).or_else(|| self.find(len, WINDOW.start)).expect("room");
        self.used.insert(start..start + len);
        self.next = start + len;
        Range::new(start, start + len)
    }

    fn release(&mut self, range: Range<u64>) {
        self.used.remove(range.start..range.end);
    }
}

#[divan::bench(types = [Iova, VmAllocator, RangeMap], sample_count = 10)]
fn reserve<A: Allocator>() -> A {
    A::among(black_box(&USED))
}

#[divan::bench(types = [Iova, VmAllocator, RangeAlloc, RangeMap], sample_count = 10)]
fn allocate_and_release<A: Allocator>(bencher: Bencher<'_, '_>) {
    let mut allocator = A::among(&USED);
    bencher.counter(divan::counter::ItemsCount::new(REQUESTS)).bench_local(|| {
        let mut live = VecDeque::with_capacity(LIVE + 1);
        for request in 0..REQUESTS {
            live.push_back(allocator.allocate(if request % 2 == 0 { PAGE } else { 16 * PAGE }));
            if live.len() > LIVE {
                allocator.release(live.pop_front().expect("the oldest"));
            }
        }
        for range in live {
            allocator.release(range);
        }
    });
}
