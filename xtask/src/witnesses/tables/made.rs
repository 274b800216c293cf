//! Memory and tables made for the tests of witnesses.

use crate::machines::ram::Ram;

/// Memory of so many bytes, with these words in it: addresses, and what is there.
pub(crate) fn with_ram<T>(
    bytes: u64,
    words: impl IntoIterator<Item = (u64, u64)>,
    use_ram: impl FnOnce(&Ram) -> T,
) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ram");
    std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    let ram = Ram::open_writable(&path).unwrap();
    for (at, word) in words {
        ram.write_u64(at, word).unwrap();
    }
    use_ram(&ram)
}

/// Tables in legacy mode from `at` on, five pages: root, bus 0's contexts, and three levels for the first 2 MiB of a function.
/// Leaves are I/O addresses and where they lead, for reading and writing.
pub(crate) fn legacy(at: u64, source: u16, leaves: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut words = vec![(at, at + 0x1001)];
    words.extend(context(at, source));
    words.extend([(at + 0x2000, at + 0x3003), (at + 0x3000, at + 0x4003)]);
    words.extend(leaves.iter().map(|(iova, page)| (at + 0x4000 + iova / 512, page | 3)));
    words
}

/// A context entry of another function, in the domain of those tables.
pub(crate) fn context(at: u64, source: u16) -> [(u64, u64); 2] {
    let entry = at + 0x1000 + u64::from(source) * 16;
    [(entry, at + 0x2001), (entry + 8, 0x101)]
}

/// AMD's tables from `at` on, four pages: the device table of 128 functions, all but one of which are blocked, and three levels for the
/// first 2 MiB of that one, in domain 5. Leaves as for [`legacy`].
pub(crate) fn amd(at: u64, source: u16, leaves: &[(u64, u64)]) -> Vec<(u64, u64)> {
    const RIGHTS: u64 = 3 << 61;
    let entry = at + u64::from(source) * 32;
    let mut words: Vec<_> = (0..128).map(|function| (at + function * 32, 3)).collect();
    words.extend([(entry, RIGHTS | (at + 0x1000) | 0x603), (entry + 8, 5)]);
    words.extend([
        (at + 0x1000, RIGHTS | (at + 0x2000) | 0x401),
        (at + 0x2000, RIGHTS | (at + 0x3000) | 0x201),
    ]);
    words.extend(leaves.iter().map(|(iova, page)| (at + 0x3000 + iova / 512, RIGHTS | page | 1)));
    words
}
