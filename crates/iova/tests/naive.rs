//! Compares the space with the simplest model: one mark per address.

use iova::Space;
use machine::{IoAddress, Range};
use proptest::prelude::*;

const SIZE: u64 = 256;

#[derive(Clone, Debug)]
enum Step {
    Reserve(Range<IoAddress>),
    Allocate { len: u64, align: u64, within: Range<IoAddress> },
    Release(usize),
}

const fn io(start: u64, end: u64) -> Range<IoAddress> {
    Range::new(IoAddress::new(start), IoAddress::new(end))
}

fn range() -> impl Strategy<Value = Range<IoAddress>> {
    (0..SIZE + 20, 0..40_u64).prop_map(|(start, len)| io(start, start + len))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        range().prop_map(Step::Reserve),
        (0..20_u64, 0..5_u32, prop_oneof![Just(io(0, u64::MAX)), range()])
            .prop_map(|(len, order, within)| Step::Allocate { len, align: 1 << order, within }),
        any::<usize>().prop_map(Step::Release),
    ]
}

/// One mark per address, and the allocations in the order they were made.
struct Naive {
    window: Range<IoAddress>,
    reserved: Vec<bool>,
    live: Vec<Range<IoAddress>>,
}

impl Naive {
    fn new(window: Range<IoAddress>) -> Self {
        Self { window, reserved: vec![false; SIZE as usize], live: Vec::new() }
    }

    fn reserve(&mut self, range: Range<IoAddress>) {
        (range.start.get()..range.end.get().min(SIZE))
            .for_each(|address| self.reserved[address as usize] = true);
    }

    fn is_free(&self, range: Range<IoAddress>) -> bool {
        let free = |address| {
            !self.reserved[address as usize] && !self.live.iter().any(|l| l.contains(IoAddress::new(address)))
        };
        self.window.covers(range) && (range.start.get()..range.end.get()).all(free)
    }

    fn fits(&self, len: u64, align: u64, within: Range<IoAddress>) -> bool {
        let area = within.intersection(self.window);
        let aligned = |start: &u64| start.is_multiple_of(align);
        let fits = |start| area.covers(io(start, start + len)) && self.is_free(io(start, start + len));
        len > 0 && (area.start.get()..area.end.get()).filter(aligned).any(fits)
    }
}

/// Runs `steps` on both and compares after each. The space may miss free addresses only if it closed gaps.
fn run(window: Range<IoAddress>, limit: usize, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut space = Space::new(window, limit).expect("memory");
    let mut naive = Naive::new(window);
    for step in steps {
        match step {
            Step::Reserve(range) => {
                space.reserve(range);
                naive.reserve(range);
            }
            Step::Allocate { len, align, within } => allocate(&mut space, &mut naive, len, align, within)?,
            Step::Release(pick) => release(&mut space, &mut naive, pick)?,
        }
        check(&space, &naive, limit)?;
    }
    Ok(())
}

fn allocate(
    space: &mut Space,
    naive: &mut Naive,
    len: u64,
    align: u64,
    within: Range<IoAddress>,
) -> Result<(), TestCaseError> {
    let Some(start) = space.allocate(len, align, within) else {
        prop_assert!(space.gaps_closed() > 0 || !naive.fits(len, align, within), "there was room");
        return Ok(());
    };
    let range = io(start.get(), start.get() + len);
    prop_assert!(
        start.is_aligned(align) && within.covers(range) && naive.is_free(range),
        "{range} is not to be had"
    );
    naive.live.push(range);
    Ok(())
}

fn release(space: &mut Space, naive: &mut Naive, pick: usize) -> Result<(), TestCaseError> {
    if naive.live.is_empty() {
        prop_assert!(space.release(io(0, 1)).is_err());
        return Ok(());
    }
    let range = naive.live.swap_remove(pick % naive.live.len());
    prop_assert_eq!(space.release(range), Ok(()));
    prop_assert!(space.release(range).is_err(), "released twice");
    Ok(())
}

/// Checks that the space reports as reserved what was reserved, and more only if it closed gaps.
fn check(space: &Space, naive: &Naive, limit: usize) -> Result<(), TestCaseError> {
    prop_assert!(space.reserved().len() <= limit);
    prop_assert!(space.reserved().windows(2).all(|pair| pair[0].end < pair[1].start), "sorted and apart");
    for address in naive.window.start.get()..naive.window.end.get() {
        let one = io(address, address + 1);
        prop_assert!(!space.is_free(one) || naive.is_free(one), "{address} is in use");
        prop_assert!(
            space.gaps_closed() > 0 || space.is_free(one) == naive.is_free(one),
            "{address} is free"
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_space_with_room_agrees_with_a_mark_per_address(
        from in 0..40_u64,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        run(io(from, SIZE), 1000, steps)?;
    }

    #[test]
    fn a_space_without_room_errs_on_the_safe_side(
        limit in 2..6_usize,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        run(io(0, SIZE), limit, steps)?;
    }
}
