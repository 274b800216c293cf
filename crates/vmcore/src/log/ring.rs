//! The log of 5.10 and later: a ring of descriptors, one of their infos, and one of texts
//! (`kernel/printk/printk_ringbuffer.h`).
//!
//! A descriptor has an id that counts up for ever; its index is the id modulo the ring's size. Its state says whether
//! its message is whole. Its text lies between two positions in the ring of texts, which count up for ever too, and begins
//! with the descriptor's id. A text that does not fit before the ring's end is at the ring's start.

use machine::OldMemory;

use super::text::Tail;
use super::{LogError, MOST, Place};
use crate::page::{Offset, inside};
use crate::{Unknown, Unmapped, VmcoreInfo};

/// Most bytes of a structure.
const MAX_SIZE: usize = 256;
/// Binary logarithm of the largest buffer (`LOG_BUF_LEN_MAX`).
const MAX_BITS: u32 = 31;
/// Bits of a descriptor's state above its id (`DESC_FLAGS_SHIFT`).
const STATE_SHIFT: u32 = 62;
/// The bits of an id.
const ID: u64 = (1 << STATE_SHIFT) - 1;
/// States of a message that can be read: `desc_committed` and `desc_finalized`.
const READABLE: [u64; 2] = [1, 2];
/// Bit 0 of a position: the message has no text (`LPOS_DATALESS`).
const NO_TEXT: u64 = 1;
/// What precedes a text: the id of its descriptor.
const TEXT_HEADER: u64 = 8;

/// Where the ring is, and its structures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The pointer to the ring.
    pointer: u64,
    ring_size: usize,
    count_bits: Offset,
    descriptors: Offset,
    infos: Offset,
    head: Offset,
    tail: Offset,
    text_bits: Offset,
    text: Offset,
    descriptor_size: usize,
    state: Offset,
    begin: Offset,
    next: Offset,
    info_size: usize,
    time: Offset,
    text_len: Offset,
}

impl Layout {
    pub(crate) fn new(info: VmcoreInfo<'_>) -> Result<Self, Unknown> {
        let size = |name, line| info.size(name).filter(|size| *size <= MAX_SIZE).ok_or(Unknown(line));
        let ring_size = size("printk_ringbuffer", "SIZE(printk_ringbuffer)")?;
        let descriptor_size = size("prb_desc", "SIZE(prb_desc)")?;
        let info_size = size("printk_info", "SIZE(printk_info)")?;
        let in_ring = |outer, inner, len| inside(sum(info, &[outer, inner]), ring_size, len);
        let in_descriptors = |field, len| {
            in_ring("printk_ringbuffer.desc_ring", field, len).ok_or(Unknown("OFFSET(prb_desc_ring)"))
        };
        let in_texts = |field, len| {
            in_ring("printk_ringbuffer.text_data_ring", field, len).ok_or(Unknown("OFFSET(prb_data_ring)"))
        };
        let in_descriptor =
            |fields: &[_]| inside(sum(info, fields), descriptor_size, 8).ok_or(Unknown("OFFSET(prb_desc)"));
        let in_info = |field, len| {
            inside(info.offset(field), info_size, len).ok_or(Unknown("OFFSET(printk_info)"))
        };
        Ok(Self {
            pointer: info.symbol("prb").ok_or(Unknown("SYMBOL(prb)"))?.get(),
            ring_size,
            count_bits: in_descriptors("prb_desc_ring.count_bits", 4)?,
            descriptors: in_descriptors("prb_desc_ring.descs", 8)?,
            infos: in_descriptors("prb_desc_ring.infos", 8)?,
            head: in_descriptors("prb_desc_ring.head_id", 8)?,
            tail: in_descriptors("prb_desc_ring.tail_id", 8)?,
            text_bits: in_texts("prb_data_ring.size_bits", 4)?,
            text: in_texts("prb_data_ring.data", 8)?,
            descriptor_size,
            state: in_descriptor(&["prb_desc.state_var"])?,
            begin: in_descriptor(&["prb_desc.text_blk_lpos", "prb_data_blk_lpos.begin"])?,
            next: in_descriptor(&["prb_desc.text_blk_lpos", "prb_data_blk_lpos.next"])?,
            info_size,
            time: in_info("printk_info.ts_nsec", 8)?,
            text_len: in_info("printk_info.text_len", 2)?,
        })
    }
}

/// The offset of a field within fields.
fn sum(info: VmcoreInfo<'_>, fields: &[&str]) -> Option<usize> {
    fields.iter().try_fold(0usize, |sum, field| sum.checked_add(info.offset(field)?))
}

