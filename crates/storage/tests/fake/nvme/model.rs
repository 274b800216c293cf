//! What a controller is like, and what is wrong with it.

use std::collections::BTreeMap;
use std::time::Duration;

/// What is wrong with a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It does not turn off.
    NeverOff,
    /// It does not turn on.
    NeverOn,
    /// It fails when it is turned on.
    FailsToTurnOn,
    /// It is gone after so many accesses to its registers and pieces of work.
    GoneAfter(usize),
    /// Admin commands are not answered from this one on.
    SilentFrom(usize),
    /// Each admin command with this opcode, and these low bits of CDW10 if it identifies something, ends with this status.
    Refuses(u8, Option<u8>, u16),
    /// It says of itself or of its disk, at this offset of every structure, this byte.
    Claims(usize, u8),
    /// It answers what identifies something, and writes nothing.
    SaysNothing,
    /// Its list of namespaces always begins with this one.
    Lists(u32),
    /// The answers to admin commands name another.
    AnswersAnother,
    /// Nothing completes after so many requests.
    DeadAfter(usize),
    /// It fails as a whole after so many requests.
    FailsAfter(usize),
    /// Requests on this block end with this status, of which bit 14 is DNR.
    BadBlock(u64, u16),
    /// The first so many requests end with this status.
    FailsAtFirst(usize, u16),
    /// Requests end with this status until so much time has passed.
    UnreadyUntil(Duration, u16),
    /// Commands that identify something do.
    AdminUnreadyUntil(Duration, u16),
    /// Requests to this namespace are not answered.
    SilentNamespace(u32),
    /// Answers name this request, whatever was asked.
    JunkId(u16),
    /// Every answer comes twice.
    Repeats,
    /// After each answer, so many entries of the completion queue have the phase of new ones.
    PhaseAhead(u16),
}

/// How the dead kernel left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nobody has used it since the reset.
    Off,
    /// At work, with so many requests pending.
    Busy(usize),
    /// It was turned on, and is not ready yet.
    TurningOn,
    /// It was turned off, and still is at work.
    TurningOff,
    /// It was turned on, and has failed.
    Failed,
    /// It was turned on, and has failed before it was ready.
    FailedToTurnOn,
    /// It was told of a shutdown, which is under way.
    ShuttingDown,
    /// It was shut down.
    ShutDown,
}

/// A namespace.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    pub(crate) blocks: u64,
    /// Bytes in a block: 2ⁿ.
    pub(crate) shift: u8,
    pub(crate) metadata: u16,
    pub(crate) protection: u8,
    pub(crate) write_protected: bool,
    /// The number of its format.
    pub(crate) format: u8,
}

impl Default for Namespace {
    fn default() -> Self {
        Self { blocks: 512, shift: 9, metadata: 0, protection: 0, write_protected: false, format: 0 }
    }
}

/// What a controller is like.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) ids: (u16, u16),
    pub(crate) version: u32,
    /// CAP.MQES.
    pub(crate) most_entries: u16,
    /// CAP.TO.
    pub(crate) timeout: u8,
    /// CRTO.CRWMT, if the controller has CRTO.
    pub(crate) with_media: Option<u16>,
    /// CAP.DSTRD.
    pub(crate) stride: u8,
    /// CAP.CSS.
    pub(crate) command_sets: u8,
    /// CAP.MPSMIN.
    pub(crate) smallest_page: u8,
    pub(crate) most_data: u8,
    pub(crate) cached: bool,
    pub(crate) namespaces: BTreeMap<u32, Namespace>,
    /// How long it takes to turn on or off.
    pub(crate) slowness: Duration,
    pub(crate) left: Left,
    pub(crate) fault: Fault,
    pub(crate) seed: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            ids: (0x1b36, 0x0010),
            version: 0x0001_0400,
            most_entries: 1023,
            timeout: 30,
            with_media: None,
            stride: 0,
            command_sets: 1,
            smallest_page: 0,
            most_data: 5,
            cached: true,
            namespaces: [(1, Namespace::default())].into(),
            slowness: Duration::from_millis(30),
            left: Left::Busy(3),
            fault: Fault::None,
            seed: 1,
        }
    }
}
