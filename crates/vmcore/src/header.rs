//! The ELF core header that the kexec loader left for the capture kernel, or that a core file begins with.
//!
//! The loader lists each range of RAM of the kernel that may die (`PT_LOAD`) and each place where that kernel will
//! write notes (`PT_NOTE`), and passes the header's address as `elfcorehdr=`. Layouts: System V ABI, chapters 4 and
//! 5; what Linux puts in: `kernel/crash_core.c`, `crash_prepare_elf64_headers`. In a core file (`/proc/vmcore`,
//! QEMU's `dump-guest-memory`) the places are offsets in the file.

use alloc::vec::Vec;

use machine::{ByteOffset, PhysicalAddress, Position, Range, Unreadable, VirtualAddress};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{Medium, OutOfMemory, Ram};

/// Most program headers that are read: 8192 processors, and the pieces that makedumpfile cuts 1 TiB into.
const MAX_PROGRAM_HEADERS: u32 = 1 << 18;
/// `PN_XNUM`: the number of program headers is in `sh_info` of section header 0 (System V ABI, "ELF Header").
const MANY: u16 = 0xffff;
/// First physical address that no processor has (Intel SDM volume 3, section 4.1.4).
const PHYSICAL_END: PhysicalAddress = PhysicalAddress::new(1 << 52);
/// Most memory that a core's headers may describe without having it in the file: so many bytes, or so many times the file.
/// Linux keeps 64 bytes for each page of memory, so a core from which most was left out has about a 64th of it.
const MOST_ABSENT: u64 = 64 << 30;
const MOST_TIMES_ABSENT: u64 = 1024;
/// Physical address of what is no RAM (`fs/proc/kcore.c`).
const NOWHERE: u64 = u64::MAX;
/// Where `sh_info` is in a section header.
const SECTION_INFO: u64 = 44;

const IDENTITY: [u8; 7] = [0x7f, b'E', b'L', b'F', CLASS_64, LITTLE_ENDIAN, VERSION];
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const VERSION: u8 = 1;
const TYPE_CORE: u16 = 4;
const MACHINE_X86_64: u16 = 62;
const PT_NULL: u32 = 0;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `p_flags` of all memory, as in `/proc/vmcore`.
const READ_WRITE_EXECUTE: u32 = 7;

/// `Elf64_Ehdr`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct FileHeader {
    identity: [u8; 7],
    padding: [u8; 9],
    kind: U16,
    machine: U16,
    version: U32,
    entry: U64,
    program_headers: U64,
    section_headers: U64,
    flags: U32,
    size: U16,
    program_header_size: U16,
    program_header_count: U16,
    section_header_size: U16,
    section_header_count: U16,
    section_names: U16,
}

/// `Elf64_Phdr`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct ProgramHeader {
    kind: U32,
    flags: U32,
    offset: U64,
    virtual_address: U64,
    physical_address: U64,
    file_size: U64,
    memory_size: U64,
    alignment: U64,
}

/// Why there is no usable core header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The place where it should lie cannot be read.
    #[error("core header: {0}")]
    Unreadable(#[from] Unreadable),
    /// The bytes there are not an ELF64 core header for x86-64.
    #[error("no ELF64 core header of an x86-64 kernel at {address:#x}")]
    NoHeader {
        /// The address where it was expected.
        address: u64,
    },
    /// It has more entries than any loader writes.
    #[error("core header with {count} entries")]
    TooLong {
        /// How many.
        count: u32,
    },
    /// There is no memory for the list.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// A `PT_LOAD`: a range of the dead kernel's RAM.
///
/// Segments may overlap: the loader lists the kernel image once more, under its own virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its physical addresses while the kernel was running.
    pub physical: Range<PhysicalAddress>,
    /// The kernel's virtual address of the first byte.
    pub virtual_start: VirtualAddress,
    /// Where the first byte is now: the physical address itself, or a copy that the loader's code made of the first 640
    /// KiB. In a core file, an offset.
    pub stored_at: u64,
    /// Number of bytes there: fewer than the range has, if the rest was omitted from a core file.
    pub stored_len: u64,
}

impl Segment {
    /// First address after those whose bytes are found.
    pub(crate) fn stored_end(&self) -> PhysicalAddress {
        self.physical.start.saturating_add(self.stored_len)
    }
}

