//! Secure Boot: whether this machine loads signed images only, and whether it would load the one that `holdover load` chooses.
//!
//! Where firmware checks signatures, Linux is locked down, and loads a crash kernel only with a signature by a key in its keyrings:
//! those that it was built with, those of the firmware (`db`), and those that the owner has enrolled (MOK).

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Configuration;
use crate::image::{self, Certificate, Image, ImageChoice, ImageError, Origin, SIGNED_COPY, Signature};
use crate::lockdown::Lockdown;

/// Where UEFI's variables are. Each begins with four bytes of attributes (UEFI specification, section 3.3, for `SecureBoot`).
const VARIABLES: &str = "sys/firmware/efi/efivars";
/// 1 if firmware checks what it starts.
const SECURE_BOOT: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// 1 if the owner has told shim, the distributions' first boot loader, to check nothing (`mokutil --disable-validation`).
const SHIM_CHECKS_NOTHING: &str = "MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23";
/// The keys that this user may see: a line each (proc_keys(5)).
const KEYS: &str = "proc/keys";
/// The type of keys that check signatures, as far as it fits into the file's column.
const ASYMMETRIC: &str = " asymmetri ";

/// Whether firmware checks what it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareState {
    /// The machine was started by a BIOS, which checks nothing.
    Bios,
    /// UEFI checks nothing.
    Off,
    /// UEFI checks everything.
    On,
    /// The variables of UEFI are not to be seen.
    Unknown,
}

/// Whether a kernel knows a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It is in one of the keyrings, or the key is that issued its certificate.
    Known,
    /// It is in none.
    Missing,
    /// This user sees no keyrings.
    Unknown,
}

/// Which image is judged: the one that `holdover load` chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The one inside the program, or its signed copy.
    Own,
    /// The one inside the program. There is a signed copy, but of another version.
    OwnBesideStaleCopy,
    /// The one that the configuration names.
    Configured(PathBuf),
}

/// What decides whether an image is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureBoot {
    /// What firmware checks.
    pub firmware: FirmwareState,
    /// What the running kernel forbids.
    pub lockdown: Lockdown,
    /// Which image is judged.
    pub judged: Judged,
    /// What the image says of its signature.
    pub signature: Signature,
    /// Whether the running kernel knows the signer's key.
    pub key: KeyState,
}

/// Why an image would not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is in the way.
    pub kind: ProblemKind,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
}

/// What is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The image has no signature.
    Unsigned,
    /// It has one, by a key that the kernel does not know.
    UnknownKey,
}

impl SecureBoot {
    /// Looks at the machine whose file systems are mounted below `root`, and at the image that `holdover load` chooses there.
    pub fn below(root: &Path) -> Self {
        Self::of_choice(root, image::carried())
    }

    /// The same, with this image inside the program.
    fn of_choice(root: &Path, embedded: Option<&'static [u8]>) -> Self {
        let read = Configuration::for_load(Configuration::at_root(root));
        let named = read.ok().and_then(|(configuration, _)| configuration.image);
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let (configured, copy) = (named.as_deref().map(below), below(Path::new(SIGNED_COPY)));
        let choice = ImageChoice { named: None, configured: configured.as_deref(), embedded };
        let image = match choice.choose_beside(&copy) {
            // A program that carries none loads what `--image` names, and that may be the signed copy.
            Err(ImageError::None) => Image::read(&copy).ok(),
            chosen => chosen.ok(),
        };
        let is_inside = image.as_ref().is_some_and(|image| *image.origin() == Origin::Program);
        let judged = match named {
            Some(path) => Judged::Configured(path),
            None if is_inside && Image::read(&copy).is_ok_and(|copy| copy.is_signed()) => {
                Judged::OwnBesideStaleCopy
            }
            None => Judged::Own,
        };
        Self::with(root, judged, image.map_or(Signature::None, |image| image.signature()))
    }

    fn with(root: &Path, judged: Judged, signature: Signature) -> Self {
        let key = match &signature {
            Signature::By(certificate) => KeyState::below(root, certificate),
            _ => KeyState::Unknown,
        };
        Self { firmware: FirmwareState::below(root), lockdown: Lockdown::below(root), judged, signature, key }
    }

