//! Sense data: why a command failed (SPC-4, 4.5), and what it says of writes that were acknowledged before.

/// Bytes of sense data that are asked for.
pub(crate) const SIZE: usize = 96;

/// Sense data, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sense {
    /// The sense key: the kind of failure.
    key: u8,
    /// Additional sense code, and its qualifier.
    code: [u8; 2],
    /// What it is about.
    subject: Subject,
}

/// What sense data is about (SPC-4, 4.5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// The command that it came with.
    Command,
    /// An earlier command, which had been said to be done. The command that it came with was not done.
    Earlier,
}

/// Number of the sense data of a disk that needs START STOP UNIT to become ready (04/02).
pub(super) const STOPPED: u32 = 0x0002_0402;

/// Sense keys (SPC-4, 4.5.6).
mod key {
    pub(super) const NO_SENSE: u8 = 0x0;
    pub(super) const RECOVERED_ERROR: u8 = 0x1;
    pub(super) const NOT_READY: u8 = 0x2;
    pub(super) const ILLEGAL_REQUEST: u8 = 0x5;
    pub(super) const UNIT_ATTENTION: u8 = 0x6;
    pub(super) const DATA_PROTECT: u8 = 0x7;
    pub(super) const ABORTED: u8 = 0xb;
}

impl Sense {
    /// Reads sense data in one of its two formats; `None` if it is neither. What is missing counts as zero.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let at = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let format = at(0) & 0x7f;
        let (key, code) = match format {
            0x70 | 0x71 => (at(2), [at(12), at(13)]),
            0x72 | 0x73 => (at(1), [at(2), at(3)]),
            _ => return None,
        };
        let subject = if format & 1 == 0 { Subject::Command } else { Subject::Earlier };
        Some(Self { key: key & 0xf, code, subject })
    }

    /// Whether an earlier command is meant, and the command itself was not done.
    fn is_deferred(self) -> bool {
        self.subject == Subject::Earlier
    }

    /// Whether the command was done.
    pub(crate) fn is_success(self) -> bool {
        self.key == key::RECOVERED_ERROR && !self.is_deferred()
    }

    /// Whether an earlier command has failed that had been said to be done.
    pub(crate) fn is_deferred_error(self) -> bool {
        self.is_deferred() && !matches!(self.key, key::NO_SENSE | key::RECOVERED_ERROR)
    }

    /// Whether the unit had no power, or was reset, and with that may have lost what was in its cache (29/00 to 29/04). What else
    /// is told there, such as the loss of a path, leaves the cache alone.
    pub(crate) fn is_reset(self) -> bool {
        self.key == key::UNIT_ATTENTION && matches!(self.code, [0x29, ..=0x04])
    }

    /// Whether the command was not done for a reason that has nothing to do with it, such as a reset before it, or for none.
    pub(crate) fn is_passing(self) -> bool {
        self.is_deferred() || matches!(self.key, key::NO_SENSE | key::UNIT_ATTENTION | key::ABORTED)
    }

    /// Whether the disk is about to become ready (04/01), or the path to it is changing hands (04/0A).
    pub(crate) fn is_becoming_ready(self) -> bool {
        self.key == key::NOT_READY && matches!(self.code, [0x04, 0x01 | 0x0a])
    }

    /// Whether the disk does not know the command.
    pub(crate) fn is_unknown_command(self) -> bool {
        self.key == key::ILLEGAL_REQUEST && self.code[0] == 0x20
    }

    /// Whether the disk may not be written (27/xx).
    pub(crate) fn is_write_protected(self) -> bool {
        self.key == key::DATA_PROTECT && self.code[0] == 0x27
    }

    /// Key, additional sense code and qualifier in one number.
    pub(crate) fn number(self) -> u32 {
        u32::from_be_bytes([0, self.key, self.code[0], self.code[1]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sense_data_has_two_formats() {
        let sense = Sense { key: 6, code: [0x29, 1], subject: Subject::Command };
        assert_eq!(Sense::read(&[0x70, 0, 0xf6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 1]), Some(sense));
        assert_eq!(Sense::read(&[0xf2, 6, 0x29, 1]), Some(sense));
        assert_eq!(Sense::read(&[]), None);
        assert!(sense.is_passing() && !sense.is_becoming_ready());
        assert_eq!(sense.number(), 0x0006_2901);
    }

    #[test]
    fn short_sense_data_says_what_it_can() {
        assert_eq!(Sense::read(&[0x70, 0, 2]).map(Sense::number), Some(0x0002_0000));
        assert!(Sense::read(&[0x72]).is_some_and(Sense::is_passing), "no reason at all");
        assert_eq!(Sense::read(&[0x7f; 252]), None, "a vendor's own format");
    }

    #[test]
    fn an_earlier_commands_error_is_not_this_ones() {
        let read = |key| Sense::read(&[0x73, key, 0x0c, 0]).unwrap();
        assert!(read(3).is_passing() && read(3).is_deferred_error());
        assert!(read(1).is_passing() && !read(1).is_deferred_error() && !read(1).is_success());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(sense) = Sense::read(&bytes) {
                prop_assert!(!(sense.is_success() && sense.is_passing()));
                prop_assert!(sense.number() >> 20 == 0);
            }
        }
    }
}
