//! The memory that a port shares with its driver: the command list, a command table for each slot, and the place for
//! received FISes (4).

use machine::{Dma, DmaMemory, IoAddress};

use super::identity;
use super::spec::{Ata, HEADER_SIZE, Header, LIST_SIZE, RECEIVED_SIZE, Region, received, table};

/// Where the received FISes are.
const RECEIVED: usize = LIST_SIZE;
/// Where the first command table is.
const TABLES: usize = RECEIVED + 4 * RECEIVED_SIZE;
/// Bytes from one command table to the next: one region fits.
const TABLE_STRIDE: usize = 0x100;
/// The slot of the command that asks a disk what it is, while there are no others.
pub(super) const QUESTION_SLOT: usize = 0;

/// Data of a command: one stretch of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    /// The address of its first byte for the device.
    pub(super) address: IoAddress,
    /// Size in bytes: even, and at most [`LARGEST_REGION`](super::spec::LARGEST_REGION).
    pub(super) len: usize,
    /// Whether it goes to the disk.
    pub(super) is_write: bool,
}

/// A command that another has replaced.
pub(super) struct Replaced([u8; HEADER_SIZE]);

/// A command list with its tables. Slot `n` has header `n` and table `n`. Behind them are a table for the question what a disk is,
/// and the answer.
pub(super) struct CommandList<M> {
    memory: M,
    slots: usize,
}

impl<M: DmaMemory> CommandList<M> {
    /// Takes memory for so many slots, at most 32; `None` if there is none.
    pub(super) fn allocate(dma: &mut impl Dma<Memory = M>, slots: usize) -> Option<Self> {
        let memory = dma.allocate(TABLES + (slots + 1) * TABLE_STRIDE + identity::SIZE)?;
        Some(Self { memory, slots })
    }

    /// The device address of the list.
    pub(super) fn address(&self) -> IoAddress {
        self.memory.device_address()
    }

    /// The device address of the place for received FISes.
    pub(super) fn received(&self) -> IoAddress {
        self.address().saturating_add(RECEIVED as u64)
    }

    /// The address behind the last byte.
    pub(super) fn end(&self) -> IoAddress {
        self.address().saturating_add(self.memory.size() as u64)
    }

    /// Writes the command of a slot, which the device is not working on.
    pub(super) fn put(&mut self, slot: usize, ata: Ata, data: Option<Data>) {
        self.put_with_table(slot, TABLES + slot * TABLE_STRIDE, ata, data);
    }

    /// Writes the question what the disk is in place of the command of its slot, which is given back.
    pub(super) fn put_question(&mut self) -> Replaced {
        let (mut replaced, answer) = (Replaced([0; HEADER_SIZE]), self.answer());
        self.memory.read(QUESTION_SLOT * HEADER_SIZE, &mut replaced.0);
        self.memory.write(answer, &[0; identity::SIZE]);
        let address = self.address().saturating_add(answer as u64);
        let data = Data { address, len: identity::SIZE, is_write: false };
        self.put_with_table(QUESTION_SLOT, answer - TABLE_STRIDE, Ata::IDENTIFY, Some(data));
        replaced
    }

    /// Puts a command back that the question has replaced, and gives the answer.
    pub(super) fn take_answer(&mut self, Replaced(header): Replaced) -> [u8; identity::SIZE] {
        let mut answer = [0; identity::SIZE];
        self.memory.read(self.answer(), &mut answer);
        self.memory.write(QUESTION_SLOT * HEADER_SIZE, &header);
        answer
    }

    /// Where the answer is.
    fn answer(&self) -> usize {
        TABLES + (self.slots + 1) * TABLE_STRIDE
    }

    fn put_with_table(&mut self, slot: usize, place: usize, ata: Ata, data: Option<Data>) {
        let fis = ata.fis();
        self.memory.write(place + table::FIS, &fis);
        let mut header = Header::new()
            .with_fis_length((fis.len() / 4) as u8)
            .with_table(self.address().saturating_add(place as u64).get());
        if let Some(Data { address, len, is_write }) = data {
            let region = Region::new().with_address(address.get()).with_size_less_one(len as u32 - 1);
            self.memory.write(place + table::REGIONS, &region.into_bits().to_le_bytes());
            header = header.with_regions(1).with_is_write(is_write);
        }
        self.memory.write(slot * HEADER_SIZE, &header.into_bits().to_le_bytes());
    }

    /// Takes notice of a FIS that the port has stored since the last call: the end of a queued command (Set Device Bits) or of
    /// another (D2H Register).
    pub(super) fn take_received(&mut self) -> bool {
        let mut any = false;
        for place in [received::REGISTER, received::SET_DEVICE_BITS].map(|place| RECEIVED + place) {
            if self.memory.read_u32(place) != 0 {
                self.memory.write_u32(place, 0);
                any = true;
            }
        }
        any
    }

    /// Orders all accesses before it against all after it, as the device sees them.
    pub(super) fn fence(&self) {
        self.memory.fence();
    }
}
