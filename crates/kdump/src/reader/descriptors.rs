//! The descriptors: where in the file each kept page is, and how it is compressed.

use machine::{BlockDevice, ByteOffset, Range};
use zerocopy::FromBytes;

use super::bitmaps::{FRAMES_PER_BLOCK, count_ones};
use super::{BLOCK_SIZE, ReadError, Reader};
use crate::layout::{DESCRIPTOR_LEN, Descriptor};
use crate::{BLOCK, Bitmap};

/// Descriptors that are read together: whole ones in whole blocks.
const DESCRIPTORS: usize = 3 * BLOCK / DESCRIPTOR_LEN;

/// Descriptors that follow each other in the file.
pub(super) struct CachedDescriptors {
    /// Number of the first one, among those of all kept pages.
    first: u64,
    bytes: [u8; DESCRIPTORS * DESCRIPTOR_LEN],
    /// How many of the bytes are from the file.
    len: usize,
}

impl CachedDescriptors {
    pub(super) const EMPTY: Self = Self { first: 0, bytes: [0; DESCRIPTORS * DESCRIPTOR_LEN], len: 0 };

    fn get(&self, index: u64) -> Option<Descriptor> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?.checked_mul(DESCRIPTOR_LEN)?;
        let bytes = self.bytes[..self.len].get(at..)?;
        Descriptor::read_from_prefix(bytes).ok().map(|(descriptor, _)| descriptor)
    }
}

impl<D: BlockDevice> Reader<D> {
    /// How many bytes are missing at the end of the file, by its descriptors; 0 of a dump that was not finished. What
    /// cannot be read, or makes no sense, does not count: whoever reads the pages will notice.
    pub fn lacking(&mut self) -> u64 {
        if !self.complete {
            return 0;
        }
        let (table, size) = (self.table(), self.device.size());
        let mut needed = table.end.get();
        let mut at = table.start.get();
        let mut window = [0; DESCRIPTORS * DESCRIPTOR_LEN];
        while at < table.end.get().min(size) {
            let len = (size - at).min(window.len() as u64) as usize;
            if self.device.read(at, &mut window[..len]).is_ok() {
                let inside = (table.end.get() - at).min(len as u64) as usize;
                needed = needed.max(needed_by(&window[..inside]));
            }
            at += window.len() as u64;
        }
        needed.saturating_sub(size)
    }

    /// The place of the descriptors of all kept pages; the file may end before.
    pub(crate) fn table(&self) -> Range<ByteOffset> {
        let start = ByteOffset::new(self.geometry.descriptors());
        Range::new(start, start.saturating_add(self.kept.saturating_mul(DESCRIPTOR_LEN as u64)))
    }

    /// The descriptor of a kept page.
    pub(super) fn descriptor(&mut self, pfn: u64) -> Result<Descriptor, ReadError> {
        let not_kept = ReadError::NotKept(pfn);
        let block = pfn / FRAMES_PER_BLOCK;
        let before = *self.kept_before.get(block as usize).ok_or(not_kept)?;
        let frames = self.header.frames;
        let bits = self.bits(Bitmap::Kept, block)?;
        let bit = (pfn % FRAMES_PER_BLOCK) as usize;
        if pfn >= frames || bits[bit / 8] & (1 << (bit % 8)) == 0 {
            return Err(not_kept);
        }
        let index = before + u64::from(count_ones(bits, bit));
        if let Some(descriptor) = self.descriptors.get(index) {
            return Ok(descriptor);
        }
        if self.geometry.descriptors() + (index + 1) * DESCRIPTOR_LEN as u64 > self.device.size() {
            return Err(self.beyond_the_end(pfn));
        }
        self.load_descriptors(index)?;
        self.descriptors.get(index).ok_or(ReadError::OutOfBounds("descriptors"))
    }

    /// Why there is no descriptor behind the end of the file: a dump that was cut short ends anywhere.
    fn beyond_the_end(&self, pfn: u64) -> ReadError {
        if self.is_complete() { ReadError::OutOfBounds("descriptors") } else { ReadError::Missing(pfn) }
    }

    /// Reads the descriptors around one, or that one alone, if others cannot be read.
    fn load_descriptors(&mut self, index: u64) -> Result<(), ReadError> {
        let together = index - index % DESCRIPTORS as u64;
        self.descriptors.len = 0;
        let start = self.geometry.descriptors() + together * DESCRIPTOR_LEN as u64;
        let len = self.device.size().saturating_sub(start).min(self.descriptors.bytes.len() as u64) as usize;
        if self.device.read(start, &mut self.descriptors.bytes[..len]).is_ok() {
            (self.descriptors.first, self.descriptors.len) = (together, len);
            return Ok(());
        }
        let mut buffer = [0; 2 * BLOCK];
        let at = self.geometry.descriptors() + index * DESCRIPTOR_LEN as u64;
        let bytes = self.read_small(at, DESCRIPTOR_LEN, &mut buffer)?;
        let bytes = bytes.ok_or(ReadError::OutOfBounds("descriptors"))?;
        self.descriptors.bytes[..DESCRIPTOR_LEN].copy_from_slice(bytes);
        (self.descriptors.first, self.descriptors.len) = (index, DESCRIPTOR_LEN);
        Ok(())
    }
}

/// The end of the data that these descriptors name.
fn needed_by(descriptors: &[u8]) -> u64 {
    let descriptors =
        descriptors.chunks_exact(DESCRIPTOR_LEN).filter_map(|bytes| Descriptor::read_from_bytes(bytes).ok());
    let sound = descriptors.filter(|descriptor| descriptor.size.get() <= BLOCK_SIZE);
    sound.filter_map(|sound| sound.offset.get().checked_add(sound.size.get().into())).max().unwrap_or(0)
}
