//! How far the running kernel is locked down: what even root may not do (kernel_lockdown(7)).

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Where the kernel tells it, with the level in brackets.
const FILE: &str = "sys/kernel/security/lockdown";

/// The level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lockdown {
    /// The kernel does not tell: it knows no lockdown, or `securityfs` is not mounted.
    Unknown,
    /// Root may do everything.
    None,
    /// Nobody changes the running kernel: only images with a trusted signature are loaded.
    Integrity,
    /// Nobody reads its memory either.
    Confidentiality,
}

impl Lockdown {
    /// That of the running kernel.
    pub fn now() -> Self {
        Self::below(Path::new("/"))
    }

    /// That of the machine whose file systems are mounted below `root`.
    pub(crate) fn below(root: &Path) -> Self {
        Self::parse(&fs::read_to_string(root.join(FILE)).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let level = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        match level {
            Some(("none", _)) => Self::None,
            Some(("integrity", _)) => Self::Integrity,
            Some(("confidentiality", _)) => Self::Confidentiality,
            _ => Self::Unknown,
        }
    }

    /// Whether unsigned images are refused.
    pub fn is_on(self) -> bool {
        matches!(self, Self::Integrity | Self::Confidentiality)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_the_one_in_brackets() {
        let parse = Lockdown::parse;
        assert_eq!(parse("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(parse("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(parse("none integrity [confidentiality]\n"), Lockdown::Confidentiality);
        assert_eq!(parse(""), Lockdown::Unknown);
        assert!(!parse("").is_on() && parse("none [integrity]").is_on());
    }
}
