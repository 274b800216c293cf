//! Whether this kernel loads the capture kernel: the program that loads, its rights, and the signature that lockdown asks for.

use std::path::PathBuf;

use super::finding::{Code, Finding, Subject};
use super::machine::Machine;
use super::rights::Rights;
use crate::kexec::Refusal;

/// UEFI's variable: four bytes of attributes, then 1 if Secure Boot is on (UEFI 2.10, section 3.3).
const SECURE_BOOT: &str = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Looks for the program `kexec`.
pub(super) fn tool(mut path: impl Iterator<Item = PathBuf>) -> Finding {
    match path.find(|folder| folder.join("kexec").is_file()) {
        Some(folder) => Finding::ok(Subject::Kexec, folder.join("kexec").display().to_string()),
        None => Finding::missing(Code::KexecAbsent, "not in PATH", "`apt install kexec-tools`"),
    }
}

/// Looks at lockdown, Secure Boot and rights.
pub(super) fn check(machine: &Machine, rights: Rights, refusal: Option<Refusal>) -> Finding {
    judge(rights, refusal, &machine.read("sys/kernel/security/lockdown"), is_secure_boot(machine))
}

/// Whether firmware has checked what was started.
fn is_secure_boot(machine: &Machine) -> bool {
    std::fs::read(machine.path(SECURE_BOOT)).is_ok_and(|variable| variable.get(4) == Some(&1))
}

/// `lockdown` has its level in brackets (kernel_lockdown(7)).
fn judge(rights: Rights, refusal: Option<Refusal>, lockdown: &str, secure_boot: bool) -> Finding {
    if let Some(Refusal { found, remedy }) = refusal {
        return Finding::missing(Code::KexecRefused, found, remedy);
    }
    if lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]") {
        let boot = if secure_boot { "; Secure Boot is on" } else { "" };
        let remedy = "sign the image with a key that the kernel trusts, or turn Secure Boot off";
        return Finding::missing(
            Code::SignatureWanted,
            format!("lockdown: {}{boot}", lockdown.trim()),
            remedy,
        );
    }
    match rights {
        Rights::Root => Finding::ok(Subject::Permission, "yes"),
        Rights::User => Finding::unknown(Code::NotRoot, "not for this user"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::finding::{AS_ROOT, State};
    use super::super::machine::tests::machine;
    use super::*;

    #[test]
    fn a_kernel_that_loads_nothing_or_signed_images_only_is_noticed() {
        let root = |refusal, lockdown| judge(Rights::Root, refusal, lockdown, false);
        assert_eq!(root(None, "[none] integrity confidentiality\n").state, State::Ok);
        assert_eq!(root(None, "").state, State::Ok);
        let refusal = Refusal { found: "kexec_load_limit_panic is 0", remedy: "restart" };
        assert_eq!(root(Some(refusal), "").found, refusal.found);
        assert!(root(None, "none [integrity] confidentiality\n").remedy.contains("sign"));
    }

    #[test]
    fn secure_boot_is_named() {
        let kept = machine(&[
            (SECURE_BOOT, b"\x06\0\0\0\x01"),
            ("sys/kernel/security/lockdown", b"none [integrity] confidentiality\n"),
        ]);
        let finding = check(&kept.1, Rights::Root, None);
        assert!(finding.found.contains("Secure Boot is on"), "{}", finding.found);
    }

    #[test]
    fn a_user_is_told_what_only_root_can_check() {
        let finding = judge(Rights::User, None, "", false);
        assert_eq!((finding.state, finding.remedy.as_str()), (State::Unknown, AS_ROOT));
    }

    #[test]
    fn kexec_is_looked_for_in_every_folder_of_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = || [PathBuf::from("/nowhere"), folder.path().to_owned()].into_iter();
        assert_eq!(tool(path()).state, State::Missing);
        fs::write(folder.path().join("kexec"), "").unwrap();
        assert_eq!(tool(path()).state, State::Ok);
    }
}
