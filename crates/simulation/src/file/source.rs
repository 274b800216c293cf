//! A PCI function as people write it: `00:1f.2`.

use std::fmt;

use pci::Function;
use serde::Deserialize;

/// A source-id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Source(pub u16);

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text).ok_or_else(|| format!("{text:?} is no PCI function like \"00:1f.2\""))
    }
}

impl Source {
    /// Reads bus, device and function, `BB:DD.F`.
    pub(super) fn read(text: &str) -> Option<Self> {
        Function::in_segment(0, text).ok().map(|function| Self(function.requester_id()))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        machine::SourceId(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_read_as_it_is_written() {
        assert_eq!(Source::read("3a:1f.2"), Some(Source(0x3AFA)));
        assert_eq!(Source(0x3AFA).to_string(), "3a:1f.2");
    }

    #[test]
    fn what_no_bus_has_is_refused() {
        for text in ["", "00", "00:20.0", "00:00.8", "100:00.0", "00:00:0", "+0:00.0x", "é:é.é"] {
            assert_eq!(Source::read(text), None, "{text}");
        }
    }
}
