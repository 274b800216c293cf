//! What is on the dump's disk if the power goes at any instant: QEMU has recorded each request to the disk, and this replays them up to
//! many instants, with the disk's cache lost in part.
//!
//! A disk may keep what it was told in a volatile cache until it is told to flush it. What was written before the last flush is there
//! after a cut; of what was written since, any sector may be there or not. The record is that of QEMU's `blklogwrites`, which is the
//! format of Linux's dm-log-writes (`Documentation/admin-guide/device-mapper/log-writes.rst`).
//!
//! `holdover collect` must then tell the truth, and lose nothing that was promised: the log once its record was flushed, the pages of
//! each seal that was, and the whole dump once that was sealed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::crashes::crash::Evidence;
use crate::guests::tool::{Collected, Tool};
use crate::machines::area::{BLOCK, DUMP, LOG, SEAL};
use crate::witnesses::Readings;

/// Bytes that a disk writes wholly or not at all.
const SECTOR: u64 = 512;
/// Cuts between any two flushes in which a part of the cache survives, besides one in which nothing does.
const CUTS: u64 = 4;
/// Most rounds until the missing flushes must have been noticed.
const ROUNDS: u64 = 8;

/// The first bytes of the record, and the bit of an entry that is a flush (`struct log_write_super`, `LOG_FLUSH_FLAG`).
const RECORD_MAGIC: u64 = 0x6a_7366_7773_6872;
const IS_FLUSH: u64 = 1;

/// A request to the disk.
#[derive(Clone, Debug)]
enum Request {
    Write { at: u64, bytes: Vec<u8> },
    Flush,
}

/// Cuts the power at many instants of a crash whose dump was sealed in the end, and returns what is wrong. If the flushes before the seal
/// are taken out of the record, something must be.
pub(crate) fn cut_power(evidence: &Evidence, tool: &Tool) -> Result<Readings> {
    let files = &evidence.files;
    let requests = read_record(&files.disk_requests(), evidence.area_start)?;
    let [dump, log] = [files.scratch("whole-dump"), files.scratch("whole-log")];
    ensure!(
        tool.collect(&files.disk(), &dump)? == Collected::Whole,
        "the dump was not complete to begin with"
    );
    fs::write(&log, tool.log(&files.disk())?)?;
    let whole = Whole { dump: fs::read(&dump)?, log: fs::read_to_string(&log)? };
    let bench =
        Bench { image: files.scratch("cut-disk"), out: files.scratch("cut-dump"), tool, whole: &whole };
    let begin = |name| Replay::begin(&files.disk_before(), &files.scratch(name));
    let mut problems = outside(&requests, fs::metadata(files.disk())?.len());
    if !problems.is_empty() {
        return Ok(Readings { problems, ..Readings::default() });
    }
    let mut replay = begin("cut-disk")?;
    let (cuts, wrong) = bench.cut_each(&mut replay, &requests, 0)?;
    problems.extend(wrong);
    if cuts < 40 {
        problems.push(format!("there were {cuts} instants only"));
    }
    let careless = without_last_flushes(&requests).context("the record has no seal")?;
    // Whether the seal survives, and a page before it does not, is chance each time.
    let is_noticed = |round| -> Result<bool> {
        let (_, noticed) = bench.cut_each(&mut begin("cut-disk")?, &careless, round)?;
        Ok(!noticed.is_empty())
    };
    if !(0..ROUNDS)
        .map(is_noticed)
        .find(|noticed| !matches!(noticed, Ok(false)))
        .transpose()?
        .unwrap_or(false)
    {
        problems.push("power cuts do not show that the flushes before the seal are missing".to_owned());
    }
    Ok(Readings { problems, ..Readings::default() })
}

/// Reads QEMU's record of requests to a disk; the places of writes are counted from byte `start` of it.
fn read_record(path: &Path, start: u64) -> Result<Vec<Request>> {
    let record = fs::read(path).with_context(|| format!("no {}", path.display()))?;
    let word =
        |at: usize| record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    ensure!(word(0) == Some(RECORD_MAGIC) && word(8) == Some(1), "this is no record of a disk's requests");
    let (count, sector) =
        (word(16).unwrap_or_default(), (word(24).unwrap_or_default() & 0xffff_ffff) as usize);
    let (mut requests, mut at) = (Vec::new(), sector);
    for _ in 0..count {
        let entry = [0, 8, 16].map(|field| word(at + field));
        let [Some(place), Some(sectors), Some(flags)] = entry else { bail!("the record is cut off") };
        at += sector;
        if flags & IS_FLUSH != 0 {
            requests.push(Request::Flush);
        }
        if sectors > 0 {
            let bytes = record.get(at..at + sectors as usize * sector).context("the record is cut off")?;
            // What is written in front of the area is far outside.
            let place = (place * sector as u64).wrapping_sub(start);
            requests.push(Request::Write { at: place, bytes: bytes.to_vec() });
            at += bytes.len();
        }
    }
    Ok(requests)
}

