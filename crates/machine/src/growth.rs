//! Takes memory from the heap without aborting when there is none left.
//!
//! `alloc`'s own functions abort, and an abort in the capture kernel loses the dump. Code on the way from the dead
//! kernel to its dump therefore takes memory by these functions, or by `try_reserve`, and decides how to go on
//! without.

#![cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "memory is taken before, or there is an error")
)]

use alloc::boxed::Box;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// There is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct OutOfMemory;

impl From<TryReserveError> for OutOfMemory {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

/// Appends `item` if there is memory for it.
pub fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), OutOfMemory> {
    list.try_reserve(1)?;
    list.push(item);
    Ok(())
}

/// Inserts `item` at `index`, which is at most the list's length, if there is memory for it.
pub fn insert<T>(list: &mut Vec<T>, index: usize, item: T) -> Result<(), OutOfMemory> {
    list.try_reserve(1)?;
    list.insert(index, item);
    Ok(())
}

/// Collects the items into a list.
pub fn collected<T>(items: impl Iterator<Item = T>) -> Result<Vec<T>, OutOfMemory> {
    let mut list = Vec::new();
    for item in items {
        push(&mut list, item)?;
    }
    Ok(list)
}

/// Makes a list of `len` copies of `item`.
pub fn filled<T: Clone>(item: T, len: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut list = Vec::new();
    list.try_reserve_exact(len)?;
    list.resize(len, item);
    Ok(list)
}

/// Puts `N` copies of `item` on the heap, never on the stack.
pub fn boxed_array<T: Clone, const N: usize>(item: T) -> Result<Box<[T; N]>, OutOfMemory> {
    // The list's capacity equals its length, so its memory stays where it is.
    filled(item, N)?.into_boxed_slice().try_into().map_err(|_| OutOfMemory)
}

/// Puts `item` on the heap for as long as the program runs.
pub fn leaked<T>(item: T) -> Result<&'static mut T, OutOfMemory>
where
    T: 'static,
{
    let mut list = Vec::new();
    push(&mut list, item)?;
    list.leak().first_mut().ok_or(OutOfMemory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_than_there_is_is_an_error() {
        assert_eq!(filled(0_u8, isize::MAX as usize), Err(OutOfMemory));
    }

    #[test]
    fn what_there_is_becomes_a_list() {
        let mut list = collected(1..=2).unwrap();
        insert(&mut list, 0, 0).unwrap();
        push(&mut list, 3).unwrap();
        assert_eq!(list, [0, 1, 2, 3]);
        assert_eq!(*boxed_array::<_, 3>(7).unwrap(), [7; 3]);
    }
}
