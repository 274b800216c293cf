//! What the kernel writes to its log while it is asked for something: only there it tells why it refuses.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

/// The log as a file of records (Linux, Documentation/ABI/testing/dev-kmsg).
const FILE: &str = "/dev/kmsg";
/// Longest record.
const LONGEST: usize = 8192;
/// Most messages that are kept.
const MOST: usize = 16;

/// Messages of the kernel, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelLog(Vec<String>);

impl fmt::Display for KernelLog {
    /// Shows them on lines of their own, below what is said already.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() {
            write!(f, "\nthe kernel's messages:")?;
        }
        self.0.iter().try_for_each(|message| write!(f, "\n  {message}"))
    }
}

impl KernelLog {
    /// Does some work, and returns what the kernel wrote meanwhile; nothing if this user may not read its log.
    pub(super) fn during<T>(work: impl FnOnce() -> T) -> (T, Self) {
        let log = at_its_end();
        let done = work();
        (done, log.map(Self::rest).unwrap_or_default())
    }

    /// Each read gives one record, an error if the record was overwritten, and another at the end of the log.
    fn rest(mut log: File) -> Self {
        let mut record = [0; LONGEST];
        let mut records = Vec::new();
        while let Ok(length @ 1..) = log.read(&mut record) {
            records.extend(message(&record[..length]));
            if records.len() == MOST {
                break;
            }
        }
        Self(records)
    }
}

fn at_its_end() -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut log = OpenOptions::new().read(true).custom_flags(flags).open(FILE)?;
    log.seek(SeekFrom::End(0))?;
    Ok(log)
}

/// The message of a record: what is between the first semicolon and the end of that line.
fn message(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (_, message) = text.lines().next()?.split_once(';')?;
    Some(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_its_message_behind_a_semicolon() {
        let record = b"3,501,1234567,-;PEFILE: Unsigned PE binary; stop\n SUBSYSTEM=x\n";
        assert_eq!(message(record).as_deref(), Some("PEFILE: Unsigned PE binary; stop"));
        assert_eq!(message(b""), None);
    }

    #[test]
    fn messages_are_shown_below_what_is_said_already() {
        assert_eq!(KernelLog::default().to_string(), "");
        let log = KernelLog(vec!["one".into(), "two".into()]);
        assert_eq!(log.to_string(), "\nthe kernel's messages:\n  one\n  two");
    }
}
