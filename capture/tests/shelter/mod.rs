//! The simulated machine. Its own allocations succeed even while those of the capture kernel fail.

use std::ops::Range as Indices;
use std::time::Duration;

use machine::{
    Clock, Contended, CopyError, Dma, DmaMemory, Frames, IoAddress, OldMemory, PhysicalAddress, Range,
    Registers, Table, Unreadable,
};
use storage::{Addressing, BarRange, DeviceAccess};

use crate::failing::sheltered;

/// A part of the machine for which there is always memory.
#[derive(Debug)]
pub(crate) struct Shelter<T>(pub(crate) T);

impl<T: Clock> Clock for Shelter<T> {
    fn now(&self) -> Duration {
        sheltered(|| self.0.now())
    }
}

/// Forwards methods to what is in the shelter.
macro_rules! forward {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        $(fn $name(&self $(, $argument: $type)*) $(-> $result)? {
            sheltered(|| self.0.$name($($argument),*))
        })*
    };
    ($(fn $name:ident(&mut self $(, $argument:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        $(fn $name(&mut self $(, $argument: $type)*) $(-> $result)? {
            sheltered(|| self.0.$name($($argument),*))
        })*
    };
}

impl<T: Registers> Registers for Shelter<T> {
    forward! {
        fn read8(&self, offset: usize) -> u8;
        fn read16(&self, offset: usize) -> u16;
        fn read32(&self, offset: usize) -> u32;
        fn read64(&self, offset: usize) -> u64;
    }
    forward! {
        fn write8(&mut self, offset: usize, value: u8);
        fn write16(&mut self, offset: usize, value: u16);
        fn write32(&mut self, offset: usize, value: u32);
        fn write64(&mut self, offset: usize, value: u64);
    }
}

impl<T: OldMemory> OldMemory for Shelter<T> {
    forward! {
        fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable>;
        fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable>;
    }
}

impl<T: Frames> Frames for Shelter<T> {
    forward! {
        fn available(&self) -> usize;
        fn table(&self, frame: PhysicalAddress) -> &Table;
        fn load(&self, frame: PhysicalAddress, index: usize) -> u64;
    }
    forward! {
        fn allocate(&mut self) -> Option<PhysicalAddress>;
        fn allocate_run(&mut self, count: usize) -> Option<PhysicalAddress>;
        fn allocate_copy(&mut self, old: &impl OldMemory, address: PhysicalAddress) -> Result<PhysicalAddress, CopyError>;
        fn allocate_run_below(&mut self, count: usize, limit: PhysicalAddress) -> Option<PhysicalAddress>;
        fn release(&mut self, frame: PhysicalAddress);
        fn table_mut(&mut self, frame: PhysicalAddress) -> &mut Table;
        fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64);
        fn reuse(&mut self, old: &impl OldMemory, memory: Range<PhysicalAddress>) -> Result<(), Unreadable>;
        fn store_pair(&mut self, address: PhysicalAddress, words: [u64; 2]) -> Result<(), Contended>;
        fn publish(&mut self, frame: PhysicalAddress, entries: Indices<usize>);
    }
}

impl<T: Dma> Dma for Shelter<T> {
    type Memory = Shelter<T::Memory>;

    fn allocate(&mut self, len: usize) -> Option<Shelter<T::Memory>> {
        sheltered(|| self.0.allocate(len).map(Shelter))
    }
}

impl<T: DmaMemory> DmaMemory for Shelter<T> {
    forward! {
        fn device_address(&self) -> IoAddress;
        fn size(&self) -> usize;
        fn read(&self, offset: usize, into: &mut [u8]);
        fn read_u16(&self, offset: usize) -> u16;
        fn read_u32(&self, offset: usize) -> u32;
        fn fence(&self);
    }
    forward! {
        fn write(&mut self, offset: usize, from: &[u8]);
        fn write_u16(&mut self, offset: usize, value: u16);
        fn write_u32(&mut self, offset: usize, value: u32);
    }
}

impl<T: DeviceAccess> DeviceAccess for Shelter<T> {
    type Registers = Shelter<T::Registers>;
    type Refusal = T::Refusal;

    fn config(&self) -> &impl Registers {
        self.0.config()
    }

    fn map(&mut self, range: BarRange) -> Option<Shelter<T::Registers>> {
        sheltered(|| self.0.map(range).map(Shelter))
    }

    fn attach(&mut self, addressing: Addressing) -> Result<(), T::Refusal> {
        sheltered(|| self.0.attach(addressing))
    }
}
