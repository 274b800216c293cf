//! The log's text: time stamps, escapes, and the newest lines where there is no room for all.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::Log;

/// The last bytes of what is written to it.
#[derive(Debug)]
pub(super) struct Tail {
    /// The bytes; once there is no room for more, the oldest one is at `oldest`.
    bytes: Vec<u8>,
    oldest: usize,
    room: usize,
    is_cut: bool,
}

impl Tail {
    /// A tail of at most `room` bytes, of fewer if memory does not suffice.
    pub(super) fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), oldest: 0, room, is_cut: false }
    }

    /// Begins a message.
    pub(super) fn begin(&mut self, nanoseconds: u64) -> Message<'_> {
        let mut message = Message { tail: self, nanoseconds };
        message.stamp();
        message
    }

    /// The whole lines that are left.
    pub(super) fn finish(self) -> Log {
        let Self { bytes: mut text, oldest, is_cut, .. } = self;
        text.rotate_left(oldest);
        if is_cut {
            let first = text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |end| end + 1);
            text.drain(..first);
        }
        Log { text, is_cut }
    }

    fn push(&mut self, byte: u8) {
        if self.bytes.len() < self.room && self.bytes.try_reserve(1).is_ok() {
            return self.bytes.push(byte);
        }
        // What there is no memory for now is not tried again for each byte.
        self.room = self.bytes.len();
        self.is_cut = true;
        if let Some(oldest) = self.bytes.get_mut(self.oldest) {
            *oldest = byte;
            self.oldest = (self.oldest + 1) % self.room;
        }
    }
}

impl Write for Tail {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// A message that is being written. Each of its lines begins with its time, as on Linux's console.
pub(super) struct Message<'a> {
    tail: &'a mut Tail,
    nanoseconds: u64,
}

impl Message<'_> {
    /// Adds bytes of the message's text. A terminal takes bytes that are not printable for commands.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => {
                    self.tail.push(b'\n');
                    self.stamp();
                }
                b'\t' | b' '..=b'~' => self.tail.push(byte),
                _ => self.put(format_args!("\\x{byte:02x}")),
            }
        }
    }

    /// Ends the message.
    pub(super) fn end(self) {
        self.tail.push(b'\n');
    }

    fn stamp(&mut self) {
        let (seconds, rest) = (self.nanoseconds / 1_000_000_000, self.nanoseconds % 1_000_000_000);
        self.put(format_args!("[{seconds:5}.{:06}] ", rest / 1000));
    }

    fn put(&mut self, arguments: fmt::Arguments<'_>) {
        // A tail takes everything.
        let _ = self.tail.write_fmt(arguments);
    }
}
