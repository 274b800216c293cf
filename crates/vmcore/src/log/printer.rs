//! The log's text: time stamps and escapes.

use core::fmt::{self, Write};

/// Bytes of text that are handed over at a time.
const PIECE: usize = 1024;

/// Prints messages. Each of their lines begins with the message's time, as on Linux's console.
pub(super) struct Printer<W> {
    write: W,
    piece: [u8; PIECE],
    used: usize,
    /// Of the message that is being printed, in nanoseconds.
    time: u64,
}

impl<E, W: FnMut(&[u8]) -> Result<(), E>> Printer<W> {
    pub(super) fn new(write: W) -> Self {
        Self { write, piece: [0; PIECE], used: 0, time: 0 }
    }

    /// Begins a message.
    pub(super) fn begin(&mut self, time: u64) -> Result<(), E> {
        self.time = time;
        self.stamp()
    }

    /// Adds bytes of the message's text.
    pub(super) fn add(&mut self, text: &[u8]) -> Result<(), E> {
        text.iter().try_for_each(|&byte| match byte {
            b'\n' => self.put(b"\n").and_then(|()| self.stamp()),
            b'\t' | b' '..=b'~' => self.put(&[byte]),
            _ => self.put_formatted(format_args!("\\x{byte:02x}")),
        })
    }

    /// Ends the message.
    pub(super) fn end(&mut self) -> Result<(), E> {
        self.put(b"\n")
    }

    /// Hands over what is left.
    pub(super) fn finish(mut self) -> Result<(), E> {
        self.hand_over()
    }

    fn stamp(&mut self) -> Result<(), E> {
        let (seconds, rest) = (self.time / 1_000_000_000, self.time % 1_000_000_000);
        self.put_formatted(format_args!("[{seconds:5}.{:06}] ", rest / 1000))
    }

    fn put_formatted(&mut self, arguments: fmt::Arguments<'_>) -> Result<(), E> {
        let mut short = Short { bytes: [0; 40], used: 0 };
        // Whatever the numbers are, they fit.
        let _ = short.write_fmt(arguments);
        self.put(short.bytes.get(..short.used).unwrap_or_default())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), E> {
        if self.piece.len() - self.used < bytes.len() {
            self.hand_over()?;
        }
        if let Some(room) = self.piece.get_mut(self.used..self.used + bytes.len()) {
            room.copy_from_slice(bytes);
            self.used += bytes.len();
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), E> {
        let used = core::mem::take(&mut self.used);
        (self.write)(self.piece.get(..used).unwrap_or_default())
    }
}

/// Formatted text of a few bytes.
struct Short {
    bytes: [u8; 40],
    used: usize,
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.used..self.used + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.used += text.len();
        Ok(())
    }
}
