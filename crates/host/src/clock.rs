//! The host's clock, in the unit that labels, seals and records have.

use std::time::{SystemTime, SystemTimeError};

/// Seconds since 1970.
pub(crate) fn now() -> Result<u64, SystemTimeError> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}
