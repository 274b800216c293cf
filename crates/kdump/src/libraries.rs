//! Codecs by libraries that need a host: snappy, and the zstd decoder.

#![cfg_attr(not(test), expect(clippy::disallowed_methods, reason = "hosts have memory"))]

use alloc::boxed::Box;

use crate::{BLOCK, Page};

/// Most bytes that snappy makes of a page: 32, and a sixth more than it has (`MaxCompressedLength` of the format's own library).
const SNAPPY_ROOM: usize = 32 + BLOCK + BLOCK / 6;

/// Compresses pages with snappy.
pub(crate) struct Snappy {
    encoder: Box<snap::raw::Encoder>,
    output: Box<[u8; SNAPPY_ROOM]>,
}

impl Snappy {
    pub(crate) fn new() -> Self {
        Self { encoder: Box::new(snap::raw::Encoder::new()), output: Box::new([0; SNAPPY_ROOM]) }
    }

    /// Compresses `page` into the beginning of `output`; `None` if it does not become smaller.
    pub(crate) fn compress(&mut self, page: &Page, output: &mut Page) -> Option<usize> {
        let len = self.encoder.compress(page, &mut self.output[..]).ok().filter(|len| *len < BLOCK)?;
        output[..len].copy_from_slice(&self.output[..len]);
        Some(len)
    }
}

/// Restores a page; returns its length.
pub(crate) fn unsnap(data: &[u8], page: &mut Page) -> Option<usize> {
    snap::raw::Decoder::new().decompress(data, page).ok()
}

/// Restores pages that were compressed with zstd.
pub(crate) struct Unzstd(zstd_safe::DCtx<'static>);

impl Unzstd {
    pub(crate) fn new() -> Self {
        Self(zstd_safe::DCtx::create())
    }

    /// Restores a page; returns its length.
    pub(crate) fn decompress(&mut self, data: &[u8], page: &mut Page) -> Option<usize> {
        self.0.decompress(&mut page[..], data).ok()
    }
}
