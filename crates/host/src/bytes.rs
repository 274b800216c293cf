//! Sizes as people write and read them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use unit_prefix::NumberPrefix;

/// A number of bytes, shown with a binary prefix: `1.50 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Bytes(pub u64);

/// A text that is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no size: it is bytes, or a number with KiB, MiB, GiB or TiB (K, M, G, T) behind it, such as \"20 GiB\""
)]
pub struct NoSize(String);

impl FromStr for Bytes {
    type Err = NoSize;

    /// Reads a whole number of bytes or of their binary multiples: `4096`, `20 GiB`, `2G`.
    fn from_str(text: &str) -> Result<Self, NoSize> {
        let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
        let shift = match &text[digits.len()..].trim().to_ascii_lowercase()[..] {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            _ => return Err(NoSize(text.to_owned())),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| NoSize(text.to_owned()))
    }
}

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

    #[test]
    fn sizes_are_read_in_bytes_and_in_binary_multiples_only() {
        let read = |text: &str| text.parse().map(|Bytes(bytes)| bytes).ok();
        assert_eq!(
            ["0", "4096 B", "2K", "20 GiB"].map(read),
            [Some(0), Some(4096), Some(2048), Some(20 << 30)]
        );
        assert_eq!(["1 tib", "3m"].map(read), [Some(1 << 40), Some(3 << 20)]);
        let no_sizes = ["", "G", "20 GB", "1.5 GiB", "-1", "1 G 2", "16777216 TiB", "ü", "1é"];
        assert_eq!(no_sizes.map(read), [None; 9]);
    }
}
