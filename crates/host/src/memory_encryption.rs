//! Whether the running kernel encrypts its memory: by AMD's SME, or in a guest by SEV.
//!
//! The capture kernel reads memory as it is stored, and would find nothing but what is encrypted: not the tables of an IOMMU, and no
//! page of a dump that means anything. The running kernel says it to those who read its dumps, by `NUMBER(sme_mask)` of VMCOREINFO: the bit
//! of an address that stands for encryption, or zero.

use std::fs;
use std::path::Path;

use machine::{OldMemory, PhysicalAddress};

use crate::kcore;

/// What is to be done about it.
pub(crate) const REMEDY: &str = "start this kernel with mem_encrypt=off; memory that the firmware encrypts by itself (TSME) is no obstacle";

/// VMCOREINFO has a page, of which a kernel may fill a few more.
const MOST_BYTES: usize = 64 << 10;

const MASK: &str = "NUMBER(sme_mask)=";

/// Whether the kernel of the machine below `root` does. One that does not show its memory is taken for one that does not: only root sees it.
pub(crate) fn is_on(root: &Path) -> bool {
    vmcoreinfo(root).is_some_and(|info| mask(&info) != 0)
}

/// The note with VMCOREINFO in the running kernel's memory.
fn vmcoreinfo(root: &Path) -> Option<Vec<u8>> {
    let (address, len) = place(&fs::read_to_string(root.join("sys/kernel/vmcoreinfo")).ok()?)?;
    let mut note = vec![0; len.min(MOST_BYTES)];
    kcore::open(root)?.read(address, &mut note).ok()?;
    Some(note)
}

/// Where `/sys/kernel/vmcoreinfo` says that the note is: address and length, both in hexadecimal.
fn place(told: &str) -> Option<(PhysicalAddress, usize)> {
    let mut words = told.split_whitespace().map(|word| word.trim_start_matches("0x"));
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    Some((PhysicalAddress::new(address), usize::from_str_radix(words.next()?, 16).ok()?))
}

/// The bit of an address that stands for encryption; zero if VMCOREINFO has none.
fn mask(info: &[u8]) -> i64 {
    let info = String::from_utf8_lossy(info);
    let told = info.lines().find_map(|line| line.strip_prefix(MASK));
    told.and_then(|number| number.trim_end_matches('\0').parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF core with one segment: `memory`, which is at 0x5000.
    fn core(memory: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
        file.extend([0, 64, 0].map(u64::to_le_bytes).as_flattened());
        file.extend([0, 0, 64, 56, 1, 0, 0, 0].map(u16::to_le_bytes).as_flattened());
        file.extend([1, 6].map(u32::to_le_bytes).as_flattened());
        let len = memory.len() as u64;
        file.extend(
            [120, 0xFFFF_8880_0000_5000, 0x5000, len, len, 0x1000].map(u64::to_le_bytes).as_flattened(),
        );
        [&file, memory].concat()
    }

    #[test]
    fn a_kernel_is_believed_that_says_so_in_its_memory() {
        let root = tempfile::tempdir().unwrap();
        let says = |info: &str| {
            let files = [
                ("sys/kernel/vmcoreinfo", b"0x0000000000005000 40\n".to_vec()),
                ("proc/kcore", core(info.as_bytes())),
            ];
            for (name, content) in files {
                let path = root.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            is_on(root.path())
        };
        let padded = |line: &str| format!("{line:\0<64}");
        assert!(says(&padded("OSRELEASE=6.12\nNUMBER(sme_mask)=140737488355328\n")));
        assert!(!says(&padded("OSRELEASE=6.12\nNUMBER(sme_mask)=0\n")));
        assert!(!says("too short"));
    }

    #[test]
    fn the_place_of_the_note_is_read() {
        let read = place("0x0000000100c66000 1024\n");
        assert_eq!(read, Some((PhysicalAddress::new(0x1_00c6_6000), 0x1024)));
        assert_eq!(place("0x100c66000"), None);
        assert_eq!(place("nowhere 10"), None);
    }

    #[test]
    fn a_mask_that_is_not_zero_is_encryption() {
        let told = |line: &str| {
            mask(format!("\0VMCOREINFO\0\0OSRELEASE=6.12\n{line}\nPAGESIZE=4096\n\0\0").as_bytes())
        };
        assert_eq!(told("NUMBER(sme_mask)=140737488355328"), 1 << 47);
        assert_eq!(told("NUMBER(sme_mask)=0"), 0);
        assert_eq!(told("NUMBER(sme_mask)=much"), 0);
        assert_eq!(mask(b"NUMBER(sme_mask)=2251799813685248\0\0"), 1 << 51);
        assert_eq!(mask(&[0xFF; 9]), 0);
    }
}
