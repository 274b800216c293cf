//! Checks the form in which each codec stores a page. (`round_trip` reads pages back, and damaged ones.)

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise as tests do"
)]

use kdump::{BLOCK, Codec, Content, Encoder, Page};
use proptest::prelude::*;

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
    match Encoder::new(codec).unwrap().encode(page, &mut [0; BLOCK]) {
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

/// Pages of which little is saved are given up early, but not for a beginning that does not shrink.
#[test]
fn noise_before_zeros_is_not_given_up() {
    for codec in Codec::ALL.iter().filter(|codec| **codec != Codec::None) {
        let mut page = noise();
        page[BLOCK / 2..].fill(0);
        let (named, data) = stored(*codec, &page);
        assert_eq!(named, *codec);
        assert!(data.len() < BLOCK * 5 / 8, "{codec:?}: {} bytes", data.len());
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

/// A part of a page: new bytes, or a repetition of earlier ones.
#[derive(Clone, Debug)]
enum Part {
    Noise(Vec<u8>),
    Repeat { distance: usize, len: usize },
}

fn part() -> impl Strategy<Value = Part> {
    let noise = prop_oneof![4 => 0usize..24, 1 => 0usize..600];
    let noise = noise.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len)).prop_map(Part::Noise);
    let len = prop_oneof![4 => 1usize..40, 1 => 1usize..2000];
    let distance = prop_oneof![4 => 1usize..80, 1 => 1usize..BLOCK];
    let repeat = (distance, len).prop_map(|(distance, len)| Part::Repeat { distance, len });
    prop_oneof![noise, repeat]
}

fn assembled(parts: &[Part]) -> Page {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Part::Noise(noise) => bytes.extend(noise),
            Part::Repeat { distance, len } => {
                for _ in 0..*len {
                    bytes.push(bytes.len().checked_sub(*distance).map_or(0, |at| bytes[at]));
                }
            }
        }
    }
    bytes.resize(BLOCK, 0);
    bytes.try_into().unwrap()
}

/// What a library that has nothing to do with the compressors of this crate makes of their data.
fn restored(codec: Codec, data: &[u8]) -> Vec<u8> {
    let mut page = vec![0; BLOCK];
    match codec {
        Codec::Zlib => return miniz_oxide::inflate::decompress_to_vec_zlib(data).unwrap(),
        Codec::Lzo => assert_eq!(lzokay::decompress::decompress(data, &mut page), Ok(BLOCK)),
        Codec::Zstd => {
            zstd_safe::decompress(&mut page[..], data).unwrap();
        }
        _ => page.copy_from_slice(data),
    }
    page
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn libraries_restore_what_own_compressors_made(
        parts in prop::collection::vec(part(), 1..200),
        codec in prop::sample::select(&[Codec::Zlib, Codec::Lzo, Codec::Zstd]),
    ) {
        let page = assembled(&parts);
        prop_assume!(!kdump::is_zero(&page));
        let (named, data) = stored(codec, &page);
        prop_assert_eq!(restored(named, &data), page.to_vec());
    }
}

/// zstd's frames say how many literals, repetitions and bytes there are in different ways, and choose a code by the number of repetitions.
#[test]
fn zstd_s_library_restores_frames_of_any_shape() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut noise = |len| std::iter::repeat_with(|| random.u8(..)).take(len).collect::<Vec<_>>();
    let repeat = |distance, len| Part::Repeat { distance, len };
    let lone = |literals: Vec<u8>, distance, len| vec![Part::Noise(literals), repeat(distance, len)];
    let many = |count, mut literals: Box<dyn FnMut() -> Vec<u8>>, distance, len| {
        (0..count).flat_map(|_| lone(literals(), distance, len)).collect::<Vec<_>>()
    };
    let mut pages = vec![assembled(&lone(vec![1], 1, BLOCK)), assembled(&[Part::Noise(noise(2100))])];
    for count in 2..300 {
        let (mut byte, mut fresh) = (0u8, fastrand::Rng::with_seed(count));
        let differing = move || {
            byte = byte.wrapping_add(fresh.u8(1..));
            vec![byte]
        };
        pages.push(assembled(&[lone(noise(64), 64, 8), many(count, Box::new(differing), 64, 10)].concat()));
    }
    for page in pages {
        let (codec, data) = stored(Codec::Zstd, &page);
        assert_eq!(codec, Codec::Zstd);
        assert_eq!(restored(codec, &data), page.to_vec());
    }
}