/// Complains of each write that is not to the part of the area that changes.
fn outside(requests: &[Request], disk: u64) -> Vec<String> {
    let is_outside = |request: &&Request| match request {
        Request::Write { at, bytes } => *at < SEAL || at.saturating_add(bytes.len() as u64) > disk - BLOCK,
        Request::Flush => false,
    };
    let found = requests.iter().filter(is_outside);
    found.map(|request| format!("a write outside of the dump: {:#x}", request.place())).collect()
}

/// The requests without the flushes after the last page and before the last seal.
fn without_last_flushes(requests: &[Request]) -> Option<Vec<Request>> {
    let seal = requests.iter().rposition(|request| request.place() == SEAL)?;
    let is_page = |request: &Request| request.is_write() && ![SEAL, DUMP].contains(&request.place());
    let page = requests[..seal].iter().rposition(is_page)?;
    let is_kept = |number: usize, request: &Request| request.is_write() || !(page..seal).contains(&number);
    let kept = requests.iter().enumerate().filter(|(number, request)| is_kept(*number, request));
    Some(kept.map(|(_, request)| request.clone()).collect())
}

impl Request {
    fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }

    /// Where it writes; nowhere for a flush.
    fn place(&self) -> u64 {
        match self {
            Self::Write { at, .. } => *at,
            Self::Flush => u64::MAX,
        }
    }
}

/// What there is in the end.
struct Whole {
    dump: Vec<u8>,
    log: String,
}

/// What must be there, whatever becomes of requests that were not flushed.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    log: bool,
    pages: usize,
    seal: bool,
}

struct Bench<'a> {
    image: PathBuf,
    out: PathBuf,
    tool: &'a Tool,
    whole: &'a Whole,
}

