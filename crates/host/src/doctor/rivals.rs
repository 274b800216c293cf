//! Services that load crash kernels of their own: there is room for one.

use super::finding::{Code, Finding, Subject};
use super::machine::Machine;
use crate::crash_slot;

/// Looks for services that load another crash kernel.
pub(super) fn check(machine: &Machine) -> Finding {
    let rivals = crash_slot::rivals(&machine.path(""));
    if rivals.is_empty() {
        return Finding::ok(Subject::Rivals, "no service loads one");
    }
    let units: Vec<_> = rivals.iter().map(|rival| rival.unit).collect();
    let state = |rival: &crash_slot::Rival| {
        let state = if rival.is_active { "has loaded one" } else { "will at the next boot" };
        format!("{} {state}", rival.unit)
    };
    let found = rivals.iter().map(state).collect::<Vec<_>>().join(", ");
    let units = units.join(" ");
    let remedy =
        format!("`systemctl disable --now {units}`, then `holdover load`: there is room for one only");
    Finding::missing(Code::RivalEnabled, found, remedy)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::finding::State;
    use super::super::machine::tests::machine;
    use super::*;

    #[test]
    fn a_service_that_loads_another_crash_kernel_is_noticed() {
        let (root, machine) = machine(&[("etc/systemd/system/multi-user.target.wants/ssh.service", b"")]);
        assert_eq!(check(&machine).state, State::Ok);
        let wants = root.path().join("etc/systemd/system/multi-user.target.wants");
        std::os::unix::fs::symlink("/nowhere", wants.join("kdump-tools.service")).unwrap();
        fs::create_dir(root.path().join("etc/default")).unwrap();
        fs::write(root.path().join("etc/default/kdump-tools"), "USE_KDUMP=1\n").unwrap();
        fs::write(wants.join("ssh.service"), "").unwrap();
        let finding = check(&machine);
        assert_eq!(finding.found, "kdump-tools.service will at the next boot");
        assert!(finding.remedy.contains("disable --now kdump-tools.service"), "{}", finding.remedy);
    }
}
