//! Whether this kernel loads the capture kernel: rights, switches that were set for good, and the signature that lockdown asks for.

use super::finding::{Code, Finding, Subject};
use super::machine::Machine;
use super::rights::Rights;
use crate::kexec::Refusal;
use crate::secure_boot::{Problem, ProblemKind, SecureBoot};

/// Looks at rights, at switches that cannot be turned back, and at whether the image has the signature that lockdown asks for.
pub(super) fn check(machine: &Machine, rights: Rights, refusal: Option<Refusal>) -> Finding {
    judge(rights, refusal, &SecureBoot::below(&machine.path("")))
}

fn judge(rights: Rights, refusal: Option<Refusal>, secure_boot: &SecureBoot) -> Finding {
    if let Some(Refusal { found, remedy }) = refusal {
        return Finding::missing(Code::KexecRefused, found, remedy);
    }
    if let Some(Problem { kind, found, remedy }) = secure_boot.problem() {
        let code = match kind {
            ProblemKind::Unsigned => Code::SignatureWanted,
            ProblemKind::UnknownKey => Code::SignerUnknown,
        };
        return Finding::missing(code, found, remedy);
    }
    match rights {
        Rights::Root if secure_boot.lockdown.is_on() => {
            Finding::ok(Subject::Permission, secure_boot.to_string())
        }
        Rights::Root => Finding::ok(Subject::Permission, "yes"),
        Rights::User => Finding::unknown(Code::NotRoot, "not for this user"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{AS_ROOT, State};
    use super::super::machine::tests::machine;
    use super::*;

    const LOCKED: (&str, &[u8]) = ("sys/kernel/security/lockdown", b"none [integrity] confidentiality\n");
    const UEFI: (&str, &[u8]) = ("sys/firmware/efi/systab", b"");
    const SIGNED: (&str, &[u8]) =
        ("var/lib/holdover/capture.bzImage", include_bytes!("../../tests/data/image-signed"));

    fn found(files: &[(&str, &[u8])], rights: Rights, refusal: Option<Refusal>) -> Finding {
        check(&machine(files).1, rights, refusal)
    }

    #[test]
    fn a_kernel_that_loads_nothing_any_more_is_noticed() {
        assert_eq!(found(&[], Rights::Root, None).state, State::Ok);
        let refusal = Refusal { found: "kexec_load_limit_panic is 0", remedy: "restart" };
        assert_eq!(found(&[LOCKED], Rights::Root, Some(refusal)).found, refusal.found);
    }

    #[test]
    fn under_lockdown_the_image_needs_a_signature_by_a_key_that_the_kernel_knows() {
        let unsigned = found(&[LOCKED, UEFI], Rights::Root, None);
        assert_eq!(unsigned.code, Some(Code::SignatureWanted));
        assert!(unsigned.remedy.contains("`holdover sign`"), "{}", unsigned.remedy);
        let key =
            |id| format!("0e1f2d3c I------ 1 perm 1f030000 0 0 asymmetri Owner: {id}: X509.rsa 1234 []\n");
        let keys = key("6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1");
        let unknown = found(&[LOCKED, UEFI, SIGNED, ("proc/keys", keys.as_bytes())], Rights::Root, None);
        assert_eq!(unknown.code, Some(Code::SignerUnknown));
        assert!(unknown.remedy.contains("mokutil --import"), "{}", unknown.remedy);
        let keys = key("e0596ce65fbd2598c4f7ad9ffe4325946fea9028");
        let known = found(&[LOCKED, UEFI, SIGNED, ("proc/keys", keys.as_bytes())], Rights::Root, None);
        assert_eq!(known.state, State::Ok);
        assert!(known.found.contains("signed by CN=Example signer,O=Example"), "{}", known.found);
    }

    #[test]
    fn a_user_is_told_what_only_root_can_check() {
        let finding = found(&[], Rights::User, None);
        assert_eq!((finding.state, finding.remedy.as_str()), (State::Unknown, AS_ROOT));
    }
}
