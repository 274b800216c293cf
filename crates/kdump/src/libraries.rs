//! snappy and zstd: codecs whose libraries need a host.

use alloc::boxed::Box;

use zstd_safe::CParameter;

use crate::repeats::Repeats;
use crate::{BLOCK, Page};

/// Stores literals as they are, which makes it twice as fast as level 1, makedumpfile's; its pages are a sixth larger, and still
/// smaller than zlib's at its fastest.
const ZSTD_LEVEL: CParameter = CParameter::CompressionLevel(-1);
/// Binary logarithm of the entries of its table, which is cleared for each page: faster than with its own choice for 4 KiB, and pages a
/// hundredth larger.
const ZSTD_TABLE: CParameter = CParameter::HashLog(10);

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

/// Compresses pages with zstd.
pub(crate) struct Zstd {
    repeats: Repeats,
    context: zstd_safe::CCtx<'static>,
}

impl Zstd {
    pub(crate) fn new() -> Self {
        let mut context = zstd_safe::CCtx::create();
        // What it does not take stays as the library would have it: slower, not wrong.
        let _ = [ZSTD_LEVEL, ZSTD_TABLE].map(|parameter| context.set_parameter(parameter));
        Self { repeats: Repeats::new(), context }
    }

    /// Compresses `page` into the beginning of `output`; `None` if it does not become smaller.
    ///
    /// A page in which the quick search finds nothing is left alone: a quarter of a kernel's pages are such, the library takes eight
    /// times as long to look at them, and saves a thirtieth.
    pub(crate) fn compress(&mut self, page: &Page, output: &mut Page) -> Option<usize> {
        self.repeats.forget();
        self.repeats.next(page, 0)?;
        self.context.compress2(&mut output[..], page).ok().filter(|len| *len < BLOCK)
    }
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
