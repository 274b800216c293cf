//! Measures how fast, and how small, codecs compress single pages: the codecs of this crate, and libraries that write
//! zlib and zstd at their fastest levels.
//!
//! `cargo bench -p holdover-kdump` measures pages made up to resemble a kernel's memory; with `KDUMP_PAGES=DUMP` in
//! the environment it measures the pages of that dump. Before the times it prints the compression ratio of each
//! codec.

use std::hint::black_box;
use std::path::Path;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use fixtures::Disk;
use kdump::{BLOCK, Bitmap, Codec, Content, Encoder, Page, Reader, is_zero};
use libdeflater::CompressionLvl;
use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};
use zlib_rs::{Deflate, DeflateFlush, Status};
use zstd_safe::CParameter;

/// Pages that are measured, 16 MiB: more than the processor's caches hold.
const PAGES: usize = 4096;

/// The libraries' fastest level that looks for repetitions.
const LEVEL: i32 = 1;

/// A window of 32 KiB, as every zlib stream may use.
const WINDOW_BITS: u8 = 15;

/// Codecs of this crate that compress.
const CODECS: [Codec; 4] = [Codec::Zlib, Codec::Lzo, Codec::Zstd, Codec::Snappy];

/// Levels of zstd's library: makedumpfile's, and one that stores literals as they are, as this crate does.
const ZSTD_LEVELS: [i32; 2] = [1, -1];

/// Compresses a page and returns how many bytes it takes; `None` if it does not become smaller.
type Compress = Box<dyn FnMut(&Page, &mut Page) -> Option<usize>>;

static SAMPLE: LazyLock<Vec<Page>> = LazyLock::new(|| match std::env::var_os("KDUMP_PAGES") {
    Some(dump) => dumped(Path::new(&dump)),
    None => made_up(),
});

fn main() {
    println!("{} pages; of 1000 bytes are left:", SAMPLE.len());
    for codec in CODECS {
        tell_size(codec.name(), ours(codec));
    }
    tell_size("libdeflate", libdeflate());
    tell_size("zlib-rs", zlib_rs());
    tell_size("miniz_oxide", miniz_oxide());
    for level in ZSTD_LEVELS {
        tell_size(&format!("libzstd {level}"), libzstd(level));
    }
    divan::main();
}

fn tell_size(name: &str, mut compress: Compress) {
    println!("    {name:<12} {}", compress_all(&mut compress) * 1000 / sample_bytes());
}

#[divan::bench(name = "this crate", args = CODECS.map(Codec::name))]
fn bench_ours(bencher: Bencher, name: &str) {
    if let Some(codec) = CODECS.into_iter().find(|codec| codec.name() == name) {
        bench(bencher, ours(codec));
    }
}

#[divan::bench(name = "libdeflate")]
fn bench_libdeflate(bencher: Bencher) {
    bench(bencher, libdeflate());
}

#[divan::bench(name = "zlib-rs")]
fn bench_zlib_rs(bencher: Bencher) {
    bench(bencher, zlib_rs());
}

#[divan::bench(name = "miniz_oxide")]
fn bench_miniz_oxide(bencher: Bencher) {
    bench(bencher, miniz_oxide());
}

#[divan::bench(name = "libzstd", args = ZSTD_LEVELS)]
fn bench_libzstd(bencher: Bencher, level: i32) {
    bench(bencher, libzstd(level));
}

fn bench(bencher: Bencher, mut compress: Compress) {
    let bencher = bencher.counter(BytesCount::new(sample_bytes())).counter(ItemsCount::new(SAMPLE.len()));
    bencher.bench_local(|| compress_all(&mut compress));
}

fn sample_bytes() -> usize {
    SAMPLE.len() * BLOCK
}

/// Bytes that all pages take; those that do not become smaller are stored as they are.
fn compress_all(compress: &mut Compress) -> usize {
    let mut output = [0; BLOCK];
    SAMPLE.iter().map(|page| compress(black_box(page), &mut output).unwrap_or(BLOCK)).sum()
}

fn ours(codec: Codec) -> Compress {
    let mut encoder = Encoder::new(codec).expect("memory for the codec");
    Box::new(move |page, output| match encoder.encode(page, output) {
        Content::Data { data, .. } => Some(data.len()),
        Content::Zero | Content::Missing => None,
    })
}