    /// Why the image would not be loaded; `None` if nothing speaks against it.
    pub fn problem(&self) -> Option<Problem> {
        if !self.lockdown.is_on() {
            return None;
        }
        let kind = match self.signature {
            Signature::None | Signature::Impossible => ProblemKind::Unsigned,
            Signature::By(_) if self.key == KeyState::Missing => ProblemKind::UnknownKey,
            Signature::By(_) | Signature::Unknown => return None,
        };
        Some(Problem { kind, found: self.to_string(), remedy: self.remedy(kind) })
    }

    fn remedy(&self, kind: ProblemKind) -> String {
        match (kind, self.firmware) {
            // Nobody enrols a key there.
            (_, FirmwareState::Bios) => {
                "start the kernel without lockdown=: a machine without UEFI takes no keys of its owner".into()
            }
            (ProblemKind::Unsigned, _) if self.signature == Signature::Impossible => self.replacement(),
            (ProblemKind::Unsigned, _) => match &self.judged {
                Judged::Own | Judged::OwnBesideStaleCopy => "`holdover sign`, then `holdover load`".into(),
                Judged::Configured(path) => {
                    format!(
                        "`holdover sign`, which signs {} in its place, then `holdover load`",
                        path.display()
                    )
                }
            },
            (ProblemKind::UnknownKey, _) => {
                "`mokutil --import CERTIFICATE`, restart, and confirm the key in MOK management".into()
            }
        }
    }

    /// What to do about an image that nobody can sign.
    fn replacement(&self) -> String {
        match &self.judged {
            Judged::Configured(path) => format!(
                "replace {} by an image of this version, or take `image =` out of /etc/holdover.toml; then `holdover sign` and \
                 `holdover load`",
                path.display()
            ),
            Judged::Own | Judged::OwnBesideStaleCopy => {
                "install a Holdover whose image is of its own version; then `holdover sign` and `holdover load`".into()
            }
        }
    }
}

impl std::fmt::Display for SecureBoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lockdown = match self.lockdown {
            Lockdown::Unknown | Lockdown::None => "no lockdown",
            Lockdown::Integrity => "lockdown: integrity",
            Lockdown::Confidentiality => "lockdown: confidentiality",
        };
        let firmware = match self.firmware {
            FirmwareState::Bios => "no UEFI",
            FirmwareState::Off => "Secure Boot is off",
            FirmwareState::On => "Secure Boot is on",
            FirmwareState::Unknown => "whether Secure Boot is on is not to be seen",
        };
        write!(f, "{lockdown}; {firmware}; ")?;
        match &self.signature {
            Signature::None if self.judged == Judged::OwnBesideStaleCopy => {
                f.write_str("the image has no signature: the signed copy is of another version")
            }
            Signature::None => f.write_str("the image has no signature"),
            Signature::Impossible => {
                f.write_str("the image is of an older Holdover, and can have no signature")
            }
            Signature::Unknown => f.write_str("the image has a signature that does not tell whose it is"),
            Signature::By(certificate) => {
                let known = match self.key {
                    KeyState::Known => "whose key this kernel knows",
                    KeyState::Missing => "whose key this kernel does not know",
                    KeyState::Unknown => {
                        "and no keyrings are to be seen that tell whether this kernel knows the key"
                    }
                };
                write!(f, "the image is signed by {}, {known}", certificate.subject())
            }
        }
    }
}

impl FirmwareState {
    pub(crate) fn below(root: &Path) -> Self {
        let variables = root.join(VARIABLES);
        let variable = |name| fs::read(variables.join(name)).ok().and_then(|bytes| bytes.get(4).copied());
        match (root.join("sys/firmware/efi").is_dir(), variable(SECURE_BOOT)) {
            (false, _) => Self::Bios,
            (true, None) => Self::Unknown,
            (true, Some(1)) if variable(SHIM_CHECKS_NOTHING) != Some(1) => Self::On,
            (true, Some(_)) => Self::Off,
        }
    }
}

