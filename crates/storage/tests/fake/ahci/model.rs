//! What a controller and its disks are like, and what is wrong with them.

use std::time::Duration;

/// What is at a port.
#[derive(Clone, Debug)]
pub(crate) enum Attached {
    Nothing,
    Packet,
    Multiplier,
    Disk(DiskModel),
}

/// What a disk is like.
#[derive(Clone, Debug)]
pub(crate) struct DiskModel {
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    /// Queued commands at a time; 0 if it has no queue.
    pub(crate) depth: u32,
    pub(crate) locked: bool,
    pub(crate) long_addresses: bool,
    pub(crate) long_flush: bool,
    pub(crate) cache: Cache,
}

/// A disk's volatile cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    /// Writes are done before they are durable.
    On,
    Off,
}

/// A disk of 512 blocks with a queue of 32 commands.
pub(crate) const DISK: DiskModel = DiskModel {
    blocks: 512,
    block_size: 512,
    depth: 32,
    locked: false,
    long_addresses: true,
    long_flush: true,
    cache: Cache::On,
};

/// What is wrong with a controller, or with its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The command engine does not stop, until the controller is reset.
    ListKeepsRunning,
    /// The other engine does not stop, until the controller is reset.
    ReceiveKeepsRunning,
    /// No engine stops, and the controller does not reset itself.
    Unstoppable,
    /// It does not listen to these registers.
    NeverEnabled,
    /// Firmware does not let go.
    FirmwareStays,
    /// A device is there, and the link stays down.
    LinkStaysDown,
    /// The disk is busy after a reset, for ever.
    StaysBusy,
    /// IDENTIFY DEVICE does not end.
    IdentifyHangs,
    /// IDENTIFY DEVICE fails.
    IdentifyFails,
    /// IDENTIFY DEVICE gives random words.
    IdentifyJunk(u64),
    /// No request completes after so many.
    DeadAfter(usize),
    /// Requests for this block fail.
    BadBlock(u64),
    /// The link breaks at this request, and works again when it was reset, after so much time.
    LinkBreaks(usize, Duration),
    /// The disk loses its power at this request, and with it what is in its cache; it is there again at once, and announces itself
    /// so much time after a reset of the link.
    PowerFails(usize, Duration),
    /// The link breaks at each request.
    LinkAlwaysBreaks,
    /// What the disk sends at the end of a command is not stored.
    StoresNothing,
    /// IDENTIFY DEVICE is lost on the way once.
    IdentifyLost,
    /// The disk is replaced by another of its kind at this request.
    Swapped(usize),
    /// The disk is pulled at this request.
    Pulled(usize),
    /// All registers are ones after so many accesses.
    GoneAfter(usize),
    /// Each so many-th read of a port's register gives random bits.
    Junk(usize),
}

/// What the links of devices say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// The devices are there.
    Up,
    /// Nothing.
    Silent,
}

/// What a controller is like.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) ports: Vec<Attached>,
    pub(crate) queuing: bool,
    pub(crate) wide_addresses: bool,
    /// Commands in a list.
    pub(crate) slots: u32,
    /// Firmware owns it, and is told of a request if BOHC.SOOE is set.
    pub(crate) firmware: bool,
    /// What the links say before they are reset.
    pub(crate) links: Links,
    /// How long devices take to announce themselves after a reset of the link.
    pub(crate) slowness: Duration,
    pub(crate) fault: Fault,
    pub(crate) seed: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            ports: vec![Attached::Nothing, Attached::Nothing, Attached::Disk(DISK)],
            queuing: true,
            wide_addresses: true,
            slots: 32,
            firmware: false,
            links: Links::Up,
            slowness: Duration::ZERO,
            fault: Fault::None,
            seed: 1,
        }
    }
}
