//! The guest's memory, as the file that QEMU shares with the bench.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use machine::{PAGE_SIZE, Range};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// How much is compared or copied at a time.
const CHUNK: usize = 1 << 20;

/// Where the memory hole below 4 GiB starts in QEMU's q35 machine, once RAM is too large to end below it.
const HOLE: Range<u64> = Range::new(0x8000_0000, 0x1_0000_0000);
const LARGEST_BELOW_HOLE: u64 = 0xb000_0000;

const ZEROS: Page = [0; PAGE_SIZE as usize];

/// The content of one page frame.
pub(crate) type Page = [u8; PAGE_SIZE as usize];

/// A file of guest memory, read by physical address.
pub(crate) struct Ram {
    file: File,
    size: u64,
    /// Words that are read otherwise than they are in the file.
    overlaid: Vec<(u64, u64)>,
}

impl Ram {
    /// Opens a RAM file or a snapshot of one.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("no guest memory in {}", path.display()))?;
        let size = file.metadata()?.len();
        Ok(Self { file, size, overlaid: Vec::new() })
    }

    /// Opens the RAM file of a machine that stands still, to write to it as well.
    pub(crate) fn open_writable(path: &Path) -> Result<Self> {
        Ok(Self { file: File::options().read(true).write(true).open(path)?, ..Self::open(path)? })
    }

    /// The same memory with other words at some addresses.
    pub(crate) fn overlaid(self, words: &[(u64, u64)]) -> Self {
        Self { overlaid: words.to_vec(), ..self }
    }

    /// The physical addresses at which there is RAM.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        if self.size <= LARGEST_BELOW_HOLE {
            return vec![Range::new(0, self.size)];
        }
        vec![Range::new(0, HOLE.start), Range::new(HOLE.end, HOLE.end + (self.size - HOLE.start))]
    }

    /// Whether there is RAM at a physical address.
    pub(crate) fn contains(&self, address: u64) -> bool {
        self.ranges().iter().any(|range| range.contains(address))
    }

    /// Reads memory that lies wholly in RAM.
    pub(crate) fn read(&self, address: u64, into: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(into, self.offset(address, into.len())?)?;
        for (at, word) in &self.overlaid {
            let place =
                at.checked_sub(address).and_then(|start| into.get_mut(start as usize..)?.get_mut(..8));
            if let Some(place) = place {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        Ok(())
    }

    /// Writes a little-endian 64-bit value.
    pub(crate) fn write_u64(&self, address: u64, value: u64) -> Result<()> {
        self.write(address, &value.to_le_bytes())
    }

    /// Writes to memory that lies wholly in RAM.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.file.write_all_at(bytes, self.offset(address, bytes.len())?)?)
    }

    /// Where in the file memory stands that lies wholly in RAM.
    fn offset(&self, address: u64, len: usize) -> Result<u64> {
        let wanted = Range::sized(address, len as u64).context("past the end of the address space")?;
        ensure!(self.ranges().iter().any(|range| range.covers(wanted)), "{wanted} is not RAM");
        Ok(address - if address < HOLE.end { 0 } else { HOLE.len() })
    }

    /// Reads the page frame at `address`.
    pub(crate) fn page(&self, address: u64) -> Result<Page> {
        let mut page = [0; PAGE_SIZE as usize];
        self.read(address, &mut page)?;
        Ok(page)
    }

    /// Reads a little-endian 64-bit value.
    pub(crate) fn read_u64(&self, address: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Addresses of the page frames that differ between two files of the same machine.
    pub(crate) fn changed_since(&self, earlier: &Self) -> Result<Vec<u64>> {
        ensure!(self.size == earlier.size, "two files of different machines");
        let mut changed = Vec::new();
        for start in &self.chunks()? | &earlier.chunks()? {
            compare(self.address(start), &self.chunk(start)?, &earlier.chunk(start)?, &mut changed);
        }
        Ok(changed)
    }

    /// Writes all of memory into a new file, each address behind `base`; pages of zeros become holes.
    pub(crate) fn write_behind(&self, base: u64, file: &File) -> Result<()> {
        file.set_len(base + self.ranges().last().map_or(0, |range| range.end))?;
        for start in self.chunks()? {
            write_nonzero(file, base + self.address(start), &self.chunk(start)?)?;
        }
        Ok(())
    }

    /// The only address in `regions` at which `content` stands, `offset` bytes into a page.
    pub(crate) fn find(&self, regions: &[Range<u64>], offset: usize, content: &[u8]) -> Result<u64> {
        let mut found = Vec::new();
        for region in regions {
            let bytes = self.bytes(region.start, region.len() as usize)?;
            let pages = (offset..bytes.len()).step_by(PAGE_SIZE as usize);
            let hits = pages.filter(|&at| bytes[at..].starts_with(content));
            found.extend(hits.map(|at| region.start + at as u64));
        }
        match found[..] {
            [at] => Ok(at),
            _ => bail!("found {} times in {regions:?}, instead of once", found.len()),
        }
    }

    fn bytes(&self, address: u64, size: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// The chunks of the file that hold anything, by their offsets: much of a large memory was never touched.
    fn chunks(&self) -> Result<BTreeSet<u64>> {
        let mut chunks = BTreeSet::new();
        let mut at = 0;
        while let Some(data) = past_hole(&self.file, at)? {
            let chunk = data - data % CHUNK as u64;
            chunks.insert(chunk);
            at = chunk + CHUNK as u64;
        }
        Ok(chunks)
    }

    /// Reads a chunk of the file, which at the end may be shorter.
    fn chunk(&self, start: u64) -> Result<Vec<u8>> {
        let mut chunk = vec![0; CHUNK.min((self.size - start) as usize)];
        self.file.read_exact_at(&mut chunk, start)?;
        Ok(chunk)
    }

    /// The physical address of what is at an offset of the file.
    fn address(&self, offset: u64) -> u64 {
        let above = self.size > LARGEST_BELOW_HOLE && offset >= HOLE.start;
        if above { offset + HOLE.len() } else { offset }
    }
}

/// The first offset from `at` on that is not in a hole of a file; `None` if there is nothing more.
fn past_hole(file: &File, at: u64) -> Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error).context("cannot look for the holes of a file of guest memory"),
    }
}

