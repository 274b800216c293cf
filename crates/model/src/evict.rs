//! Small caches that evict at random.

use fastrand::Rng;

/// Entries of a cache: few, so that evictions happen.
const ENTRIES: usize = 48;

/// Adds an entry to a cache; to a full one in place of a random one.
pub(crate) fn replace<T>(entries: &mut Vec<T>, entry: T, rng: &mut Rng) {
    if entries.len() >= ENTRIES {
        drop_one(entries, rng);
    }
    entries.push(entry);
}

/// Drops a random entry.
pub(crate) fn drop_one<T>(entries: &mut Vec<T>, rng: &mut Rng) {
    if !entries.is_empty() {
        entries.swap_remove(rng.usize(..entries.len()));
    }
}
