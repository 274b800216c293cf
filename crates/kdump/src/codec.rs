//! Compresses and decompresses a single page.
//!
//! Each page is compressed on its own; a page that does not shrink is stored uncompressed. zlib, LZO and the zstd
//! encoder need no operating system; snappy and the zstd decoder use libraries that need a host (feature `host`).

use alloc::boxed::Box;

use machine::OutOfMemory;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

#[cfg(feature = "host")]
use crate::libraries;
use crate::{BLOCK, Page, layout, lzo, zlib, zstd};

/// A way to compress pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Pages are stored as they are.
    None,
    /// zlib (RFC 1950).
    Zlib,
    /// LZO1X: a little larger than zlib, and faster.
    Lzo,
    /// zstd (RFC 8878): smaller than zlib, and a little slower.
    Zstd,
    /// snappy: about as large as LZO, and slower.
    #[cfg(feature = "host")]
    Snappy,
}

impl Codec {
    /// The codecs whose encoders need no operating system.
    pub const EVERYWHERE: &[Self] = &[Self::None, Self::Zlib, Self::Lzo, Self::Zstd];

    /// All codecs.
    pub const ALL: &[Self] = &[
        Self::None,
        Self::Zlib,
        Self::Lzo,
        Self::Zstd,
        #[cfg(feature = "host")]
        Self::Snappy,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zlib => "zlib",
            Self::Lzo => "lzo",
            Self::Zstd => "zstd",
            #[cfg(feature = "host")]
            Self::Snappy => "snappy",
        }
    }

    /// Finds the codec with this name among `these`.
    pub fn named(name: &str, these: &[Self]) -> Option<Self> {
        these.iter().copied().find(|codec| codec.name() == name)
    }

    /// The codec's flag in a page's descriptor and in the header's status.
    pub(crate) fn flag(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Zlib => layout::ZLIB,
            Self::Lzo => layout::LZO,
            Self::Zstd => layout::ZSTD,
            #[cfg(feature = "host")]
            Self::Snappy => layout::SNAPPY,
        }
    }

    /// The codec that a descriptor names, if it can be read here.
    pub(crate) fn named_by(flags: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|codec| codec.flag() == flags && codec.is_read_here())
    }

    fn is_read_here(self) -> bool {
        cfg!(feature = "host") || self != Self::Zstd
    }
}

/// The stored form of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// The page could not be read.
    Missing,
    /// It holds zeros only.
    Zero,
    /// The output of `codec`.
    Data {
        /// How to read it.
        codec: Codec,
        /// What goes into the file.
        data: &'a [u8],
    },
}

/// Makes the stored form of one page after the other; holds the memory that a codec works in.
pub struct Encoder(Compressor);

impl Encoder {
    /// Takes the memory that the codec needs.
    pub fn new(codec: Codec) -> Result<Self, OutOfMemory> {
        Ok(Self(match codec {
            Codec::None => Compressor::None,
            Codec::Zlib => Compressor::Zlib(zlib::Compressor::new()?),
            Codec::Lzo => Compressor::Lzo(lzo::Compressor::new()?),
            Codec::Zstd => Compressor::Zstd(zstd::Compressor::new()?),
            #[cfg(feature = "host")]
            Codec::Snappy => Compressor::Snappy(libraries::Snappy::new()),
        }))
    }

    /// Makes the stored form of a page, in `room` unless the page is stored uncompressed.
    pub fn encode<'a>(&mut self, page: &'a Page, room: &'a mut Page) -> Content<'a> {
        if is_zero(page) {
            return Content::Zero;
        }
        let (codec, data) = self.compress(page, room);
        Content::Data { codec, data }
    }

    /// The page's data as it goes to the file, and the codec to name in its descriptor.
    pub(crate) fn compress<'a>(&mut self, page: &'a Page, room: &'a mut Page) -> (Codec, &'a [u8]) {
        let (codec, len) = match &mut self.0 {
            Compressor::None => (Codec::None, None),
            Compressor::Zlib(zlib) => (Codec::Zlib, zlib.compress(page, room)),
            Compressor::Lzo(lzo) => (Codec::Lzo, lzo.compress(page, room)),
            Compressor::Zstd(zstd) => (Codec::Zstd, zstd.compress(page, room)),
            #[cfg(feature = "host")]
            Compressor::Snappy(snappy) => (Codec::Snappy, snappy.compress(page, room)),
        };
        len.map_or((Codec::None, page), |len| (codec, &room[..len]))
    }
}

/// A codec with the memory it works in.
enum Compressor {
    None,
    Zlib(zlib::Compressor),
    Lzo(lzo::Compressor),
    Zstd(zstd::Compressor),
    #[cfg(feature = "host")]
    Snappy(libraries::Snappy),
}

/// Whether a page holds zeros only.
pub fn is_zero(page: &Page) -> bool {
    // Most pages that are not zero have an early byte that is not, so the check goes in small steps.
    page.chunks_exact(64).all(|line| line.iter().fold(0, |or, byte| or | byte) == 0)
}

/// Decompresses the output of any [`Encoder`].
pub(crate) struct Decompressor {
    inflate: Box<DecompressorOxide>,
    #[cfg(feature = "host")]
    zstd: libraries::Unzstd,
}

impl Decompressor {
    pub(crate) fn new() -> Self {
        Self {
            inflate: Box::default(),
            #[cfg(feature = "host")]
            zstd: libraries::Unzstd::new(),
        }
    }

    /// Restores a page from any bytes; says whether they were a whole page, checksum included.
    pub(crate) fn decompress(&mut self, codec: Codec, data: &[u8], page: &mut Page) -> bool {
        match codec {
            Codec::None => {
                data.first_chunk().filter(|_| data.len() == BLOCK).map(|whole| *page = *whole).is_some()
            }
            Codec::Zlib => self.inflate(data, page),
            Codec::Lzo => lzokay::decompress::decompress(data, page) == Ok(BLOCK),
            #[cfg(feature = "host")]
            Codec::Zstd => self.zstd.decompress(data, page) == Some(BLOCK),
            #[cfg(feature = "host")]
            Codec::Snappy => libraries::unsnap(data, page) == Some(BLOCK),
            #[cfg(not(feature = "host"))]
            Codec::Zstd => false,
        }
    }

    fn inflate(&mut self, data: &[u8], page: &mut Page) -> bool {
        self.inflate.init();
        let flags = inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
            | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, _, written) = decompress(&mut self.inflate, data, page, 0, flags);
        status == TINFLStatus::Done && written == BLOCK
    }
}