fn compare(start: u64, left: &[u8], right: &[u8], changed: &mut Vec<u64>) {
    let pages = left.chunks(PAGE_SIZE as usize).zip(right.chunks(PAGE_SIZE as usize));
    let differing = pages.enumerate().filter(|(_, (left, right))| left != right);
    changed.extend(differing.map(|(index, _)| start + index as u64 * PAGE_SIZE));
}

/// Copies a RAM file; pages of zeros become holes.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let ram = Ram::open(from)?;
    let copy = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    copy.set_len(ram.size)?;
    for start in ram.chunks()? {
        write_nonzero(&copy, start, &ram.chunk(start)?)?;
    }
    Ok(())
}

/// Writes the pages of `bytes` that are not all zero; the others stay holes of a new file.
fn write_nonzero(file: &File, start: u64, bytes: &[u8]) -> Result<()> {
    for (page, at) in bytes.chunks(PAGE_SIZE as usize).zip((start..).step_by(PAGE_SIZE as usize)) {
        if page != &ZEROS[..page.len()] {
            file.write_all_at(page, at)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(pages: &[Page]) -> (tempfile::TempDir, Ram) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ram"), pages.concat()).unwrap();
        let ram = Ram::open(&dir.path().join("ram")).unwrap();
        (dir, ram)
    }

    #[test]
    fn a_changed_byte_is_found_by_its_page() {
        let (_one, before) = ram(&[[0; 4096]; 3]);
        let mut page = [0; 4096];
        page[4095] = 1;
        let (_two, after) = ram(&[[0; 4096], page, [0; 4096]]);
        assert_eq!(after.changed_since(&before).unwrap(), [0x1000]);
    }

    #[test]
    fn a_copy_with_holes_equals_the_original() {
        let (dir, original) = ram(&[[0; 4096], [7; 4096], [0; 4096]]);
        copy(&dir.path().join("ram"), &dir.path().join("copy")).unwrap();
        let copied = Ram::open(&dir.path().join("copy")).unwrap();
        assert!(copied.changed_since(&original).unwrap().is_empty());
    }

    #[test]
    fn an_overlaid_word_hides_what_is_in_the_file() {
        let (_dir, ram) = ram(&[[0; 4096], [7; 4096]]);
        let ram = ram.overlaid(&[(0x1008, 1)]);
        assert_eq!(ram.read_u64(0x1008).unwrap(), 1);
        assert_eq!(ram.page(0x1000).unwrap()[8..17], [1, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(ram.read_u64(0x1010).unwrap(), 0x0707_0707_0707_0707);
    }

    #[test]
    fn content_that_stands_at_two_places_is_not_taken_for_found() {
        let (_dir, ram) = ram(&[[1; 4096], [2; 4096], [2; 4096]]);
        let all = &[Range::new(0, 0x1000), Range::new(0x1000, 0x3000)];
        assert_eq!(ram.find(all, 0, &[1; 64]).unwrap(), 0);
        assert!(ram.find(all, 0, &[2; 64]).is_err());
        assert!(ram.find(all, 0, &[3; 64]).is_err());
    }

    #[test]
    fn memory_above_the_hole_follows_what_is_below_it_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ram");
        let file = File::create(&path).unwrap();
        file.set_len(4 << 30).unwrap();
        file.write_all_at(b"above", 0x8000_0000).unwrap();
        let ram = Ram::open(&path).unwrap();
        let mut read = [0; 5];
        ram.read(0x1_0000_0000, &mut read).unwrap();
        assert_eq!(&read, b"above");
        assert!(ram.read(0x8000_0000, &mut read).is_err(), "the hole is not RAM");
    }

    #[test]
    fn a_change_above_the_hole_is_found_at_its_address_and_copied() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            let file = File::create(&path).unwrap();
            file.set_len(5 << 30).unwrap();
            file.write_all_at(content, 0x8000_5000).unwrap();
            path
        };
        let (before, after) = (file("before", b"a"), file("after", b"b"));
        let changed =
            |after: &Path| Ram::open(after).unwrap().changed_since(&Ram::open(&before).unwrap()).unwrap();
        assert_eq!(changed(&after), [0x1_0000_5000]);
        copy(&before, &dir.path().join("copy")).unwrap();
        assert!(changed(&dir.path().join("copy")).is_empty());
    }
}
