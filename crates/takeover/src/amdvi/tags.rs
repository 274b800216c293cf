//! The tags of cached translations (2.2.2.1, 2.2.6): a domain-id, and for guest tables a PASID too.

use alloc::vec::Vec;

use machine::growth::{OutOfMemory, collected, push};

/// A domain-id, and a PASID for translations through guest tables.
pub(crate) type Tag = (u16, Option<u32>);

/// The tags under which a unit may have cached translations.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    list: Vec<Tag>,
}

impl Tags {
    /// Adds a tag. One that was added last is not added again; [`sort`](Self::sort) removes all others that are twice there.
    pub(crate) fn add(&mut self, tag: Tag) -> Result<(), OutOfMemory> {
        if self.list.last() == Some(&tag) { Ok(()) } else { push(&mut self.list, tag) }
    }

    /// Sorts the tags; each is there once.
    pub(crate) fn sort(&mut self) {
        self.list.sort_unstable();
        self.list.dedup();
    }

    /// The same, for another unit.
    pub(crate) fn lent(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { list: collected(self.list.iter().copied())? })
    }

    /// All tags.
    pub(crate) fn list(&self) -> &[Tag] {
        &self.list
    }
}
