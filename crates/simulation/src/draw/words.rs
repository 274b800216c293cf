//! Numbers as people read them.

use crate::values::PolicyResult;

/// Formats bytes: `16 MiB`.
pub(super) fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = units.into_iter().find(|(shift, _)| bytes >> shift > 0 && bytes.trailing_zeros() >= *shift);
    fits.map_or_else(|| format!("{bytes} bytes"), |(shift, unit)| format!("{} {unit}", bytes >> shift))
}

/// Separates thousands: `15,316`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let group = |(index, digit): (usize, char)| {
        let apart = index > 0 && (digits.len() - index).is_multiple_of(3);
        apart.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(group).collect()
}

/// Cuts text to at most this many characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let text: String = text.chars().filter(|character| !character.is_control()).collect();
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Breaks words into at most `most` lines of at most `width` characters.
pub(super) fn lines(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace().map(|word| shortened(word, width)) {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => line.extend([" ", &word]),
            None => lines.push(word),
        }
    }
    lines.truncate(most);
    lines
}

/// Says in words what accesses met.
pub(super) fn met(result: &PolicyResult) -> String {
    let (traffic, landing) = (&result.traffic, &result.landing);
    let parts = [
        (traffic.as_before, "answered as before"),
        (traffic.fenced, "fenced off"),
        (traffic.faulted, "faulted"),
        (landing.old_memory, "to arbitrary memory"),
        (landing.capture_kernel, "into the capture kernel"),
        (landing.elsewhere, "to no memory"),
    ];
    let told = parts.into_iter().filter(|(number, _)| *number > 0);
    told.map(|(number, what)| format!("{} {what}", count(number))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([size(16 << 20), size(5 << 10), size(4095)], ["16 MiB", "5 KiB", "4095 bytes"]);
        assert_eq!(
            [count(0), count(999), count(15316), count(1_000_000)],
            ["0", "999", "15,316", "1,000,000"]
        );
    }

    #[test]
    fn text_keeps_to_its_place() {
        assert_eq!(shortened("a\nlong title", 6), "along…");
        assert_eq!(lines("one two three", 7, 5), ["one two", "three"]);
        assert_eq!(lines("one two three", 7, 1), ["one two"]);
    }
}
