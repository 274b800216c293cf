//! Why a kernel refuses: what its error numbers mean for a crash kernel, and what to do about each.

use std::io;

use rustix::io::Errno;

use super::Refusal;
use crate::lockdown::Lockdown;

/// Why the running kernel refused to load or remove a crash kernel.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Refused {
    /// It wants a signature.
    #[error(
        "the image has no signature, and this kernel loads signed images only (Secure Boot); sign it with `holdover sign`"
    )]
    Unsigned,
    /// It wants a signature, and the image cannot have one.
    #[error(
        "the image is no PE file, so that it has no signature, and this kernel loads signed images only (Secure Boot); \
         take an image of this version of Holdover, and sign it with `holdover sign`"
    )]
    NotSignable,
    /// It knows another key than the one that signed.
    #[error(
        "the image is signed with a key that this kernel does not know; enrol its certificate with `mokutil --import \
         CERTIFICATE` and restart, or sign with a key that is enrolled"
    )]
    UnknownKey,
    /// The signature does not fit.
    #[error(
        "the image's signature does not fit the image, or was made outside of its certificate's validity: it was changed after \
         it was signed, or a clock is wrong; sign it again with `holdover sign`"
    )]
    Altered,
    /// Its key counts no more.
    #[error(
        "the key that signed the image was revoked or has expired; sign it with another one: `holdover sign --key --cert`"
    )]
    KeyRevoked,
    /// The kernel cannot check it.
    #[error(
        "this kernel does not know how the image was signed; RSA of 2048 or 4096 bits with SHA-256 works with every kernel: sign \
         it again with such a key"
    )]
    UnknownAlgorithm,
    /// It is locked down, without the keys that Secure Boot brings along.
    #[error(
        "this kernel is locked down and does not load an image without a signature that it trusts; sign the image with `holdover \
         sign` and a key that is enrolled, or start the kernel without lockdown= if Secure Boot is off"
    )]
    LockedDown,
    /// It is locked down, and the older system call is not permitted.
    #[error("a kernel that is locked down takes no image by kexec_load; leave `--syscall load` out")]
    OldCall,
    /// It loads nothing any more.
    #[error("this kernel loads and removes no crash kernel any more: {found}; {remedy}")]
    Forbidden {
        /// What was found.
        found: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Only root may.
    #[error("only root may load or remove a crash kernel: run this as root, outside of a container")]
    NotRoot,
    /// There is no room.
    #[error(
        "there is no room for the image in the crash reservation; `holdover doctor` says how much the kernel needs as crashkernel="
    )]
    NoReservation,
    /// There is no memory.
    #[error("the kernel has no memory left to load the image; try again when there is more")]
    NoMemory,
    /// Another program is loading.
    #[error("another program is loading a kernel at this moment; try again")]
    Busy,
    /// It was built without.
    #[error("this kernel was built without kexec_file_load; load with `--syscall load`")]
    NoSystemCall,
    /// It cannot load such a file.
    #[error("this kernel cannot load the image; it may be damaged: install it again")]
    NotLoadable,
    /// Something else.
    #[error("the kernel refused")]
    Other(#[source] io::Error),
}

impl Refused {
    /// The meaning of the error that was returned just now.
    pub(super) fn now(error: io::Error) -> Self {
        Self::of(error, super::refusal(), Lockdown::now())
    }

    /// The meaning of an error, on a kernel that forbids this and is locked down so.
    fn of(error: io::Error, forbidden: Option<Refusal>, lockdown: Lockdown) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::PERM) => Self::permission(forbidden, lockdown),
            Some(Errno::NODATA) => Self::Unsigned,
            Some(Errno::LIBBAD) => Self::NotSignable,
            Some(Errno::NOKEY) => Self::UnknownKey,
            Some(Errno::KEYREJECTED | Errno::BADMSG) => Self::Altered,
            Some(Errno::KEYREVOKED | Errno::KEYEXPIRED) => Self::KeyRevoked,
            Some(Errno::NOPKG) => Self::UnknownAlgorithm,
            Some(Errno::ADDRNOTAVAIL) => Self::NoReservation,
            Some(Errno::NOMEM) => Self::NoMemory,
            Some(Errno::BUSY) => Self::Busy,
            Some(Errno::NOSYS | Errno::OPNOTSUPP) => Self::NoSystemCall,
            Some(Errno::NOEXEC) => Self::NotLoadable,
            _ => Self::Other(error),
        }
    }

    fn permission(forbidden: Option<Refusal>, lockdown: Lockdown) -> Self {
        match forbidden {
            Some(Refusal { found, remedy }) => Self::Forbidden { found, remedy },
            None if lockdown.is_on() => Self::LockedDown,
            None => Self::NotRoot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: Errno, lockdown: Lockdown) -> Refused {
        Refused::of(errno.into(), None, lockdown)
    }

    /// As measured on Debian's kernels.
    #[test]
    fn each_error_number_of_a_signature_has_a_reason_and_a_command_that_helps() {
        let said = |errno| refused(Errno::from_raw_os_error(errno), Lockdown::Integrity).to_string();
        for (errno, reason, remedy) in [
            (61, "no signature", "`holdover sign`"),
            (80, "no PE file", "`holdover sign`"),
            (126, "key that this kernel does not know", "mokutil --import"),
            (129, "changed after", "`holdover sign`"),
            (65, "how the image was signed", "SHA-256"),
            (1, "locked down", "`holdover sign`"),
        ] {
            let said = said(errno);
            assert!(
                said.contains(reason) && said.replace("holdover \n", "").contains(remedy),
                "{errno}: {said}"
            );
        }
    }

    #[test]
    fn a_kernel_that_does_not_permit_it_says_no_more_so_the_reason_is_looked_up() {
        assert!(matches!(refused(Errno::PERM, Lockdown::None), Refused::NotRoot));
        assert!(matches!(refused(Errno::PERM, Lockdown::Confidentiality), Refused::LockedDown));
        let forbidden = Refusal { found: "kexec_load_disabled is 1", remedy: "restart" };
        let refused = Refused::of(Errno::PERM.into(), Some(forbidden), Lockdown::Integrity).to_string();
        assert!(refused.contains("kexec_load_disabled is 1; restart"), "{refused}");
    }

    #[test]
    fn no_room_and_no_memory_are_told_apart_and_what_is_unknown_keeps_its_error() {
        assert!(matches!(refused(Errno::ADDRNOTAVAIL, Lockdown::None), Refused::NoReservation));
        assert!(matches!(refused(Errno::NOMEM, Lockdown::None), Refused::NoMemory));
        assert!(
            matches!(refused(Errno::IO, Lockdown::None), Refused::Other(error) if error.raw_os_error() == Some(5))
        );
    }
}
