//! What ends in a panic, and what follows one that is not dumped (Documentation/admin-guide/sysctl/kernel.rst).

use super::finding::{Code, Finding, Subject};
use super::machine::Machine;

/// Settings of which any one makes some hang a panic.
const ON_HANG: [&str; 4] = ["hung_task_panic", "softlockup_panic", "hardlockup_panic", "unknown_nmi_panic"];
/// Whether the dying kernel tells everybody before it starts the capture kernel.
const NOTIFIERS: &str = "sys/module/kernel/parameters/crash_kexec_post_notifiers";

/// Looks at the settings, each a finding of its own if it is not as it should be.
pub(super) fn check(machine: &Machine) -> Vec<Finding> {
    let setting = |name: &str| machine.read(&format!("proc/sys/kernel/{name}"));
    let is_on = |name: &&str| !matches!(setting(name).as_str(), "" | "0");
    let mut findings = Vec::new();
    if setting("panic_on_oops") == "0" {
        let remedy = "`sysctl -w kernel.panic_on_oops=1`";
        findings.push(Finding::warning(Code::OopsGoesOn, "an oops is no panic (panic_on_oops=0)", remedy));
    }
    if !ON_HANG.iter().any(is_on) {
        let found = "no hang is a panic (hung_task_panic, softlockup_panic, hardlockup_panic and unknown_nmi_panic are off)";
        let remedy = "`sysctl -w kernel.hardlockup_panic=1 kernel.unknown_nmi_panic=1`";
        findings.push(Finding::warning(Code::HangsUnnoticed, found, remedy));
    }
    if setting("panic") == "0" {
        let found = "a panic that is not dumped halts the machine (panic=0)";
        findings.push(Finding::warning(Code::PanicHalts, found, "`sysctl -w kernel.panic=30`"));
    }
    if machine.read(NOTIFIERS) == "Y" {
        let found = "the dying kernel runs its notifiers first (crash_kexec_post_notifiers)";
        let remedy = "take crash_kexec_post_notifiers off the kernel's command line and restart";
        findings.push(Finding::warning(Code::NotifiersFirst, found, remedy));
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok(Subject::Panics, "oopses and hangs panic; a panic without a dump restarts"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::machine;
    use super::*;

    fn codes(files: &[(&str, &[u8])]) -> Vec<Option<Code>> {
        check(&machine(files).1).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_kernel_as_it_comes_has_three_things_to_say() {
        let plain: [(&str, &[u8]); 4] = [
            ("proc/sys/kernel/panic_on_oops", b"0\n"),
            ("proc/sys/kernel/panic", b"0\n"),
            ("proc/sys/kernel/hung_task_panic", b"0\n"),
            (NOTIFIERS, b"N\n"),
        ];
        let expected = [Code::OopsGoesOn, Code::HangsUnnoticed, Code::PanicHalts].map(Some);
        assert_eq!(codes(&plain), expected);
    }

    #[test]
    fn a_kernel_that_is_set_up_has_none() {
        let set: [(&str, &[u8]); 3] = [
            ("proc/sys/kernel/panic_on_oops", b"1\n"),
            ("proc/sys/kernel/panic", b"30\n"),
            ("proc/sys/kernel/unknown_nmi_panic", b"1\n"),
        ];
        assert_eq!(codes(&set), [None]);
        let notifiers: [(&str, &[u8]); 1] = [(NOTIFIERS, b"Y\n")];
        assert!(codes(&[&set[..], &notifiers].concat()).contains(&Some(Code::NotifiersFirst)));
    }
}