/// The core header: where the dead kernel's RAM and notes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreHeader {
    place: Range<u64>,
    segments: Vec<Segment>,
    notes: Vec<Range<u64>>,
    ram: Ram,
    clipped: usize,
}

impl CoreHeader {
    /// Reads the header at a place of `medium`. A loader's header is in the capture kernel's own region, and not in the
    /// dead kernel's RAM, so `medium` must reach that region.
    ///
    /// Entries that are empty are ignored. [`clipped`](Self::clipped) counts those that extend past the last physical address.
    pub fn read(medium: &impl Medium, address: u64) -> Result<Self, HeaderError> {
        Self::read_with(medium, address, &mut Backing { file_len: None, absent: u64::MAX })
    }

    /// Reads the header that a core file of `len` bytes begins with.
    ///
    /// Of an entry that describes far more memory than the file can have left out, only what the file has is taken.
    pub fn read_file(file: &impl Medium, len: u64) -> Result<Self, HeaderError> {
        let absent = len.saturating_mul(MOST_TIMES_ABSENT).max(MOST_ABSENT);
        Self::read_with(file, 0, &mut Backing { file_len: Some(len), absent })
    }

    fn read_with(medium: &impl Medium, address: u64, backing: &mut Backing) -> Result<Self, HeaderError> {
        let header: FileHeader = read_struct(medium, address)?;
        header.check(address)?;
        let count = header.count(medium, address)?;
        let end = header.program_header_address(address, count)?;
        let mut read = Self { place: Range::new(address, end), ..Self::default() };
        for index in 0..count {
            read.add(&header.program_header(medium, address, index)?, backing)?;
        }
        read.ram = Ram::from_ranges(read.segments.iter().map(|segment| segment.physical))?;
        Ok(read)
    }

    /// Where the header itself lies in its medium, its program headers included.
    pub fn place(&self) -> Range<u64> {
        self.place
    }

    /// Ranges of RAM, as listed.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Where notes are stored, in the dead kernel's memory or in a core file.
    pub fn notes(&self) -> &[Range<u64>] {
        &self.notes
    }

    /// The dead kernel's RAM: its segments in order, merged.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// How many entries make no sense in whole or in part: what they describe may be missing.
    pub fn clipped(&self) -> usize {
        self.clipped
    }

    fn add(&mut self, entry: &ProgramHeader, backing: &mut Backing) -> Result<(), OutOfMemory> {
        let (is_sound, added) = match entry.kind.get() {
            PT_NULL => (true, Ok(())),
            PT_LOAD if entry.physical_address.get() == NOWHERE => (true, Ok(())),
            PT_LOAD => {
                let (segment, is_sound) = entry.segment(backing);
                (is_sound, push(&mut self.segments, segment))
            }
            PT_NOTE => {
                let place = sized(entry.offset, entry.file_size);
                (place.is_some() || entry.file_size == entry.memory_size, push(&mut self.notes, place))
            }
            _ => (false, Ok(())),
        };
        self.clipped += usize::from(!is_sound);
        added
    }
}

/// What stands behind the entries of a header.
struct Backing {
    /// Bytes of the core file; `None` of a machine's memory.
    file_len: Option<u64>,
    /// Bytes of memory that entries may still describe without having them in the file.
    absent: u64,
}

impl Backing {
    /// How many of `len` bytes from an offset on the file has.
    fn present(&self, offset: u64, len: u64) -> u64 {
        self.file_len.map_or(len, |file| file.saturating_sub(offset).min(len))
    }

    /// Takes so many bytes for granted; returns whether that may be done.
    fn believe(&mut self, absent: u64) -> bool {
        let left = self.absent.checked_sub(absent);
        self.absent = left.unwrap_or(self.absent);
        left.is_some()
    }
}

impl FileHeader {
    /// A core's, whose program headers follow at once.
    pub(crate) fn new(program_headers: u16) -> Self {
        Self {
            identity: IDENTITY,
            kind: TYPE_CORE.into(),
            machine: MACHINE_X86_64.into(),
            version: u32::from(VERSION).into(),
            program_headers: (size_of::<Self>() as u64).into(),
            size: (size_of::<Self>() as u16).into(),
            program_header_size: (size_of::<ProgramHeader>() as u16).into(),
            program_header_count: program_headers.into(),
            ..Self::new_zeroed()
        }
    }

