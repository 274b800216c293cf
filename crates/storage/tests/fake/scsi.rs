//! The units behind a SCSI host: several kinds, all of which share one disk's content.

use storage::{Place, StartError};

use super::machine::Machine;

/// The disk that a host has among its units.
pub(crate) const DISK: Place = Place::LogicalUnit { target: 5, lun: 0x102 };

/// A place, and whether what is there can be used.
pub(crate) type Looked = (Place, Result<(), StartError>);

/// Looks at what a host has, up to the first disk that can be used.
pub(crate) fn look(mut advance: impl FnMut() -> Option<Looked>) -> Vec<Looked> {
    let mut found = Vec::new();
    while let Some(looked) = advance() {
        found.push(looked);
        if looked.1.is_ok() {
            break;
        }
    }
    found
}

/// What a host is like.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Its units, by target and number.
    pub(crate) units: Vec<(u8, u16, Unit)>,
    pub(crate) block_size: u32,
    pub(crate) last_target: u16,
    /// Sectors that one command should move at most.
    pub(crate) max_sectors: u32,
    pub(crate) sense_size: u32,
    /// Commands that each unit refuses before the first that it does: response, status, sense key, additional code.
    pub(crate) refusals: Vec<Refusal>,
    /// Commands with this code fail for ever, in the same way.
    pub(crate) refused_code: Option<(u8, Refusal)>,
    /// Its disks do not turn until they are told to start.
    pub(crate) is_stopped: bool,
    /// The first byte of its sense data: the format, and whether it is about an earlier command.
    pub(crate) sense_format: u8,
    /// What its disks answer to MODE SENSE behind the block descriptors.
    pub(crate) pages: Vec<u8>,
    /// Commands that it gave up in silence.
    pub(crate) unanswered: usize,
}

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Disk,
    ReadOnlyDisk,
    Optical,
    /// The target lists it, and there is nothing.
    Absent,
    /// It answers nothing.
    Silent,
    /// A disk that answers all but a read.
    Unreadable,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            units: vec![(3, 0, Unit::Optical), (5, 0x102, Unit::Disk)],
            block_size: 512,
            last_target: 7,
            max_sectors: 0xffff,
            sense_size: 96,
            refusals: Vec::new(),
            refused_code: None,
            is_stopped: false,
            sense_format: 0x70,
            pages: Vec::new(),
            unanswered: 0,
        }
    }
}

/// How a command is refused: the host's own code, status, sense key and additional code.
pub(crate) type Refusal = (u8, u8, u8, u16);

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Done {
    /// The host's own code, as virtio has it.
    pub(crate) response: u8,
    pub(crate) status: u8,
    pub(crate) sense: Vec<u8>,
    /// Bytes of data that were moved.
    pub(crate) moved: usize,
}

/// What a command touches.
pub(crate) struct Parts<'a> {
    pub(crate) host: &'a mut Host,
    pub(crate) machine: &'a mut Machine,
    pub(crate) disk: &'a mut Vec<u8>,
    /// What survives a loss of power.
    pub(crate) durable: &'a mut Vec<u8>,
    /// Commands that were done, in order: code and block.
    pub(crate) done: &'a mut Vec<(u32, u64)>,
    /// Whether the host says of commands in its hands that they are done, and may find their memory used again.
    pub(crate) lies: bool,
}

/// Codes of responses and statuses.
const BAD_TARGET: u8 = 3;
const CHECK_CONDITION: u8 = 2;
/// No refusal.
const GOOD: Refusal = (0, 0, 0, 0);

/// The questions that units answer, and the sizes of the places for the answers.
const QUESTIONS: [(u8, usize); 5] = [(0xa0, 4096), (0x12, 36), (0x9e, 32), (0x25, 8), (0x1a, 192)];

/// The data of a command: an address, a length, and whether the unit writes it.
type Data = (u64, usize, bool);

