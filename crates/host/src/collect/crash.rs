//! A crash, as the note in its folder and the history tell of it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A crash of which something was collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Counts the folders of a directory in the order in which they were made: clocks may be wrong.
    pub number: u64,
    /// The dump area.
    pub area: Uuid,
    /// Counts the dumps that were begun in that area.
    pub sequence: u64,
    /// What tells the dump from others with that count. A note of an earlier version has nothing of it, and is of no dump.
    #[serde(default)]
    pub identity: DumpIdentity,
    /// When it was collected, in seconds since 1970.
    pub collected_at: u64,
    /// When the kernel died, in seconds since 1970, if the dump tells it.
    pub crashed_at: Option<u64>,
    /// How long the kernel had run, in seconds, if that is known.
    pub uptime: Option<u64>,
    /// What was collected.
    pub content: FolderContent,
}

/// What tells a dump from others of the same area and count: a disk that was rolled back to a snapshot, or cloned, counts the same
/// again, and so does an area that has lost its seal and its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpIdentity {
    /// When the area was made, in seconds since 1970.
    pub area_created: u64,
    /// Length of the dump by its seal; 0 without one.
    pub dump_bytes: u64,
    /// Checksum of the dump by its seal, in hexadecimal digits; empty without one.
    pub dump_sum: String,
    /// XXH64 of the log, if there is one.
    pub log: Option<String>,
}

/// What a folder has of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderContent {
    /// Everything that belongs in the dump.
    Complete,
    /// A part of the dump, which opens.
    Partial,
    /// A part of the dump, which does not open.
    Unreadable,
    /// The log; there is no dump.
    Log,
    /// The log; the dump is still in its area.
    LogOnly,
    /// Nothing that counts yet: the copy was begun.
    Begun,
    /// The copy is durable, and the pages beside it were begun.
    Copied,
}

impl Crash {
    /// When it was, as far as that is known: else when it was collected.
    pub fn time(&self) -> u64 {
        self.crashed_at.unwrap_or(self.collected_at)
    }

    /// Whether both are one crash.
    pub(super) fn is(&self, other: &Self) -> bool {
        let of = |crash: &Self| (crash.area, crash.sequence, crash.identity.clone());
        of(self) == of(other)
    }

    /// Whether anything is known of its dump by which it could be told from others.
    pub(super) fn is_known(&self) -> bool {
        self.identity != DumpIdentity::default()
    }
}