fn libdeflate() -> Compress {
    let level = CompressionLvl::new(LEVEL).expect("the library has this level");
    let mut compressor = libdeflater::Compressor::new(level);
    Box::new(move |page, output| compressor.zlib_compress(page, output).ok())
}

fn zlib_rs() -> Compress {
    let mut compressor = Deflate::new(LEVEL, true, WINDOW_BITS);
    Box::new(move |page, output| {
        compressor.reset();
        let status = compressor.compress(page, output, DeflateFlush::Finish).ok()?;
        (status == Status::StreamEnd).then(|| compressor.total_out() as usize)
    })
}

/// Reuses its memory: with new memory for each page it would take 2.5 times as long.
fn miniz_oxide() -> Compress {
    let flags = create_comp_flags_from_zip_params(LEVEL, WINDOW_BITS.into(), 0);
    let mut compressor = Box::new(CompressorOxide::new(flags));
    Box::new(move |page, output| {
        compressor.reset();
        let (status, _, len) = compress(&mut compressor, page, output, TDEFLFlush::Finish);
        (status == TDEFLStatus::Done).then_some(len)
    })
}

fn libzstd(level: i32) -> Compress {
    let mut context = zstd_safe::CCtx::create();
    let set = context.set_parameter(CParameter::CompressionLevel(level));
    assert!(set.is_ok(), "the library has this level");
    Box::new(move |page, output| context.compress2(&mut output[..], page).ok())
}

/// Pages of a dump that are not empty, spread evenly over it.
fn dumped(dump: &Path) -> Vec<Page> {
    let mut bytes = std::fs::read(dump).expect("KDUMP_PAGES names a file");
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    let mut dump = Reader::open(Disk(bytes)).expect("KDUMP_PAGES names a dump");
    let mut frames = Vec::new();
    let mut next = 0;
    while let Some(frame) = dump.next_set(Bitmap::Kept, next).expect("the dump's bitmap can be read") {
        if !is_zero(&read(&mut dump, frame)) {
            frames.push(frame);
        }
        next = frame + 1;
    }
    let chosen = frames.iter().step_by(frames.len().div_ceil(PAGES).max(1));
    chosen.map(|&frame| read(&mut dump, frame)).collect()
}

fn read(dump: &mut Reader<Disk>, frame: u64) -> Page {
    let mut page = [0; BLOCK];
    dump.read_page(frame, &mut page).expect("the dump's pages can be read");
    page
}

/// Pages of four kinds that fill a kernel's memory, always the same ones.
fn made_up() -> Vec<Page> {
    let mut random = fastrand::Rng::with_seed(1);
    let kinds: [fn(&mut fastrand::Rng) -> u64; 4] = [objects, page_table, text, noise];
    (0..PAGES).map(|number| page(|| kinds[number % kinds.len()](&mut random))).collect()
}

fn page(mut word: impl FnMut() -> u64) -> Page {
    let mut page = [0; BLOCK];
    page.as_chunks_mut().0.iter_mut().for_each(|bytes| *bytes = word().to_le_bytes());
    page
}

/// Slab objects: mostly zeros, pointers into the direct map, small numbers.
fn objects(random: &mut fastrand::Rng) -> u64 {
    match random.u8(..8) {
        0 | 1 => 0xffff_8880_0000_0000 | (random.u64(..1 << 30) & !7),
        2 => random.u64(..256),
        _ => 0,
    }
}

/// Page tables: neighbouring frames with the same flags.
fn page_table(random: &mut fastrand::Rng) -> u64 {
    if random.u8(..4) == 0 { 0 } else { 0x8000_0000_0000_0067 | random.u64(..1 << 8) << 12 | 0x1_2340_0000 }
}

/// Log text: words that come again and again.
fn text(random: &mut fastrand::Rng) -> u64 {
    let words =
        ["device: ", "enabled ", "0x000000", " failed\n", "[    0.0", "pci 0000", ":00:1f.0", "memory: "];
    u64::from_le_bytes(words[random.usize(..words.len())].as_bytes().try_into().unwrap_or_default())
}

/// Machine code, as far as a compressor is concerned: few repetitions, some bytes more frequent than others.
fn noise(random: &mut fastrand::Rng) -> u64 {
    const FREQUENT: [u8; 8] = [0x48, 0x89, 0x8b, 0x00, 0xff, 0x0f, 0xe8, 0x24];
    u64::from_le_bytes(std::array::from_fn(|_| {
        if random.bool() { FREQUENT[random.usize(..FREQUENT.len())] } else { random.u8(..) }
    }))
}
