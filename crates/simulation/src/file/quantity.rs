//! Numbers as on Linux's command line: decimal or `0x…`, with the suffix K, M, G or T.

use serde::Deserialize;

/// A number of bytes or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        number(&text).map(Self)
    }
}

/// A size and a start address: `16M@128M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Reservation {
    /// How many bytes.
    pub size: u64,
    /// Address of the first one.
    pub start: u64,
}

impl TryFrom<String> for Reservation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (size, start) =
            text.split_once('@').ok_or_else(|| format!("{text:?} is not like \"16M@128M\""))?;
        Ok(Self { size: number(size)?, start: number(start)? })
    }
}

/// Reads a number.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number like \"4096\", \"0x1000\" or \"4K\"");
    let trimmed = text.trim();
    let (digits, shift) = match trimmed.char_indices().last() {
        Some((at, 'K')) => (&trimmed[..at], 10),
        Some((at, 'M')) => (&trimmed[..at], 20),
        Some((at, 'G')) => (&trimmed[..at], 30),
        Some((at, 'T')) => (&trimmed[..at], 40),
        _ => (trimmed, 0),
    };
    let digits = digits.replace('_', "");
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    number.ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_on_linuxs_command_line() {
        assert_eq!(number("0xffff_f000"), Ok(0xFFFF_F000));
        assert_eq!(number(" 16M"), Ok(16 << 20));
        assert_eq!(number("4096"), Ok(4096));
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        for text in ["", "M", "0x", "-1", "1.5G", "99999999T", "é", "0xfé"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
