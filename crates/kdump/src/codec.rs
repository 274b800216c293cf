//! How a single page becomes smaller, and comes back.
//!
//! A page is compressed on its own; one that does not shrink is stored as it is. The format knows zlib, LZO, snappy
//! and zstd; what is written here is what every reader at hand understands.

use alloc::boxed::Box;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use crate::{BLOCK, Page, layout, zlib};

/// A way to compress pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Pages are stored as they are.
    None,
    /// zlib (RFC 1950).
    Zlib,
}

impl Codec {
    /// The codec's flag in a page's descriptor and in the header's status.
    pub(crate) fn flag(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Zlib => layout::ZLIB,
        }
    }

    /// The codec that a descriptor names, if it can be read here.
    pub(crate) fn named_by(flags: u32) -> Option<Self> {
        [Self::None, Self::Zlib].into_iter().find(|codec| codec.flag() == flags)
    }
}

/// A codec with the memory it works in, used for one page after the other.
pub(crate) enum Compressor {
    None,
    Zlib { zlib: zlib::Compressor, output: Box<Page> },
}

impl Compressor {
    pub(crate) fn new(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Zlib => Self::Zlib { zlib: zlib::Compressor::new(), output: Box::new([0; BLOCK]) },
        }
    }

    /// The page's data as it goes to the file, and the codec to name in its descriptor.
    pub(crate) fn compress<'a>(&'a mut self, page: &'a Page) -> (Codec, &'a [u8]) {
        match self {
            Self::None => (Codec::None, page),
            Self::Zlib { zlib, output } => match zlib.compress(page, output) {
                Some(len) => (Codec::Zlib, &output[..len]),
                None => (Codec::None, page),
            },
        }
    }
}

/// Undoes any [`Compressor`].
pub(crate) struct Decompressor(Box<DecompressorOxide>);

impl Decompressor {
    pub(crate) fn new() -> Self {
        Self(Box::default())
    }

    /// Restores a page from any bytes; says whether they were a whole page, checksum included.
    pub(crate) fn decompress(&mut self, codec: Codec, data: &[u8], page: &mut Page) -> bool {
        match codec {
            Codec::None => {
                data.first_chunk().filter(|_| data.len() == BLOCK).map(|whole| *page = *whole).is_some()
            }
            Codec::Zlib => self.inflate(data, page),
        }
    }

    fn inflate(&mut self, data: &[u8], page: &mut Page) -> bool {
        self.0.init();
        let flags = inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
            | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, _, written) = decompress(&mut self.0, data, page, 0, flags);
        status == TINFLStatus::Done && written == BLOCK
    }
}