    /// Checks that this is what a loader writes.
    pub(crate) fn check(&self, address: u64) -> Result<(), HeaderError> {
        let known = self.identity == IDENTITY
            && self.kind.get() == TYPE_CORE
            && self.machine.get() == MACHINE_X86_64
            && usize::from(self.program_header_size.get()) == size_of::<ProgramHeader>();
        known.then_some(()).ok_or(HeaderError::NoHeader { address })
    }

    /// How many entries it has.
    pub(crate) fn count(&self, medium: &impl Medium, address: u64) -> Result<u32, HeaderError> {
        let count = match self.program_header_count.get() {
            MANY => self.first_section_info(medium, address)?,
            few => u32::from(few),
        };
        if count <= MAX_PROGRAM_HEADERS { Ok(count) } else { Err(HeaderError::TooLong { count }) }
    }

    /// `sh_info` of section header 0.
    fn first_section_info(&self, medium: &impl Medium, address: u64) -> Result<u32, HeaderError> {
        let section = address.checked_add(self.section_headers.get());
        let info = section.and_then(|section| section.checked_add(SECTION_INFO));
        let value: U32 = read_struct(medium, info.ok_or(HeaderError::NoHeader { address })?)?;
        Ok(value.get())
    }

    fn program_header(
        &self,
        medium: &impl Medium,
        address: u64,
        index: u32,
    ) -> Result<ProgramHeader, HeaderError> {
        Ok(read_struct(medium, self.program_header_address(address, index)?)?)
    }

    pub(crate) fn program_header_address(&self, address: u64, index: u32) -> Result<u64, HeaderError> {
        let offset = u64::from(index) * size_of::<ProgramHeader>() as u64;
        address
            .checked_add(self.program_headers.get())
            .and_then(|first| first.checked_add(offset))
            .ok_or(HeaderError::NoHeader { address })
    }
}

impl ProgramHeader {
    pub(crate) fn of_notes(place: Range<ByteOffset>) -> Self {
        Self {
            kind: PT_NOTE.into(),
            offset: place.start.get().into(),
            file_size: place.len().into(),
            memory_size: place.len().into(),
            ..Self::new_zeroed()
        }
    }

    pub(crate) fn of_memory(segment: &Segment) -> Self {
        Self {
            kind: PT_LOAD.into(),
            flags: READ_WRITE_EXECUTE.into(),
            offset: segment.stored_at.into(),
            virtual_address: segment.virtual_start.get().into(),
            physical_address: segment.physical.start.get().into(),
            file_size: segment.stored_len.into(),
            memory_size: segment.physical.len().into(),
            ..Self::new_zeroed()
        }
    }

    /// The memory that the entry describes, if any, and whether all that it says is sound.
    fn segment(&self, backing: &mut Backing) -> (Option<Segment>, bool) {
        let (len, in_file) = (self.memory_size.get(), self.file_size.get());
        let start = PhysicalAddress::new(self.physical_address.get());
        let room = PHYSICAL_END.count_since(start);
        let present = backing.present(self.offset.get(), in_file.min(len));
        let is_believed = len <= room && backing.believe(len - present);
        let believed = if is_believed { len } else { present };
        let segment = Range::sized(start, believed).filter(|range| !range.is_empty() && believed <= room);
        let segment = segment.map(|physical| Segment {
            physical,
            virtual_start: self.virtual_address.get().into(),
            stored_at: self.offset.get(),
            stored_len: in_file.min(believed),
        });
        (segment, is_believed && in_file <= len)
    }
}

/// The `len` addresses or bytes from `start`, if there are any and all exist.
fn sized<T: Position + From<u64>>(start: U64, len: U64) -> Option<Range<T>> {
    Range::sized(T::from(start.get()), len.get()).filter(|range| !range.is_empty())
}

fn push<T>(list: &mut Vec<T>, item: Option<T>) -> Result<(), OutOfMemory> {
    item.map_or(Ok(()), |item| machine::growth::push(list, item))
}

pub(crate) fn read_struct<T: FromBytes + IntoBytes>(
    medium: &impl Medium,
    place: u64,
) -> Result<T, Unreadable> {
    let mut value = T::new_zeroed();
    medium.read_at(place, value.as_mut_bytes())?;
    Ok(value)
}
