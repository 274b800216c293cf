//! Whether the capture kernel can read what is in memory.

use super::finding::{Code, Finding};
use super::machine::Machine;
use crate::memory_encryption;

/// Looks whether the running kernel encrypts its memory; there is no finding if it does not.
pub(super) fn check(machine: &Machine) -> Option<Finding> {
    memory_encryption::is_on(&machine.path("")).then(encrypted)
}

fn encrypted() -> Finding {
    Finding::missing(
        Code::MemoryEncrypted,
        "encrypted by the running kernel (SME or SEV)",
        memory_encryption::REMEDY,
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::{State, Subject};
    use super::super::machine::tests::machine;
    use super::*;

    #[test]
    fn encrypted_memory_is_in_the_way_and_what_is_not_known_is_not() {
        let found = encrypted();
        assert_eq!((found.state, found.what), (State::Missing, Subject::Memory));
        assert!(found.remedy.contains("mem_encrypt=off"), "{}", found.remedy);
        let (_root, machine) = machine(&[("sys/kernel/vmcoreinfo", b"0x5000 1024\n")]);
        assert!(check(&machine).is_none());
    }
}
