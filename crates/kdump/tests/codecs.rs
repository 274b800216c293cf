//! In which form each codec stores a page. (`round_trip` reads them back, and damaged ones.)

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise as tests do"
)]

use kdump::{BLOCK, Codec, Content, Encoder, Page};

/// Text that repeats itself a little, as much of a kernel's memory does.
fn text() -> Page {
    let words = (0u32..).flat_map(|number| format!("task {number} of {}; ", number % 7).into_bytes());
    let bytes: Vec<_> = words.take(BLOCK).collect();
    bytes.try_into().unwrap()
}

/// What no codec makes smaller.
fn noise() -> Page {
    let mut random = fastrand::Rng::with_seed(1);
    std::array::from_fn(|_| random.u8(..))
}

fn stored(codec: Codec, page: &Page) -> (Codec, Vec<u8>) {
    match Encoder::new(codec).encode(page) {
        Content::Data { codec, data } => (codec, data.to_vec()),
        content => panic!("{codec:?} makes {content:?} of a page that is not empty"),
    }
}

#[test]
fn what_does_not_shrink_is_stored_as_it_is() {
    for codec in Codec::ALL {
        assert_eq!(stored(*codec, &noise()), (Codec::None, noise().to_vec()), "{codec:?}");
    }
}

#[test]
fn what_shrinks_is_stored_in_the_codec_that_was_asked_for() {
    for codec in Codec::ALL.iter().filter(|codec| **codec != Codec::None) {
        let (named, data) = stored(*codec, &text());
        assert_eq!(named, *codec);
        assert!(data.len() < BLOCK / 2, "{codec:?}: {} bytes", data.len());
    }
}

/// By RFC 1950, RFC 8878, snappy's `format_description.txt` and the kernel's `Documentation/staging/lzo.rst`.
#[test]
fn streams_are_those_of_their_formats() {
    let (_, zlib) = stored(Codec::Zlib, &text());
    assert_eq!((zlib[0] & 0xf, u16::from_be_bytes([zlib[0], zlib[1]]) % 31), (8, 0), "deflate; FCHECK");
    let (_, zstd) = stored(Codec::Zstd, &text());
    assert_eq!(zstd[..4], 0xFD2F_B528_u32.to_le_bytes(), "magic number");
    let (_, snappy) = stored(Codec::Snappy, &text());
    assert_eq!(snappy[..2], [0x80, 0x20], "4096 as a varint");
    let (_, lzo) = stored(Codec::Lzo, &text());
    assert_eq!(lzo[lzo.len() - 3..], [0x11, 0, 0], "the end");
}
