//! `/proc/iomem`: who uses which physical addresses. Users who are not root see zeros in place of them.

use machine::Range;

/// Where it is.
pub(crate) const FILE: &str = "/proc/iomem";

/// The ranges of a resource, as text: `100000-bffdffff`.
pub(crate) fn named(iomem: &str, is_meant: fn(&str) -> bool) -> impl Iterator<Item = &str> {
    let lines = iomem.lines().filter_map(|line| line.trim_start().split_once(" : "));
    lines.filter(move |(_, name)| is_meant(name)).map(|(range, _)| range)
}

/// Reads a range, whose last byte is in it; `None` for the zeros that users see.
pub(crate) fn bounds(text: &str) -> Option<Range<u64>> {
    let (start, last) = text.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let end = number(last)?.checked_add(1)?;
    Some(Range::new(number(start)?, end)).filter(|range| range.len() > 1)
}
