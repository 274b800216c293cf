//! Formats sizes for people.

use std::fmt;

use unit_prefix::NumberPrefix;

/// A number of bytes, shown with a binary prefix: `1.50 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        match NumberPrefix::binary(self.0 as f64) {
            NumberPrefix::Standalone(bytes) => write!(f, "{bytes:.0} B"),
            NumberPrefix::Prefixed(prefix, number) => write!(f, "{number:.2} {prefix}B"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_largest_prefix_that_fits() {
        let told = [15, 1500, 3 << 19, 1 << 40].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(told, ["15 B", "1.46 KiB", "1.50 MiB", "1.00 TiB"]);
    }
}
