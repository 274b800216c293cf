//! Formatting, opening and reading a dump area.

use alloc::boxed::Box;

use machine::growth::{OutOfMemory, boxed_array, filled};
use machine::{BlockDevice, BlockError, ByteOffset, Range};
use uuid::Uuid;

use crate::ground::file::FirstExtent;
use crate::ground::list::{FileExtent, are_possible};
use crate::ground::{Ground, Parts};
use crate::label::{Label, LabelCopy};
use crate::log::{self, Log, LogError, LogRecord};
use crate::record::Damage;
use crate::seal::{Seal, SealState};
use crate::sum::Sum;
use crate::window::Window;
use crate::{BLOCK, Block, DUMP_OFFSET, Dump, LOG_OFFSET, SEAL_OFFSET};

/// Bytes per read where the capture kernel reads.
pub(crate) const CHUNK: u64 = 64 << 10;
/// Bytes per read where a host reads a whole dump.
const PIECE: u64 = 1 << 20;

/// A dump area whose labels were found and agree.
pub struct Area<D> {
    /// The area from its first label to its last.
    window: Window<Ground<D>>,
    label: Label,
    buffer: Buffer,
}

/// Room for [`CHUNK`] bytes. It is taken when the area is opened: once dumping has begun, no memory is needed any more.
pub(crate) type Buffer = Box<[u8; CHUNK as usize]>;

