//! `/proc/kcore`, which is an ELF core of the running kernel: its memory, for root.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use machine::{PhysicalAddress, Unreadable};
use vmcore::{CoreFile, CoreHeader, Medium};

/// The file, as what a core is read from.
pub(crate) struct Kcore(File);

/// Opens it on the machine whose file systems are mounted below `root`; `None` if the kernel does not show it.
pub(crate) fn open(root: &Path) -> Option<CoreFile<Kcore>> {
    let file = Kcore(File::open(root.join("proc/kcore")).ok()?);
    let header = CoreHeader::read(&file, 0).ok()?;
    CoreFile::new(file, &header).ok()
}

impl Medium for Kcore {
    fn read_at(&self, place: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let address = PhysicalAddress::new(place);
        let unreadable = Unreadable { address, len: into.len() as u64 };
        self.0.read_exact_at(into, place).map_err(|_| unreadable)
    }
}
