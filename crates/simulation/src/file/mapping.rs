//! What a domain maps, as people write it: `0xffffe000 + 8K -> 0x1234000 rw`.

use serde::Deserialize;

use super::quantity::number;

/// Neighbouring pages that are mapped to neighbouring memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mapping {
    /// First I/O address.
    pub iova: u64,
    /// How many bytes.
    pub size: u64,
    /// Address of the memory.
    pub memory: u64,
    /// What devices may do there.
    pub rights: Rights,
    /// Bytes in a page.
    pub page: u64,
}

/// What devices may do with memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rights {
    /// Read only.
    Read,
    /// Write only.
    Write,
    /// Both.
    #[default]
    ReadWrite,
}

impl TryFrom<String> for Mapping {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no mapping like \"0xffffe000 + 8K -> 0x1234000 rw\"");
        let (from, to) = text.split_once("->").ok_or_else(wrong)?;
        let (iova, size) = from.split_once('+').unwrap_or((from, "4K"));
        let mut words = to.split_whitespace();
        let memory = number(words.next().ok_or_else(wrong)?)?;
        let mapping =
            Self { iova: number(iova)?, size: number(size)?, memory, rights: Rights::default(), page: 4096 };
        words.try_fold(mapping, Self::and).ok_or_else(wrong)
    }
}

impl Mapping {
    /// Applies one more word: rights, or the size of pages.
    fn and(self, word: &str) -> Option<Self> {
        Some(match word {
            "r" => Self { rights: Rights::Read, ..self },
            "w" => Self { rights: Rights::Write, ..self },
            "rw" => Self { rights: Rights::ReadWrite, ..self },
            "4K" => Self { page: 4 << 10, ..self },
            "2M" => Self { page: 2 << 20, ..self },
            "1G" => Self { page: 1 << 30, ..self },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mapping, String> {
        text.to_owned().try_into()
    }

    #[test]
    fn a_mapping_has_addresses_and_may_have_a_size_rights_and_large_pages() {
        let page =
            Mapping { iova: 0x1000, size: 4096, memory: 0x2000, rights: Rights::ReadWrite, page: 4096 };
        assert_eq!(read("0x1000 -> 0x2000"), Ok(page));
        let large = Mapping { iova: 0, size: 4 << 20, memory: 2 << 20, rights: Rights::Write, page: 2 << 20 };
        assert_eq!(read("0 + 4M -> 2M w 2M"), Ok(large));
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for text in ["", "->", "0x1000", "0x1000 ->", "0 -> 0 x", "0 + -> 0", "0 -> 0 3K"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
