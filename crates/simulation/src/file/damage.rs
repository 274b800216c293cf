//! Damage to the old kernel's tables, as people write it: `context of 00:14.0 points beyond memory`.

use serde::Deserialize;

use super::Source;
use super::quantity::number;

/// A damaged entry of the old kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Damage {
    /// The entry.
    pub entry: Entry,
    /// The damage.
    pub aim: Aim,
}

/// An entry of the old kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The context entry of a device.
    Context(Source),
    /// The entry that maps an I/O address of a domain.
    Page {
        /// The I/O address.
        iova: u64,
        /// The domain-id.
        domain: u16,
    },
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Its address points to where the machine has nothing.
    BeyondMemory,
    /// Its address points into the capture kernel's memory.
    CaptureKernel,
    /// Its address points to some device's registers.
    Registers,
    /// Bits that must be zero are not.
    ReservedBits,
}

/// The damage that people may write, in words.
const AIMS: [(&str, Aim); 4] = [
    ("points beyond memory", Aim::BeyondMemory),
    ("points into the capture kernel", Aim::CaptureKernel),
    ("points to device registers", Aim::Registers),
    ("has reserved bits set", Aim::ReservedBits),
];

impl TryFrom<String> for Damage {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let aim = AIMS.iter().find_map(|(words, aim)| Some((text.strip_suffix(words)?, *aim)));
        let read = aim.and_then(|(entry, aim)| Some(Self { entry: Entry::read(entry.trim_end())?, aim }));
        read.ok_or_else(|| {
            let aims = AIMS.map(|(words, _)| words).join("\" or \"");
            format!(
                "{text:?} is no damage: it starts with \"context of 00:1f.2\" or \"page 0x1000 of domain 7\", \
                 and ends with \"{aims}\""
            )
        })
    }
}

impl Entry {
    fn read(text: &str) -> Option<Self> {
        if let Some(source) = text.strip_prefix("context of ") {
            return Source::read(source).map(Self::Context);
        }
        let (iova, domain) = text.strip_prefix("page ")?.split_once(" of domain ")?;
        Some(Self::Page { iova: number(iova).ok()?, domain: domain.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Damage, String> {
        text.to_owned().try_into()
    }

    #[test]
    fn damage_is_a_sentence() {
        let context = Damage { entry: Entry::Context(Source(0xA0)), aim: Aim::BeyondMemory };
        assert_eq!(read("context of 00:14.0 points beyond memory"), Ok(context));
        let page = Damage { entry: Entry::Page { iova: 0x1000, domain: 7 }, aim: Aim::CaptureKernel };
        assert_eq!(read("page 0x1000 of domain 7 points into the capture kernel"), Ok(page));
    }

    #[test]
    fn who_writes_something_else_is_told_what_there_is() {
        let error = read("context of 00:14.0 is odd").unwrap_err();
        assert!(error.contains("has reserved bits set"), "{error}");
        for text in [
            "",
            "points beyond memory",
            "page of domain 7 points beyond memory",
            "page 0 of domain 99999 has reserved bits set",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