impl Parts<'_> {
    /// Does a command, whose data is at an address with a length, and is written or not; `None` if it is never answered.
    pub(crate) fn execute(mut self, place: (u8, u16), cdb: &[u8], data: Option<Data>) -> Option<Done> {
        let found = self.host.units.iter().find(|(target, number, _)| (*target, *number) == place);
        let unit = found.map(|(.., unit)| *unit);
        if unit == Some(Unit::Silent) || unit == Some(Unit::Unreadable) && matches!(cdb[0], 0x28 | 0x88) {
            self.host.unanswered += 1;
            return None;
        }
        let ((response, status, key, additional), moved) = self.answer(place, unit, cdb, data);
        let mut sense = vec![0; if key == 0 { 0 } else { 18 }];
        if key != 0 {
            let format = self.host.sense_format;
            let (at, code_at) = if format & 2 == 0 { (2, 12) } else { (1, 2) };
            (sense[0], sense[at]) = (format, key);
            sense[code_at..code_at + 2].copy_from_slice(&additional.to_be_bytes());
        }
        Some(Done { response, status, sense, moved })
    }

    /// Does a command; gives the refusal, which may be none, and how many bytes were moved.
    fn answer(
        &mut self,
        place: (u8, u16),
        unit: Option<Unit>,
        cdb: &[u8],
        data: Option<Data>,
    ) -> (Refusal, usize) {
        if let Some(refusal) = self.refusal(place.0, cdb) {
            return (refusal, 0);
        }
        let (block, blocks) = blocks(cdb);
        let at = (block as usize).wrapping_mul(self.host.block_size as usize);
        let len = blocks.wrapping_mul(self.host.block_size) as usize;
        let transfers = || assert!(matches!(unit, Some(Unit::Disk | Unit::Unreadable)), "{unit:?}");
        match (cdb[0], data) {
            (0x00, None) => {}
            (0x1b, None) => self.start(cdb),
            (0x35, None) => self.durable.clone_from(self.disk),
            (0x2a | 0x8a, Some((address, size, false))) if size == len => {
                transfers();
                assert!(len <= self.host.max_sectors as usize * 512);
                self.disk[at..at + len].copy_from_slice(&self.machine.device_read(address, len));
            }
            (0x28 | 0x88, Some((address, size, true))) if size == len => {
                transfers();
                self.machine.device_write(address, &self.disk[at..at + len]);
            }
            (code, Some((address, size, true))) if QUESTIONS.contains(&(code, size)) => {
                self.done.push((code.into(), block));
                let told = self.told(place.0, unit, code);
                self.machine.device_write(address, &told);
                return (GOOD, told.len());
            }
            _ if self.lies => return ((0, CHECK_CONDITION, 5, 0x2000), 0),
            _ => panic!("command {cdb:x?} with {data:?}"),
        }
        let block = if data.is_some() { block } else { 0 };
        self.done.push((cdb[0].into(), block));
        (GOOD, data.map_or(0, |_| len))
    }

    /// Why a command is not done, if it is not.
    fn refusal(&mut self, target: u8, cdb: &[u8]) -> Option<Refusal> {
        let needs_motion = !matches!(cdb[0], 0xa0 | 0x12 | 0x1a | 0x1b);
        if !self.host.units.iter().any(|(other, ..)| *other == target) {
            return Some((BAD_TARGET, 0, 0, 0));
        }
        let refused = self.host.refused_code.filter(|(code, _)| *code == cdb[0]).map(|(_, refusal)| refusal);
        let stopped = (self.host.is_stopped && needs_motion).then_some((0, CHECK_CONDITION, 2, 0x0402));
        self.host.refusals.pop().or(refused).or(stopped)
    }

    /// A disk that starts becomes ready, and says so for a while.
    fn start(&mut self, cdb: &[u8]) {
        assert_eq!((cdb[1], cdb[4]), (1, 1), "it answers at once, and starts");
        self.host.is_stopped = false;
        self.host.refusals = vec![(0, CHECK_CONDITION, 2, 0x0401); 3];
    }

    /// The answer to a question.
    fn told(&self, target: u8, unit: Option<Unit>, code: u8) -> Vec<u8> {
        let block_size = self.host.block_size;
        let last = self.disk.len() as u64 / u64::from(block_size) - 1;
        match code {
            0xa0 => self.listed(target),
            0x12 => [&[kind(unit), 0, 6, 2, 31][..], &[0; 31]].concat(),
            0x9e => [&last.to_be_bytes()[..], &block_size.to_be_bytes(), &[0; 20]].concat(),
            0x25 => {
                [u32::try_from(last).unwrap_or(u32::MAX).to_be_bytes(), block_size.to_be_bytes()].concat()
            }
            _ => {
                let protected = if unit == Some(Unit::ReadOnlyDisk) { 0x80 } else { 0 };
                [&[3 + self.host.pages.len() as u8, 0, protected, 0][..], &self.host.pages].concat()
            }
        }
    }

    /// The units of a target.
    fn listed(&self, target: u8) -> Vec<u8> {
        let units = self.host.units.iter().filter(|(other, ..)| *other == target);
        let entries = units.map(|(_, number, _)| {
            let method = if *number > 255 { 0x4000 } else { 0 };
            [(method | number).to_be_bytes(), [0; 2], [0; 2], [0; 2]].concat()
        });
        let entries = entries.collect::<Vec<_>>().concat();
        [&(entries.len() as u32).to_be_bytes()[..], &[0; 4], &entries].concat()
    }
}

/// The first byte of the answer to INQUIRY.
fn kind(unit: Option<Unit>) -> u8 {
    match unit {
        Some(Unit::Disk | Unit::ReadOnlyDisk | Unit::Unreadable) => 0,
        Some(Unit::Optical) => 5,
        Some(Unit::Absent | Unit::Silent) | None => 0x7f,
    }
}

/// The first block and the number of blocks of a command that moves some; other commands have something else there.
fn blocks(cdb: &[u8]) -> (u64, u32) {
    match cdb[0] {
        0x28 | 0x2a => (
            u64::from(u32::from_be_bytes(cdb[2..6].try_into().unwrap())),
            u32::from(u16::from_be_bytes(cdb[7..9].try_into().unwrap())),
        ),
        _ => (
            u64::from_be_bytes(cdb[2..10].try_into().unwrap()),
            u32::from_be_bytes(cdb[10..14].try_into().unwrap()),
        ),
    }
}
