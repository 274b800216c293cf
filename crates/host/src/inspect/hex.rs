//! Formats addresses in hexadecimal, for people and programs. JSON readers do not all keep numbers of 64 bits exact.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A number that is written in hexadecimal, and read with or without `0x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Hex {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let number = u64::from_str_radix(digits, 16);
        number.map(Self).map_err(|_| "an address is written in hexadecimal, like 0xfed90000")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let parse = |text: &str| text.parse::<Hex>();
        assert_eq!(parse(&Hex(0xFED9_0000).to_string()), Ok(Hex(0xFED9_0000)));
        assert_eq!(parse("fed90000"), Ok(Hex(0xFED9_0000)));
        assert!(parse("0x").is_err() && parse("-1").is_err() && parse("0x1_0000").is_err());
    }
}
