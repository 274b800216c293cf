//! The log of 3.5 to 5.9: records of different lengths in one buffer, `struct printk_log` and then its text
//! (`struct log` up to 3.10).
//!
//! A record of length 0 says that the next one is at the buffer's start.

use machine::OldMemory;

use super::text::Tail;
use super::{LogError, MOST, Place};
use crate::page::{Offset, inside};
use crate::{Unknown, Unmapped, VmcoreInfo};

/// Most bytes of a record's header.
const MAX_SIZE: usize = 64;

/// Where the buffer is, and the header of its records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Addresses of variables: the pointer to the buffer, its length, where the oldest record is, where the next one will be.
    buffer: u64,
    len: u64,
    first: u64,
    next: u64,
    header_size: usize,
    time: Offset,
    record_len: Offset,
    text_len: Offset,
}

impl Layout {
    pub(crate) fn new(info: VmcoreInfo<'_>) -> Result<Self, Unknown> {
        let symbol = |name, line| info.symbol(name).map(|address| address.get()).ok_or(Unknown(line));
        let first = symbol("log_first_idx", "SYMBOL(prb) or SYMBOL(log_first_idx)")?;
        let header_size = info.size("printk_log").or_else(|| info.size("log"));
        let header_size = header_size.filter(|size| (1..=MAX_SIZE).contains(size));
        let header_size = header_size.ok_or(Unknown("SIZE(printk_log)"))?;
        let field = |new, old, len, line| {
            inside(info.offset(new).or_else(|| info.offset(old)), header_size, len).ok_or(Unknown(line))
        };
        Ok(Self {
            buffer: symbol("log_buf", "SYMBOL(log_buf)")?,
            len: symbol("log_buf_len", "SYMBOL(log_buf_len)")?,
            first,
            next: symbol("log_next_idx", "SYMBOL(log_next_idx)")?,
            header_size,
            time: field("printk_log.ts_nsec", "log.ts_nsec", 8, "OFFSET(printk_log.ts_nsec)")?,
            record_len: field("printk_log.len", "log.len", 2, "OFFSET(printk_log.len)")?,
            text_len: field("printk_log.text_len", "log.text_len", 2, "OFFSET(printk_log.text_len)")?,
        })
    }
}

/// The buffer, and which part of it is in use.
pub(super) struct Records<'a, M> {
    place: Place<'a, M>,
    layout: Layout,
    buffer: u64,
    len: u64,
    first: u64,
    next: u64,
}

/// A record's header.
struct Header {
    time: u64,
    /// Bytes of the record; 0 where the buffer's end is.
    len: u64,
    text_len: u64,
}

impl<'a, M: OldMemory> Records<'a, M> {
    pub(super) fn find(place: Place<'a, M>, layout: Layout) -> Result<Self, LogError> {
        let variable = |address| place.read_u32(address, 0).map(u64::from);
        let (len, first, next) = (variable(layout.len)?, variable(layout.first)?, variable(layout.next)?);
        if first > len || next > len {
            return Err(LogError::Absurd("first or last message"));
        }
        Ok(Self { place, layout, buffer: place.read_u64(layout.buffer, 0)?, len, first, next })
    }

    /// Prints the messages, from the oldest to the newest or to one that makes no sense.
    pub(super) fn print(&self, tail: &mut Tail) {
        let mut at = self.first;
        // All records together are not longer than the buffer.
        let mut budget = self.len;
        for _ in 0..MOST {
            if at == self.next {
                return;
            }
            let Ok(header) = self.header(at) else { return };
            let Some(len) = self.print_text(at, &header, tail).filter(|len| *len <= budget) else { return };
            budget -= len;
            at = if len == 0 { 0 } else { at + len };
        }
    }

    /// Prints a record's text; returns the record's length, if there can be such a record.
    fn print_text(&self, at: u64, header: &Header, tail: &mut Tail) -> Option<u64> {
        if header.len == 0 {
            return (at != 0).then_some(0);
        }
        let header_size = self.layout.header_size as u64;
        let text_len = header.text_len.min(header.len.checked_sub(header_size)?);
        self.place.print(tail, header.time, (self.buffer, at + header_size, text_len));
        Some(header.len)
    }

    fn header(&self, at: u64) -> Result<Header, Unmapped> {
        let Layout { header_size, time, record_len, text_len, .. } = self.layout;
        let mut buffer = [0; MAX_SIZE];
        let header = buffer.get_mut(..header_size).unwrap_or_default();
        self.place.read(self.buffer, at, header)?;
        let short = |offset: Offset| offset.read(header).map_or(0, u16::from_le_bytes).into();
        let time = time.read(header).map_or(0, u64::from_le_bytes);
        Ok(Header { time, len: short(record_len), text_len: short(text_len) })
    }
}