/// The ring: two numbers of which the sizes are powers, three pointers, and what is in use.
pub(super) struct Ring<'a, M> {
    place: Place<'a, M>,
    layout: Layout,
    /// A power of two.
    count: u64,
    descriptors: u64,
    infos: u64,
    text: u64,
    /// Bytes of the ring of texts, a power of two.
    text_size: u64,
    /// Id of the oldest descriptor that is looked at, and how many there are.
    oldest: u64,
    used: u64,
}

/// A message that can be read.
struct Message {
    id: u64,
    time: u64,
    begin: u64,
    next: u64,
    text_len: u64,
}

impl<'a, M: OldMemory> Ring<'a, M> {
    pub(super) fn find(place: Place<'a, M>, layout: Layout) -> Result<Self, LogError> {
        let mut buffer = [0; MAX_SIZE];
        let ring = buffer.get_mut(..layout.ring_size).ok_or(LogError::Absurd("ring"))?;
        place.read(place.read_u64(layout.pointer, 0)?, 0, ring)?;
        let (head, tail) = (word(ring, layout.head) & ID, word(ring, layout.tail) & ID);
        let count = power(ring, layout.count_bits).ok_or(LogError::Absurd("number of messages"))?;
        let text_size = power(ring, layout.text_bits).ok_or(LogError::Absurd("size"))?;
        // As many as ever fit, whatever the oldest one's id is; the newest ones.
        let used = (head.wrapping_sub(tail) & ID).min(count.min(MOST) - 1) + 1;
        let oldest = head.wrapping_sub(used - 1) & ID;
        let [descriptors, infos, text] =
            [layout.descriptors, layout.infos, layout.text].map(|at| word(ring, at));
        Ok(Self { place, layout, count, descriptors, infos, text, text_size, oldest, used })
    }

    /// Prints all messages that are whole.
    pub(super) fn print(&self, tail: &mut Tail) {
        // Each byte of the ring of texts belongs to one message at most.
        let mut budget = self.text_size;
        for id in (0..self.used).map(|number| self.oldest.wrapping_add(number) & ID) {
            let Ok(Some(message)) = self.message(id) else { continue };
            let Some((offset, len)) = self.text_of(&message) else { continue };
            let Some(left) = budget.checked_sub(len) else { return };
            budget = left;
            self.place.print(tail, message.time, (self.text, offset, len));
        }
    }

    /// The message of descriptor `id`, if it is whole.
    fn message(&self, id: u64) -> Result<Option<Message>, Unmapped> {
        let Layout { descriptor_size, state, begin, next, info_size, time, text_len, .. } = self.layout;
        let mut buffer = [0; MAX_SIZE];
        let descriptor = self.element(self.descriptors, id, descriptor_size, &mut buffer)?;
        let state = word(descriptor, state);
        if state & ID != id || !READABLE.contains(&(state >> STATE_SHIFT)) {
            return Ok(None);
        }
        let (begin, next) = (word(descriptor, begin), word(descriptor, next));
        let info = self.element(self.infos, id, info_size, &mut buffer)?;
        let text_len = text_len.read(info).map_or(0, u16::from_le_bytes).into();
        Ok(Some(Message { id, time: word(info, time), begin, next, text_len }))
    }

    /// Reads the element of a ring that belongs to `id`.
    fn element<'b>(
        &self,
        base: u64,
        id: u64,
        size: usize,
        buffer: &'b mut [u8; MAX_SIZE],
    ) -> Result<&'b [u8], Unmapped> {
        let bytes = buffer.get_mut(..size).unwrap_or_default();
        // At most 2^31 elements of 256 bytes.
        self.place.read(base, (id & (self.count - 1)) * size as u64, bytes)?;
        Ok(bytes)
    }

    /// Where in the ring of texts a message's text is, and its length; `None` if there is another's.
    fn text_of(&self, message: &Message) -> Option<(u64, u64)> {
        let &Message { begin, next, .. } = message;
        if begin & next & NO_TEXT != 0 {
            return Some((0, 0));
        }
        let (first, end) = (begin & (self.text_size - 1), next & (self.text_size - 1));
        let (start, end) = match end {
            0 => (first, self.text_size),
            _ if first < end => (first, end),
            _ => (0, end),
        };
        let room = (end - start).checked_sub(TEXT_HEADER)?;
        let owner = self.place.read_u64(self.text, start).ok()?;
        (owner == message.id).then_some((start + TEXT_HEADER, message.text_len.min(room)))
    }
}

/// Two to the power that a field of 32 bits gives, if there is such a ring.
fn power(bytes: &[u8], bits: Offset) -> Option<u64> {
    let bits = u32::from_le_bytes(bits.read(bytes)?);
    (bits <= MAX_BITS).then(|| 1 << bits)
}

fn word(bytes: &[u8], offset: Offset) -> u64 {
    offset.read(bytes).map_or(0, u64::from_le_bytes)
}
