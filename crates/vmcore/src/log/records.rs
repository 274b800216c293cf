//! The log of 3.5 to 5.9: records of different lengths in one buffer, `struct printk_log` and then its text
//! (`struct log` up to 3.10).
//!
//! A record of length 0 says that the next one is at the buffer's start.

use machine::{OldMemory, VirtualAddress};

use super::printer::Printer;
use super::{LogError, MOST_MESSAGES, MOST_TEXT, Message, Place};
use crate::page::{Offset, inside};
use crate::{Unknown, VmcoreInfo};

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
        let symbol = |name, line| info.symbol(name).map(VirtualAddress::get).ok_or(Unknown(line));
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

/// The buffer, and which part of it is printed.
#[derive(Debug)]
pub(super) struct Records<'a, M> {
    place: Place<'a, M>,
    layout: Layout,
    buffer: u64,
    len: u64,
    /// Where the oldest record is, and where the next one will be.
    first: u64,
    next: u64,
    /// How many bytes of text come before those that are printed.
    too_old: u64,
}

impl<'a, M: OldMemory> Records<'a, M> {
    pub(super) fn find(
        place: Place<'a, M>,
        layout: Layout,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Self, LogError> {
        let variable = |address| place.read_u32(address).map(u64::from);
        let (len, first, next) = (variable(layout.len)?, variable(layout.first)?, variable(layout.next)?);
        if first > len || next > len {
            return Err(LogError::Absurd("oldest or newest message"));
        }
        let buffer = place.read_u64(layout.buffer, 0)?;
        let records = Self { place, layout, buffer, len, first, next, too_old: 0 };
        let mut text = 0;
        for message in records.messages() {
            text += message.len;
            if !go_on() {
                return Err(LogError::Slow);
            }
        }
        Ok(Self { too_old: text.saturating_sub(MOST_TEXT), ..records })
    }

    /// Prints the messages, from the oldest to the newest or to one that makes no sense.
    pub(super) fn print<E, W>(&self, printer: &mut Printer<W>) -> Result<(), E>
    where
        W: FnMut(&[u8]) -> Result<(), E>,
    {
        let mut too_old = self.too_old;
        let mut new = self.messages().skip_while(|message| {
            let skipped = too_old > 0;
            too_old = too_old.saturating_sub(message.len);
            skipped
        });
        new.try_for_each(|message| self.place.print(message, printer))
    }

    fn messages(&self) -> impl Iterator<Item = Message> {
        let mut at = Some(self.first);
        // All records together are not longer than the buffer.
        let mut left = self.len;
        let records = core::iter::from_fn(move || {
            let start = at.filter(|start| *start != self.next)?;
            let (message, len) = self.record(start)?;
            left = left.checked_sub(len)?;
            at = match len {
                0 if start == 0 => None,
                0 => Some(0),
                _ => start.checked_add(len),
            };
            Some(message)
        });
        records.take(MOST_MESSAGES as usize).flatten()
    }

    /// The message of a record, and the record's length; no message and 0 where the end of the buffer is.
    fn record(&self, at: u64) -> Option<(Option<Message>, u64)> {
        let Layout { header_size, time, record_len, text_len, .. } = self.layout;
        let mut buffer = [0; MAX_SIZE];
        let header = buffer.get_mut(..header_size)?;
        self.place.read(self.buffer, at, header).ok()?;
        let time = u64::from_le_bytes(time.read(header)?);
        let [len, text_len] = [record_len, text_len].map(|field| field.read(header).map(u16::from_le_bytes));
        let (len, text_len) = (u64::from(len?), u64::from(text_len?));
        if len == 0 {
            return Some((None, 0));
        }
        let room = len.checked_sub(header_size as u64)?;
        let text = self.buffer.wrapping_add(at).wrapping_add(header_size as u64).into();
        Some((Some(Message { time, text, len: text_len.min(room) }), len))
    }
}
