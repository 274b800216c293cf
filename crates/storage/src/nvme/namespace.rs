//! The namespaces of a controller: which there are, and whether one can be used as a disk.

use machine::{Clock, DmaMemory, Registers};

use super::admin::Admin;
use super::spec::{BlockFormat, Format, VERSION_1_1, identify};
use crate::disk::{Durability, Geometry};
use crate::error::StartError;

/// Namespaces that are looked at, at most.
const MOST: u32 = 1024;

/// What a controller says of itself (5.17.2.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Properties {
    /// Bytes that one command moves at most.
    most_bytes: usize,
    durability: Durability,
    /// The highest number of a namespace.
    last_namespace: u32,
}

/// The way through the namespaces of a controller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tour {
    /// The namespace that was looked at last; 0 before the first.
    last: u32,
    /// How many more may be looked at.
    left: u32,
    /// Whether the controller lists them. If not, each number is tried.
    listed: bool,
}

impl Properties {
    /// Asks the controller.
    pub(super) fn read<R: Registers, M: DmaMemory>(
        admin: &mut Admin<R, M>,
        clock: &impl Clock,
        buffer: &mut M,
    ) -> Result<Self, StartError> {
        use identify::controller as field;

        admin.identify(clock, "to identify itself", identify::CONTROLLER, 0, buffer)?;
        let told = Told(buffer);
        if ![0, field::IO_CONTROLLER].contains(&told.u8(field::KIND)) {
            return Err(StartError::Unusable("a controller that is not for reads and writes"));
        }
        if told.u8(field::SUBMISSION_ENTRY) & 0xf > super::spec::submission::SHIFT
            || told.u8(field::COMPLETION_ENTRY) & 0xf > super::spec::completion::SHIFT
        {
            return Err(StartError::Unusable("a controller whose queues have longer entries"));
        }
        let cached = told.u8(field::CACHE) & 1 != 0;
        Ok(Self {
            most_bytes: most_bytes(told.u8(field::MOST_DATA)),
            durability: if cached { Durability::OnFlush } else { Durability::OnCompletion },
            last_namespace: told.u32(field::NAMESPACES),
        })
    }

    /// How a namespace can be used, of which the controller has told in `buffer`; `None` if it is not active. One command moves
    /// `piece` bytes at most, because of the driver's own memory.
    fn geometry(self, buffer: &impl DmaMemory, piece: usize) -> Option<Result<Geometry, StartError>> {
        use identify::namespace as field;

        let told = Told(buffer);
        let blocks = told.u64(field::BLOCKS);
        (blocks > 0).then(|| {
            let format = Format::from_bits(told.u8(field::FORMAT));
            let block = BlockFormat::from_bits(told.u32(field::BLOCK_FORMATS + 4 * format.number()));
            if block.metadata() > 0 || format.extended() {
                return Err(StartError::Unusable("blocks with metadata"));
            }
            if told.u8(field::PROTECTION) & 0b111 != 0 {
                return Err(StartError::Unusable("end-to-end data protection"));
            }
            if told.u8(field::ATTRIBUTES) & 1 != 0 {
                return Err(StartError::ReadOnly);
            }
            self.with_blocks(blocks, block.shift(), piece).ok_or(StartError::Geometry)
        })
    }

    fn with_blocks(self, blocks: u64, shift: u8, piece: usize) -> Option<Geometry> {
        if !(9..=12).contains(&shift) {
            return None;
        }
        let block_size = 1_u32 << shift;
        let piece = piece.min(self.most_bytes) & !(block_size as usize - 1);
        let size = blocks.checked_mul(block_size.into())?;
        (piece > 0).then_some(Geometry { size, block_size, piece, durability: self.durability })
    }
}

/// MDTS in bytes (5.17.2.1): the smallest page of a controller that is driven has 4096 bytes.
fn most_bytes(shift: u8) -> usize {
    match shift {
        0 => usize::MAX,
        _ => 4096_usize.checked_shl(shift.into()).filter(|&bytes| bytes > 0).unwrap_or(usize::MAX),
    }
}

impl Tour {
    /// Begins before the first namespace of a controller of this version.
    pub(super) fn new(version: u32) -> Self {
        Self { last: 0, left: MOST, listed: version >= VERSION_1_1 }
    }

    /// The namespace that was looked at last.
    pub(super) fn namespace(&self) -> u32 {
        self.last
    }

    /// Moves on to the next active namespace; `None` if there is none, or as many were looked at as may be.
    ///
    /// The error concerns the namespace if its number went on, and the controller otherwise.
    pub(super) fn advance<R: Registers, M: DmaMemory>(
        &mut self,
        admin: &mut Admin<R, M>,
        clock: &impl Clock,
        buffer: &mut M,
        properties: Properties,
        piece: usize,
    ) -> Option<Result<Geometry, StartError>> {
        loop {
            self.left = self.left.checked_sub(1)?;
            self.last = match self.next(admin, clock, buffer, properties) {
                Ok(next) => next?,
                Err(error) => return Some(Err(error)),
            };
            let what = "to identify a namespace";
            if let Err(error) = admin.identify(clock, what, identify::NAMESPACE, self.last, buffer) {
                return Some(Err(error));
            }
            if let Some(geometry) = properties.geometry(buffer, piece) {
                return Some(geometry);
            }
        }
    }

    /// The number of the next namespace that may be active.
    fn next<R: Registers, M: DmaMemory>(
        &mut self,
        admin: &mut Admin<R, M>,
        clock: &impl Clock,
        buffer: &mut M,
        properties: Properties,
    ) -> Result<Option<u32>, StartError> {
        if self.listed {
            let (what, list) = ("to list its namespaces", identify::ACTIVE_NAMESPACES);
            match admin.identify(clock, what, list, self.last, buffer) {
                Ok(()) => return Ok(Some(Told(buffer).u32(0)).filter(|&next| next > self.last)),
                Err(StartError::Refused { .. }) => self.listed = false,
                Err(error) => return Err(error),
            }
        }
        Ok(self.last.checked_add(1).filter(|&next| next <= properties.last_namespace))
    }
}

/// What the controller has written. It may be writing still: each field is read once.
struct Told<'a, M>(&'a M);

impl<M: DmaMemory> Told<'_, M> {
    fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read(offset, &mut bytes);
        bytes
    }

    fn u8(&self, offset: usize) -> u8 {
        let [byte] = self.bytes(offset);
        byte
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(offset))
    }
}