/// Why an area was not formatted. Nothing was written unless it is `Device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The place or the length is not a multiple of 4096 bytes.
    #[error("the area's offset and length must be multiples of 4096")]
    Misaligned,
    /// There is no room for a dump.
    #[error("an area needs at least {} bytes", DUMP_OFFSET + 2 * BLOCK)]
    TooShort,
    /// The area would reach past the end of the disk.
    #[error("the area reaches past the end of the disk")]
    DoesNotFit,
    /// A file's extents cannot be an area.
    #[error(
        "the file's extents cannot be used: they must be at most {}, each of whole blocks of {BLOCK} bytes, without holes",
        crate::MOST_FILE_EXTENTS
    )]
    Extents,
    /// The disk failed.
    #[error(transparent)]
    Device(#[from] BlockError),
    /// There is no memory for a buffer.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Why a place on a disk is not the requested area. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no label, or it is damaged.
    #[error("label: {0}")]
    Label(Damage),
    /// The list of a file's extents is damaged.
    #[error("list of the file's extents: {0}")]
    List(Damage),
    /// An extent of a file has no label, or another one: the file was moved, cut or removed, and the blocks may be somebody else's.
    #[error("extent {index} of the file is no longer at byte {place:#x} of the disk: {damage}")]
    Moved {
        /// The number of the extent.
        index: u32,
        /// Where it was.
        place: u64,
        /// What is there.
        damage: Damage,
    },
    /// There is a label, but of another area.
    #[error("the label is that of area {found}")]
    OtherArea {
        /// The UUID in the label.
        found: Uuid,
    },
    /// The label gives a length that exceeds the disk, or that is too small for a dump.
    #[error("the label tells of {length} bytes, which cannot be")]
    Length {
        /// The length in the label.
        length: u64,
    },
    /// The copy of the label in the last block is missing or another: somebody else uses the end of the area.
    #[error("the second label does not match the first")]
    LabelsDiffer,
    /// A reserved block is not zero: somebody else uses the area.
    #[error("reserved bytes at offset {offset:#x} of the area are in use")]
    InUse {
        /// Where, from the start of the area, rounded down.
        offset: u64,
    },
    /// The disk failed.
    #[error(transparent)]
    Device(#[from] BlockError),
    /// There is no memory for a buffer.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Why the seal of a dump cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The seal is damaged; a dump was interrupted while it was written.
    #[error("seal: {0}")]
    Damaged(Damage),
    /// The seal was written for another area.
    #[error("the seal is that of area {found}")]
    OtherArea {
        /// The UUID in the seal.
        found: Uuid,
    },
    /// The disk failed.
    #[error(transparent)]
    Device(#[from] BlockError),
}

/// Why a dump could not be read to its end, or cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// Everything was read, and is not what the capture kernel wrote.
    #[error("the dump's checksum is {found:#018x}, its seal says {expected:#018x}")]
    Checksum {
        /// What the seal says.
        expected: u64,
        /// What the blocks add up to.
        found: u64,
    },
    /// The disk failed.
    #[error(transparent)]
    Device(#[from] BlockError),
    /// The receiver of the dump's bytes failed.
    #[error("{0}")]
    Sink(E),
    /// There is no memory for a piece of the dump.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Reads the label of the area at byte `offset` of a disk, whatever area it is.
pub fn read_label(device: &mut impl BlockDevice, offset: u64) -> Result<Label, OpenError> {
    let (mut ground, offset) = find_ground(device, offset, None)?;
    read_label_on(&mut ground, offset)
}

/// Reads the label of the area in a file that begins at byte `offset` of it, wherever the file is on its disk.
pub fn read_label_in_file(file: &mut impl BlockDevice, offset: u64) -> Result<Label, OpenError> {
    let first = FirstExtent::read(file, offset)?.ok_or(OpenError::Label(Damage::NoMagic))?;
    read_label_on(&mut Ground::in_file(file, offset, first.uuid)?, 0)
}

fn find_ground<D: BlockDevice>(
    device: D,
    offset: u64,
    uuid: Option<Uuid>,
) -> Result<(Ground<D>, u64), OpenError> {
    if !offset.is_multiple_of(BLOCK) {
        return Err(BlockError::Misaligned.into());
    }
    Ground::find(device, offset, uuid)
}

fn read_label_on(device: &mut dyn BlockDevice, offset: u64) -> Result<Label, OpenError> {
    let mut block = [0; BLOCK as usize];
    device.read(offset, &mut block)?;
    let label = Label::decode(&block, LabelCopy::First).map_err(OpenError::Label)?;
    let end = offset.checked_add(label.length);
    if label.capacity() < BLOCK || end.is_none_or(|end| end > device.size()) {
        return Err(OpenError::Length { length: label.length });
    }
    Ok(label)
}

impl<D> Area<D> {
    /// The same area, reached by another device: `exchange` gives it for the one before, and it must be the same disk.
    pub fn map_device<E>(self, exchange: impl FnOnce(D) -> E) -> Area<E> {
        let Self { window, label, buffer } = self;
        Area { window: window.map(|ground| ground.map(exchange)), label, buffer }
    }
}

impl<D: BlockDevice> Area<D> {
    /// Makes `label.length` bytes from byte `offset` of the disk a dump area. What was there is lost.
    ///
    /// The first label comes last: as long as it is missing there is no area.
    pub fn format(device: D, offset: u64, label: Label) -> Result<Self, FormatError> {
        if !offset.is_multiple_of(BLOCK) || !label.length.is_multiple_of(BLOCK) {
            return Err(FormatError::Misaligned);
        }
        Self::format_on(Ground::Whole(device), offset, label)
    }

    /// Makes the extents of a file a dump area: all of the file from the first one on. `file` is the file, `disk_size` the size of the
    /// disk that it is on. The area is as long as the extents leave room for, whatever `label` says.
    ///
    /// What is written goes through the file; whoever opens the area opens the disk, at the place of the first extent.
    pub fn format_file(
        file: D,
        extents: &[FileExtent],
        disk_size: u64,
        label: Label,
    ) -> Result<Self, FormatError> {
        if !are_possible(extents, disk_size)? {
            return Err(FormatError::Extents);
        }
        let ground = Ground::Parts(Parts::format(file, extents, label.uuid)?);
        let label = Label { length: ground.size(), ..label };
        Self::format_on(ground, 0, label)
    }

    fn format_on(ground: Ground<D>, offset: u64, label: Label) -> Result<Self, FormatError> {
        if label.capacity() < BLOCK {
            return Err(FormatError::TooShort);
        }
        let bounds = Range::sized(ByteOffset::new(offset), label.length);
        let bounds = bounds.filter(|bounds| bounds.end.get() <= ground.size());
        let mut window = Window::new(ground, bounds.ok_or(FormatError::DoesNotFit)?);
        let (zeros, buffer) = (filled(0, SEAL_OFFSET as usize)?, boxed_array(0)?);
        window.write(0, &zeros)?;
        window.write(SEAL_OFFSET, &Seal::over_nothing(SealState::Empty, label.uuid, 0).encode())?;
        window.write(LOG_OFFSET, &zeros[..BLOCK as usize])?;
        window.write(label.length - BLOCK, &label.encode(LabelCopy::Last))?;
        window.flush()?;
        window.write(0, &label.encode(LabelCopy::First))?;
        window.flush()?;
        Ok(Self { window, label, buffer })
    }

    /// Finds area `uuid` at byte `offset` of a disk, and writes nothing. If the area is a file, its first extent is there.
    pub fn open(device: D, offset: u64, uuid: Uuid) -> Result<Self, OpenError> {
        let (ground, offset) = find_ground(device, offset, Some(uuid))?;
        Self::open_on(ground, offset, uuid)
    }

    /// Finds area `uuid` at byte `offset` of a file, wherever the file is on its disk by now, and writes nothing.
    pub fn open_in_file(file: D, offset: u64, uuid: Uuid) -> Result<Self, OpenError> {
        Self::open_on(Ground::in_file(file, offset, uuid)?, 0, uuid)
    }

    fn open_on(mut ground: Ground<D>, offset: u64, uuid: Uuid) -> Result<Self, OpenError> {
        let label = read_label_on(&mut ground, offset)?;
        if label.uuid != uuid {
            return Err(OpenError::OtherArea { found: label.uuid });
        }
        let mut window = Window::new(ground, Range::from(offset..offset + label.length));
        let mut buffer = boxed_array(0)?;
        check_last_label(&mut window, &label)?;
        check_reserved(&mut window, &mut buffer)?;
        Ok(Self { window, label, buffer })
    }

    /// Makes a device no area any more. The first label goes first: without it there is no area. Of a file the labels of its extents
    /// must go too: see [`erase_file`](crate::erase_file).
    pub fn erase(mut self) -> Result<(), BlockError> {
        let zeros = [0; BLOCK as usize];
        self.window.write(0, &zeros)?;
        self.window.flush()?;
        self.window.write(SEAL_OFFSET, &zeros)?;
        self.window.write(self.label.length - BLOCK, &zeros)?;
        self.window.flush()
    }

    /// The area's label.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// The extents of the file that the area is: place on the disk and length of each, in bytes; none if it is no file.
    pub fn extents(&self) -> impl Iterator<Item = (u64, u64)> {
        self.window.device().extents()
    }

    /// Reads how far the dump in the area got.
    pub fn read_seal(&mut self) -> Result<Seal, SealError> {
        read_seal(&mut self.window, &self.label)
    }

    /// Notes in the area that the dump of this seal, or its log if there is no more, is in a file, since `at`, in seconds since 1970.
    pub fn mark_collected(&mut self, seal: &Seal, at: u64) -> Result<(), BlockError> {
        let marked = Seal { collected: at.max(1), ..seal.clone() };
        self.window.write(SEAL_OFFSET, &marked.encode())?;
        self.window.flush()
    }

    /// Declares the dump in the area void and begins another. From here on the area reads *in progress*.
    pub fn begin(mut self) -> Result<Dump<D>, BlockError> {
        let sequence = self.last_sequence().saturating_add(1);
        let seal = Seal::over_nothing(SealState::InProgress, self.label.uuid, sequence);
        self.window.write(SEAL_OFFSET, &seal.encode())?;
        self.window.flush()?;
        Ok(Dump::new(self.window, seal, self.label.capacity(), self.buffer))
    }

    /// The number of the last dump that was begun, as far as seal and log tell; 0 if neither can be read. A number that the log of an
    /// older dump has is not given again: the log would be taken for the new dump's.
    fn last_sequence(&mut self) -> u64 {
        let sealed = self.read_seal().map_or(0, |seal| seal.sequence);
        let log = LogRecord::read(&mut self.window, self.label.uuid).ok().flatten();
        sealed.max(log.map_or(0, |log| log.sequence))
    }

    /// Reads the log of the dead kernel that was stored with the dump of this seal; `None` if none was.
    pub fn read_log(&mut self, seal: &Seal) -> Result<Option<Log>, LogError> {
        log::read(&mut self.window, seal)
    }

    /// The area as a device, and its label.
    pub(crate) fn parts(&mut self) -> (&mut dyn BlockDevice, &Label) {
        (&mut self.window, &self.label)
    }

    /// Reads the log that was stored last, for an area whose seal is damaged, so that nothing tells which dump it belongs to.
    pub fn read_last_log(&mut self) -> Result<Option<Log>, LogError> {
        log::read_last(&mut self.window, self.label.uuid)
    }

    /// Reads every byte of the dump that was written, from front to back, and checks it against its seal.
    ///
    /// `sink` is given offsets in the dump, in ascending order, and the bytes there: up to a mebibyte at a time, which ends at
    /// a multiple of a mebibyte unless there is nothing after it, and none past `seal.dump_len`. What `seal.written` lacks is left out; it reads as zeros if `sink` fills a fresh file.
    /// The bytes may be trusted only when this has returned `Ok`.
    pub fn read_dump<E>(
        &mut self,
        seal: &Seal,
        mut sink: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), ReadError<E>> {
        let mut sum = Sum::default();
        let mut buffer = filled(0, PIECE as usize)?;
        for piece in seal.written.runs(0..u64::MAX, PIECE / BLOCK) {
            let bytes = &mut buffer[..((piece.end - piece.start) * BLOCK) as usize];
            let offset = piece.start * BLOCK;
            self.window.read(DUMP_OFFSET + offset, bytes)?;
            sum.add_all(piece.start, bytes);
            let inside = seal.dump_len.saturating_sub(offset).min(bytes.len() as u64);
            sink(offset, &bytes[..inside as usize]).map_err(ReadError::Sink)?;
        }
        if sum != seal.sum {
            return Err(ReadError::Checksum { expected: seal.sum.value(), found: sum.value() });
        }
        Ok(())
    }
}

pub(crate) fn read_seal(window: &mut dyn BlockDevice, label: &Label) -> Result<Seal, SealError> {
    let mut block = [0; BLOCK as usize];
    window.read(SEAL_OFFSET, &mut block)?;
    let seal = Seal::decode(&block, label.capacity()).map_err(SealError::Damaged)?;
    if seal.uuid != label.uuid {
        return Err(SealError::OtherArea { found: seal.uuid });
    }
    Ok(seal)
}

fn check_last_label(window: &mut dyn BlockDevice, first: &Label) -> Result<(), OpenError> {
    let mut block: Block = [0; BLOCK as usize];
    window.read(first.length - BLOCK, &mut block)?;
    match Label::decode(&block, LabelCopy::Last) {
        Ok(last) if last == *first => Ok(()),
        _ => Err(OpenError::LabelsDiffer),
    }
}

fn check_reserved(window: &mut dyn BlockDevice, buffer: &mut Buffer) -> Result<(), OpenError> {
    let mut offset = BLOCK;
    while offset < SEAL_OFFSET {
        let bytes = &mut buffer[..CHUNK.min(SEAL_OFFSET - offset) as usize];
        window.read(offset, bytes)?;
        if let Some(used) = bytes.iter().position(|&byte| byte != 0) {
            return Err(OpenError::InUse { offset: offset + used as u64 });
        }
        offset += bytes.len() as u64;
    }
    Ok(())
}
