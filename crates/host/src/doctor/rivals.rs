//! Services that load crash kernels of their own: there is room for one.

use super::finding::{Code, Finding, Subject};
use super::machine::{Machine, name};

/// Where systemd keeps the units that are enabled, in folders `TARGET.wants`.
const UNITS: &str = "etc/systemd/system";
/// Units that load a crash kernel of their own: Red Hat's and SUSE's, and Debian's.
const RIVALS: [&str; 2] = ["kdump.service", "kdump-tools.service"];

/// Looks for services that load another crash kernel.
pub(super) fn check(machine: &Machine) -> Finding {
    let enabled = enabled(machine);
    if enabled.is_empty() {
        return Finding::ok(Subject::Rivals, "no service loads one");
    }
    let units = enabled.join(" ");
    let remedy =
        format!("`systemctl disable --now {units}`, then `holdover load`: there is room for one only");
    Finding::missing(Code::RivalEnabled, format!("{units} enabled"), remedy)
}

/// The rivals that systemd starts, by the links in its folder of units.
fn enabled(machine: &Machine) -> Vec<String> {
    let units = machine.entries(UNITS);
    let wants = units.iter().filter(|folder| folder.extension().is_some_and(|ending| ending == "wants"));
    let links = wants.flat_map(|folder| machine.entries(&format!("{UNITS}/{}", name(folder))));
    let mut enabled: Vec<_> =
        links.map(|link| name(&link)).filter(|unit| RIVALS.contains(&unit.as_str())).collect();
    enabled.sort();
    enabled.dedup();
    enabled
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
        let wants = root.path().join(UNITS).join("multi-user.target.wants");
        std::os::unix::fs::symlink("/nowhere", wants.join("kdump-tools.service")).unwrap();
        fs::write(wants.join("ssh.service"), "").unwrap();
        let finding = check(&machine);
        assert!(finding.remedy.contains("disable --now kdump-tools.service"), "{}", finding.remedy);
    }
}
