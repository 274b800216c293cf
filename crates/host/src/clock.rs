//! The host's clock, in the unit that labels, seals and records have, and how long ago something was.

use std::fmt;
use std::time::{SystemTime, SystemTimeError};

/// Seconds since 1970.
pub(crate) fn now() -> Result<u64, SystemTimeError> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

/// How long ago something was, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ago(u64);

impl Ago {
    /// From then until now, both in seconds since 1970.
    pub(crate) fn since(then: u64, now: u64) -> Self {
        Self(now.saturating_sub(then))
    }
}

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("days", 2 * 86_400, 86_400), ("hours", 2 * 3_600, 3_600), ("minutes", 120, 60)];
        let unit = units.iter().find(|(_, least, _)| self.0 >= *least);
        let (name, _, seconds) = unit.unwrap_or(&("seconds", 0, 1));
        write!(f, "{} {name} ago", self.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let told = [0, 119, 7_199, 86_400 * 3].map(|seconds| Ago(seconds).to_string());
        assert_eq!(told, ["0 seconds ago", "119 seconds ago", "119 minutes ago", "3 days ago"]);
    }
}