impl Bench<'_> {
    /// Cuts the power after each flush, and between them; what survives is another choice in each round. Returns how often, and
    /// what is wrong.
    fn cut_each(&self, replay: &mut Replay, requests: &[Request], round: u64) -> Result<(u64, Vec<String>)> {
        let last_seal = requests.iter().rposition(|request| request.place() == SEAL);
        let (mut promised, mut cuts, mut wrong, mut first) = (Promised::default(), 0, Vec::new(), 0);
        let ends = requests.iter().enumerate().filter(|(_, request)| !request.is_write()).map(|(at, _)| at);
        for end in ends.collect::<Vec<_>>() {
            let cached = &requests[first..end];
            for cut in 0..=CUTS {
                let mut chance = Chance::new(round << 32 | cuts);
                let survivors = replay.lose_power(cached, cut, &mut chance)?;
                let seen = self.look(promised);
                replay.undo(survivors)?;
                cuts += 1;
                match seen {
                    // What is there though nothing survived is what the flush before has promised.
                    Ok(pages) if cut == 0 => promised.pages = pages,
                    Ok(_) => {}
                    Err(what) => wrong.push(format!("power cut {cut} before request {end}: {what:#}")),
                }
            }
            replay.flush(cached)?;
            promised.log |= cached.iter().any(|request| request.place() == LOG);
            promised.seal |= last_seal.is_some_and(|seal| seal < end);
            first = end + 1;
        }
        Ok((cuts, wrong))
    }

    /// Collects what is on the disk, and returns how many pages are there; fails with what is wrong.
    fn look(&self, promised: Promised) -> Result<usize> {
        if promised.log {
            ensure!(self.tool.log(&self.image)? == self.whole.log, "the log is another");
        }
        let _ = fs::remove_file(&self.out);
        let collected = match self.tool.collect(&self.image, &self.out) {
            Ok(collected) => collected,
            Err(error) if error.to_string().contains("holds no dump") => {
                ensure!(promised.pages == 0 && !promised.seal, "{error}, but {promised:?}");
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let dump = fs::read(&self.out)?;
        if collected == Collected::Whole {
            ensure!(dump == self.whole.dump, "what is called whole is not");
            return Ok(usize::MAX);
        }
        ensure!(!promised.seal, "the dump was sealed, and is called partial");
        let pages = pages_as_in(&dump, &self.whole.dump)?;
        ensure!(pages >= promised.pages, "{pages} pages are there, but {promised:?}");
        Ok(pages)
    }
}

/// Checks that each page of a dump is where it is in the whole one, and the same; returns how many there are.
fn pages_as_in(dump: &[u8], whole: &[u8]) -> Result<usize> {
    let field =
        |at: usize| dump.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    // `sub_hdr_size` and `bitmap_blocks` of `struct disk_dump_header`, in blocks.
    let [sub_header, bitmaps] = [432, 436].map(|at| field(at).map_or(0, u64::from));
    let block = |number: u64| (number * BLOCK) as usize;
    let second = block(1 + sub_header + bitmaps / 2)..block(1 + sub_header + bitmaps);
    let kept: u32 = whole.get(second).context("no bitmap")?.iter().map(|byte| byte.count_ones()).sum();
    let (table, mut pages) = (block(1 + sub_header + bitmaps), 0);
    ensure!(dump.get(BLOCK as usize..table) == whole.get(BLOCK as usize..table), "notes or bitmaps differ");
    for at in (table..).step_by(24).take(kept as usize) {
        let Some(descriptor) = dump.get(at..at + 24) else { break };
        let word =
            |from: usize| descriptor[from..from + 8].try_into().map(u64::from_le_bytes).unwrap_or_default();
        let (offset, size) = (word(0) as usize, word(8) as usize & 0xffff_ffff);
        if offset == 0 {
            continue;
        }
        ensure!(Some(descriptor) == whole.get(at..at + 24), "a page is elsewhere");
        let page = offset..offset + size;
        ensure!(dump.get(page.clone()) == whole.get(page), "a page differs, at {offset:#x}");
        pages += 1;
    }
    Ok(pages)
}

/// The disk as it is after a part of its requests.
struct Replay {
    image: File,
}

/// What was where before something survived a cut.
type Survivors = Vec<(u64, Vec<u8>)>;

impl Replay {
    /// A disk as it was before the crash.
    fn begin(before: &Path, image: &Path) -> Result<Self> {
        let content = fs::read(before)?;
        let image = File::options().read(true).write(true).create(true).truncate(true).open(image)?;
        image.set_len(content.len() as u64)?;
        for (at, block) in (0..).step_by(BLOCK as usize).zip(content.chunks(BLOCK as usize)) {
            if block.iter().any(|&byte| byte != 0) {
                image.write_all_at(block, at)?;
            }
        }
        Ok(Self { image })
    }

    /// Makes requests durable.
    fn flush(&self, requests: &[Request]) -> io::Result<()> {
        requests.iter().try_for_each(|request| match request {
            Request::Write { at, bytes } => self.image.write_all_at(bytes, *at),
            Request::Flush => Ok(()),
        })
    }

    /// Lets the power go: in cut 0 nothing of these requests has survived, in the others any sectors have. Returns what was there before.
    fn lose_power(&self, cached: &[Request], cut: u64, chance: &mut Chance) -> io::Result<Survivors> {
        // `holdover collect` notes in the seal that the dump was collected.
        let mut survivors = vec![(SEAL, self.read(SEAL, BLOCK as usize)?)];
        if cut == 0 {
            return Ok(survivors);
        }
        // The cut comes after any of them; a cache loses little, half, or nearly all.
        let until = if cut == CUTS { cached.len() } else { chance.below(cached.len() as u64 + 1) as usize };
        let lost = [1, 8, 15][(cut % 3) as usize];
        for request in &cached[..until] {
            let Request::Write { at, bytes } = request else { continue };
            for (place, sector) in (*at..).step_by(SECTOR as usize).zip(bytes.chunks(SECTOR as usize)) {
                if chance.below(16) >= lost {
                    survivors.push((place, self.read(place, sector.len())?));
                    self.image.write_all_at(sector, place)?;
                }
            }
        }
        Ok(survivors)
    }

    /// Restores what was there.
    fn undo(&self, survivors: Survivors) -> io::Result<()> {
        survivors.into_iter().rev().try_for_each(|(at, bytes)| self.image.write_all_at(&bytes, at))
    }

    fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.image.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

/// Numbers by chance, the same for the same seed (splitmix64).
struct Chance(u64);

impl Chance {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
