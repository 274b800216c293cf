//! What this process may see and do.

/// Bits of the capabilities that root has: `CAP_SYS_ADMIN` shows addresses, `CAP_SYS_BOOT` loads (capabilities(7)).
const ROOT: u64 = 1 << 21 | 1 << 22;

/// Whether this process may see and do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    Root,
    User,
}

impl Rights {
    /// Reads them in a process's status, as `/proc` shows it (proc_pid_status(5)).
    pub(super) fn of(status: &str) -> Self {
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if mask.is_some_and(|mask| mask & ROOT == ROOT) { Self::Root } else { Self::User }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_both_capabilities() {
        assert_eq!(Rights::of("Name:\tholdover\nCapEff:\t000001ffffffffff\n"), Rights::Root);
        assert_eq!(Rights::of("CapEff:\t0000000000000000\n"), Rights::User);
        assert_eq!(Rights::of(""), Rights::User);
    }
}
