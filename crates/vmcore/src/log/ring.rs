//! The log of 5.10 and later: a ring of descriptors, one of their infos, and one of texts
//! (`kernel/printk/printk_ringbuffer.h`).
//!
//! A descriptor has an id that counts up for ever; its index is the id modulo the ring's size. Its state says whether
//! its message is whole. Its text lies between two positions in the ring of texts, which count up for ever too, and begins
//! with the descriptor's id. A text that does not fit before the ring's end is at the ring's start.

use machine::OldMemory;

use super::printer::Printer;
use super::{LogError, MOST_MESSAGES, MOST_TEXT, Message, Place};
use crate::page::{Offset, inside};
use crate::{Unknown, VmcoreInfo};

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
        let in_info =
            |field, len| inside(info.offset(field), info_size, len).ok_or(Unknown("OFFSET(printk_info)"));
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

/// The ring, and which part of it is printed.
#[derive(Debug)]
pub(super) struct Ring<'a, M> {
    place: Place<'a, M>,
    layout: Layout,
    /// Addresses of the three rings, and the sizes of the first two: a power of two.
    descriptors: u64,
    infos: u64,
    text: u64,
    count: u64,
    /// Bytes of the ring of texts, a power of two.
    text_size: u64,
    /// Id of the newest descriptor.
    newest: u64,
    /// How many descriptors are looked at.
    used: u64,
}

impl<'a, M: OldMemory> Ring<'a, M> {
    pub(super) fn find(
        place: Place<'a, M>,
        layout: Layout,
        go_on: impl FnMut() -> bool,
    ) -> Result<Self, LogError> {
        let mut buffer = [0; MAX_SIZE];
        let ring = buffer.get_mut(..layout.ring_size).ok_or(LogError::Absurd("size"))?;
        place.read(place.read_u64(layout.pointer, 0)?, 0, ring)?;
        let (newest, oldest) = (word(ring, layout.head) & ID, word(ring, layout.tail) & ID);
        let count = power(ring, layout.count_bits).ok_or(LogError::Absurd("number of messages"))?;
        let text_size = power(ring, layout.text_bits).ok_or(LogError::Absurd("size"))?;
        let [descriptors, infos, text] =
            [layout.descriptors, layout.infos, layout.text].map(|at| word(ring, at));
        // No more than there is room for, whatever the oldest one's id is.
        let used = (newest.wrapping_sub(oldest) & ID).min(count.min(MOST_MESSAGES) - 1) + 1;
        let mut ring = Self { place, layout, descriptors, infos, text, count, text_size, newest, used };
        ring.leave_out(go_on);
        Ok(ring)
    }

    /// Prints all messages that are whole.
    pub(super) fn print<E, W>(&self, printer: &mut Printer<W>) -> Result<(), E>
    where
        W: FnMut(&[u8]) -> Result<(), E>,
    {
        let mut whole = (0..self.used).rev().filter_map(|age| self.message(age));
        whole.try_for_each(|message| self.place.print(message, printer))
    }

    /// Limits what is printed to the newest messages, and to those that there is time for.
    fn leave_out(&mut self, mut go_on: impl FnMut() -> bool) {
        let mut left = MOST_TEXT;
        let too_old = (0..self.used).find(|&age| {
            if !go_on() {
                return true;
            }
            let len = self.message(age).map_or(0, |message| message.len);
            left = left.saturating_sub(len);
            left == 0
        });
        self.used = too_old.unwrap_or(self.used);
    }

    /// The message of the descriptor that is the newest but `age`, if it is whole.
    fn message(&self, age: u64) -> Option<Message> {
        let id = self.newest.wrapping_sub(age) & ID;
        let Layout { descriptor_size, state, begin, next, info_size, time, text_len, .. } = self.layout;
        let mut buffer = [0; MAX_SIZE];
        let descriptor = self.element(self.descriptors, id, descriptor_size, &mut buffer)?;
        let state = word(descriptor, state);
        if state & ID != id || !READABLE.contains(&(state >> STATE_SHIFT)) {
            return None;
        }
        let (begin, next) = (word(descriptor, begin), word(descriptor, next));
        let info = self.element(self.infos, id, info_size, &mut buffer)?;
        let (time, len) = (word(info, time), u16::from_le_bytes(text_len.read(info)?));
        let (start, room) = self.text_of(id, begin, next)?;
        Some(Message { time, text: self.text.wrapping_add(start).into(), len: room.min(len.into()) })
    }

    /// Reads the element of a ring that belongs to `id`.
    fn element<'b>(
        &self,
        base: u64,
        id: u64,
        size: usize,
        buffer: &'b mut [u8; MAX_SIZE],
    ) -> Option<&'b [u8]> {
        let bytes = buffer.get_mut(..size)?;
        // There are at most 2^31 of at most 256 bytes.
        self.place.read(base, (id & (self.count - 1)) * size as u64, bytes).ok()?;
        Some(bytes)
    }

    /// Where in the ring of texts the text of a message is, and how long it is at most; `None` if another's is there.
    fn text_of(&self, id: u64, begin: u64, next: u64) -> Option<(u64, u64)> {
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
        (owner == id).then_some((start + TEXT_HEADER, room))
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
