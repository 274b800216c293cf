//! Whether enough memory is set aside for the capture kernel.

use super::finding::{Code, Finding, Subject};
use crate::Bytes;

/// `reserved` and `needed` are bytes; `running` is the running kernel's command line.
pub(super) fn check(reserved: u64, needed: u64, running: &str) -> Finding {
    if reserved >= needed {
        let found = format!("{}; this machine needs {}", Bytes(reserved), Bytes(needed));
        return Finding::ok(Subject::Reservation, found);
    }
    let named = running.split_whitespace().find(|word| word.starts_with("crashkernel="));
    let found = match named {
        Some(named) => format!("{} ({named})", Bytes(reserved)),
        None => Bytes(reserved).to_string(),
    };
    let remedy = format!(
        "start the kernel with crashkernel={}M: this machine's devices need as much (Debian: add it to \
         GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, then `update-grub` and restart)",
        needed >> 20
    );
    Finding::missing(Code::ReservationSmall, found, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_reservation_below_what_the_machine_needs_is_too_small() {
        let finding = check((70 << 20) - 1, 70 << 20, "quiet crashkernel=64M");
        assert_eq!(finding.state, State::Missing);
        assert!(finding.remedy.contains("crashkernel=70M"), "{}", finding.remedy);
        assert!(finding.found.contains("(crashkernel=64M)"), "{}", finding.found);
        assert_eq!(check(70 << 20, 70 << 20, "").state, State::Ok);
    }
}
