//! Dumps of both kinds, as files and flattened.

use crate::{Seed, core_file, dump};

/// Bytes in a record: a dump is in several.
const PIECE: usize = 3000;

pub(crate) fn seeds() -> Vec<Seed> {
    let first = |seeds: Vec<Seed>| seeds.into_iter().next().map(|(_, bytes)| bytes).unwrap_or_default();
    let (kdump, core) = (first(dump::seeds()), first(core_file::seeds()));
    let (flat_kdump, flat_core) = (flattened(&kdump), flattened(&core));
    vec![("kdump", kdump), ("core", core), ("flat_kdump", flat_kdump), ("flat_core", flat_core)]
}

/// The file after it went through a pipe, its first block once more at the end.
fn flattened(bytes: &[u8]) -> Vec<u8> {
    let mut flat = b"makedumpfile\0\0\0\0".to_vec();
    flat.extend([1u64, 1].map(u64::to_be_bytes).as_flattened());
    flat.resize(4096, 0);
    let again = bytes.chunks(512).next().unwrap_or_default();
    for (at, piece) in (0..).step_by(PIECE).zip(bytes.chunks(PIECE)).chain([(0, again)]) {
        flat.extend([at, piece.len() as u64].map(u64::to_be_bytes).as_flattened());
        flat.extend(piece);
    }
    flat.extend([0xFF; 16]);
    flat
}
