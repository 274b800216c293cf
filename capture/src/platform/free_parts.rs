//! The parts of memory that nobody occupies.

use machine::{PAGE_SIZE, PhysicalAddress, Range};

/// Calls `found` with each part of `pages`, in whole pages, that nothing in `occupied` touches.
pub fn for_each_free_part(
    pages: Range<PhysicalAddress>,
    occupied: &[Range<PhysicalAddress>],
    found: &mut impl FnMut(Range<PhysicalAddress>),
) {
    if let Some(taken) = occupied.iter().find(|taken| taken.overlaps(pages)) {
        let before = Range::new(pages.start, taken.start.align_down(PAGE_SIZE));
        let after = Range::new(taken.end.align_up(PAGE_SIZE), pages.end);
        for_each_free_part(before, occupied, found);
        for_each_free_part(after, occupied, found);
    } else if !pages.is_empty() {
        found(pages);
    }
}
