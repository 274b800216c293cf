//! Buffers for pages, aligned so that the host copies them fastest.

use kdump::{BLOCK, Page};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Room for a page. It begins with a cache line: to anywhere else, AMD's processors copy four times as slowly by `rep movsb`, with
/// which Linux copies from a file.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
pub(super) struct AlignedPage(pub(super) Page);

/// Room for so many pages.
pub(super) fn pages(count: usize) -> Box<[AlignedPage]> {
    vec![AlignedPage([0; BLOCK]); count].into_boxed_slice()
}
