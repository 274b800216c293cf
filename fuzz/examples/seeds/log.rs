//! Logs in both forms, with two messages each.

use super::Seed;

/// Where the image begins.
const IMAGE: u64 = 0xffff_ffff_8000_0000;

pub(super) fn seeds() -> Vec<Seed> {
    vec![("ring", ring()), ("records", records())]
}

/// A ring of four descriptors, the third and the fourth of which are in use.
fn ring() -> Vec<u8> {
    let (ring, descriptors, infos, text) = (0x10, 0x60, 0xc0, 0x120);
    let (ids, finalized) = ([6u64, 7], 2 << 62);
    let mut memory = vec![0; 0x160];
    put(&mut memory, 0, &[IMAGE + ring]);
    let words = [2, IMAGE + descriptors, IMAGE + infos, ids[1], ids[0], 6, IMAGE + text];
    put(&mut memory, ring, &words);
    for (id, begin) in ids.into_iter().zip([0, 16]) {
        put(&mut memory, descriptors + id % 4 * 24, &[finalized | id, begin, begin + 16]);
        put(&mut memory, infos + id % 4 * 24, &[id, 1_234_567_890, 5]);
        put(&mut memory, text + begin, &[id, u64::from_le_bytes(*b"hello\0\0\0")]);
    }
    [vec![0], memory].concat()
}

/// A buffer of two records.
fn records() -> Vec<u8> {
    let mut memory = vec![0; 0x60];
    put(&mut memory, 0, &[IMAGE + 0x20, 0x40, 0x30]);
    for at in [0x20, 0x38] {
        put(&mut memory, at, &[1_234_567_890, 24 | 5 << 16, u64::from_le_bytes(*b"hello\0\0\0")]);
    }
    [vec![1], memory].concat()
}

fn put(memory: &mut [u8], at: u64, words: &[u64]) {
    for (at, word) in (at as usize..).step_by(8).zip(words) {
        memory[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
}
