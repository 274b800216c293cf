//! Addresses as people and programs read them: hexadecimal. JSON has no numbers of 64 bits that all readers keep exact.

use std::fmt;

use serde::{Serialize, Serializer};

/// A number that is written in hexadecimal.
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

/// Reads an address, in hexadecimal with or without `0x`.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .map_err(|_| "an address is written in hexadecimal, like 0xfed90000".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        assert_eq!(parse(&Hex(0xFED9_0000).to_string()), Ok(0xFED9_0000));
        assert_eq!(parse("fed90000"), Ok(0xFED9_0000));
        assert!(parse("0x").is_err() && parse("-1").is_err() && parse("0x1_0000").is_err());
    }
}
