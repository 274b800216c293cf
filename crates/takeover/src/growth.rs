//! Lists that grow without aborting when memory runs out.

use alloc::vec::Vec;

/// There is no memory for a list that a takeover needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct OutOfMemory;

/// Appends `item` if there is memory for it.
pub(crate) fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), OutOfMemory> {
    list.try_reserve(1).map_err(|_| OutOfMemory)?;
    list.push(item);
    Ok(())
}

/// Inserts `item` at `index`, which is at most the list's length, if there is memory for it.
pub(crate) fn insert<T>(list: &mut Vec<T>, index: usize, item: T) -> Result<(), OutOfMemory> {
    list.try_reserve(1).map_err(|_| OutOfMemory)?;
    list.insert(index, item);
    Ok(())
}

/// A list of what there is.
pub(crate) fn collected<T>(items: impl Iterator<Item = T>) -> Result<Vec<T>, OutOfMemory> {
    let mut list = Vec::new();
    for item in items {
        push(&mut list, item)?;
    }
    Ok(list)
}

/// A list of `len` copies of `item`.
pub(crate) fn filled<T: Clone>(item: T, len: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut list = Vec::new();
    list.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
    list.resize(len, item);
    Ok(list)
}