impl KeyState {
    /// Looks for a certificate's key, or for the one that issued it, in the keyrings of the machine below `root`.
    pub(crate) fn below(root: &Path, certificate: &Certificate) -> Self {
        Self::among(&fs::read_to_string(root.join(KEYS)).unwrap_or_default(), certificate)
    }

    /// A key's line ends with its owner's name, its own and its algorithm: `Example: 0a1b…: X509.rsa 0a1b0a1b []`.
    fn among(keys: &str, certificate: &Certificate) -> Self {
        let mut keys = keys.lines().filter(|line| line.contains(ASYMMETRIC)).peekable();
        if keys.peek().is_none() {
            return Self::Unknown;
        }
        let names: Vec<_> = [Some(certificate.key_id()), certificate.issuer_key_id()]
            .into_iter()
            .flatten()
            .map(|id| format!(": {id}: "))
            .collect();
        let known = keys.any(|line| names.iter().any(|name| line.contains(name)));
        if known { Self::Known } else { Self::Missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::{CERTIFICATE, PLAIN, SIGNED, image};

    const VENDOR: &str = "0e1f2d3c I------     1 perm 1f030000     0     0 asymmetri Vendor: 6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1: \
                          X509.rsa bb419ea1 []\n";
    const SIGNER: &str = "1e1f2d3c I------     1 perm 1f030000     0     0 asymmetri Example: Example signer: \
                          e0596ce65fbd2598c4f7ad9ffe4325946fea9028: X509.rsa 6fea9028 []\n";
    const ISSUER: &str = "2e1f2d3c I------     1 perm 1f030000     0     0 asymmetri Example: Example machine owner: \
                          12551bfd678e332c04cf972886e010170883d152: X509.rsa 0883d152 []\n";

    /// A machine of these files that is asked for an image.
    fn machine(files: &[(&str, &[u8])], bytes: &'static [u8]) -> SecureBoot {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        SecureBoot::with(root.path(), Judged::Own, image(bytes).signature())
    }

    const LOCKED: (&str, &[u8]) = ("sys/kernel/security/lockdown", b"none [integrity] confidentiality\n");
    const ON: (&str, &[u8]) =
        ("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\x06\0\0\0\x01");

    #[test]
    fn a_key_is_known_by_its_own_name_or_by_its_issuers() {
        let certificate = Certificate::parse(CERTIFICATE).unwrap();
        let among = |keys: &str| KeyState::among(keys, &certificate);
        assert_eq!(among(""), KeyState::Unknown);
        assert_eq!(
            among("1e1f2d3c I--Q---     1 perm 3f030000     0     0 keyring   _ses: 1\n"),
            KeyState::Unknown
        );
        assert_eq!(among(VENDOR), KeyState::Missing);
        assert_eq!(among(&format!("{VENDOR}{SIGNER}")), KeyState::Known);
        assert_eq!(among(&format!("{VENDOR}{ISSUER}")), KeyState::Known);
    }

    #[test]
    fn the_signed_copy_is_asked_unless_the_configuration_names_another_image() {
        let root = tempfile::tempdir().unwrap();
        let signature = || SecureBoot::below(root.path()).signature;
        assert_eq!(signature(), Signature::None, "only the image inside the program is there");
        fs::create_dir_all(root.path().join("var/lib/holdover")).unwrap();
        fs::write(root.path().join(&SIGNED_COPY[1..]), SIGNED).unwrap();
        assert!(matches!(signature(), Signature::By(_)));
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/holdover.toml"), "image = \"/boot/image\"\n").unwrap();
        fs::create_dir(root.path().join("boot")).unwrap();
        fs::write(root.path().join("boot/image"), PLAIN).unwrap();
        assert_eq!(signature(), Signature::None);
    }

    /// A machine under lockdown with this configuration and signed copy, whose program carries `PLAIN`.
    fn with_copy(configuration: &str, copy: &[u8]) -> SecureBoot {
        let root = tempfile::tempdir().unwrap();
        // An image of an older Holdover is no PE file.
        let mut older = PLAIN.to_vec();
        older[..0x120].fill(0);
        let files = [
            (LOCKED.0, LOCKED.1),
            (ON.0, ON.1),
            ("etc/holdover.toml", configuration.as_bytes()),
            (&SIGNED_COPY[1..], copy),
            ("boot/image", PLAIN),
            ("boot/older", &older),
        ];
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        SecureBoot::of_choice(root.path(), Some(PLAIN))
    }

    #[test]
    fn a_signed_copy_of_another_version_is_not_what_is_loaded() {
        let other = {
            let mut other = SIGNED.to_vec();
            other[1500] ^= 1;
            other
        };
        assert_eq!(with_copy("", SIGNED).problem(), None);
        let problem = with_copy("", &other).problem().unwrap();
        assert_eq!(problem.kind, ProblemKind::Unsigned);
        assert!(problem.found.ends_with("the signed copy is of another version"), "{}", problem.found);
        assert!(problem.remedy.starts_with("`holdover sign`"), "{}", problem.remedy);
        let problem = with_copy("", b"").problem().unwrap();
        assert!(problem.found.ends_with("the image has no signature"), "{}", problem.found);
    }

    #[test]
    fn the_remedy_names_the_configured_image() {
        let problem = with_copy("image = \"/boot/image\"\n", SIGNED).problem().unwrap();
        assert!(problem.found.ends_with("the image has no signature"), "{}", problem.found);
        assert!(problem.remedy.contains("signs /boot/image"), "{}", problem.remedy);
    }

    #[test]
    fn an_image_that_cannot_be_signed_is_to_be_replaced() {
        let problem = with_copy("image = \"/boot/older\"\n", SIGNED).problem().unwrap();
        assert!(problem.found.ends_with("can have no signature"), "{}", problem.found);
        assert!(problem.remedy.contains("replace /boot/older"), "{}", problem.remedy);
    }

    #[test]
    fn without_lockdown_nothing_speaks_against_an_unsigned_image() {
        assert_eq!(machine(&[ON], PLAIN).problem(), None);
    }

    #[test]
    fn under_lockdown_an_unsigned_image_is_to_be_signed() {
        let problem = machine(&[LOCKED, ON], PLAIN).problem().unwrap();
        assert_eq!(problem.kind, ProblemKind::Unsigned);
        assert_eq!(problem.found, "lockdown: integrity; Secure Boot is on; the image has no signature");
        assert!(problem.remedy.contains("`holdover sign`"), "{}", problem.remedy);
    }

    #[test]
    fn a_signature_by_a_key_that_is_not_enrolled_does_not_do() {
        let keys = ("proc/keys", VENDOR.as_bytes());
        let problem = machine(&[LOCKED, ON, keys], SIGNED).problem().unwrap();
        assert_eq!(problem.kind, ProblemKind::UnknownKey);
        assert!(problem.found.contains("CN=Example signer,O=Example, whose key this kernel does not know"));
        assert!(problem.remedy.contains("mokutil --import"));
        let keys = ("proc/keys", ISSUER.as_bytes());
        assert_eq!(machine(&[LOCKED, ON, keys], SIGNED).problem(), None);
        assert_eq!(
            machine(&[LOCKED, ON], SIGNED).problem(),
            None,
            "a user who sees no keys is told no problem"
        );
    }

    #[test]
    fn a_machine_without_uefi_takes_no_keys_so_lockdown_is_to_go() {
        let problem = machine(&[LOCKED], PLAIN).problem().unwrap();
        assert!(
            problem.found.contains("no UEFI") && problem.remedy.contains("without lockdown="),
            "{problem:?}"
        );
    }

    #[test]
    fn shim_may_be_told_to_check_nothing() {
        let shim = (
            "sys/firmware/efi/efivars/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23",
            &b"\x06\0\0\0\x01"[..],
        );
        assert_eq!(machine(&[ON, shim], PLAIN).firmware, FirmwareState::Off);
        assert_eq!(machine(&[ON], PLAIN).firmware, FirmwareState::On);
        assert_eq!(machine(&[("sys/firmware/efi/systab", b"")], PLAIN).firmware, FirmwareState::Unknown);
    }
}
