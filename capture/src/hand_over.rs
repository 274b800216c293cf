//! Hands the machine over to the fallback kernel, which travels with this one ([`Fallback`]): usually the distribution's own kernel
//! for crashes, which reaches disks and networks that there are no drivers for here.
//!
//! It gets what is left of the reservation, and finds the remapping units translating by the tables that the takeover made. Those lie
//! in memory that it is told not to use, and that no device reaches. Linux copies root and context tables, as it does after any
//! crash, or AMD's device table; everything below stays where it is. (Linux 7.2 goes on with AMD's device table itself, and with command
//! buffer and event log: it writes into that memory.) Devices for which there was a driver here keep their tables, queues and buffers,
//! which are in that memory too: what is still on its way does no harm until Linux starts the device anew.
//!
//! Nothing is changed before all that can fail has succeeded. A hand-over comes before any takeover too, or in the middle of one: if
//! this kernel fails there, the other one finds each unit with the dead kernel's tables or with whole new ones, and so what it finds
//! after any crash. That is no worse than if it alone had been loaded.
//!
//! The record of the takeover goes along as one more of the dead kernel's notes, so that the other kernel's `/proc/vmcore` has it, and
//! each dump that is made of that.
//!
//! All memory that a hand-over takes is set aside at the boot. A panic of this kernel finds it without an allocator. It keeps its whole heap
//! then; otherwise what nobody uses of it is the other kernel's: where the units' tables are, and a driver's buffers, they stay.

use core::convert::Infallible;
use core::fmt;

use handoff::{BzImage, Fallback, FallbackError, NotBootable, Options};
use machine::growth::leaked;
use machine::{PAGE_SIZE, PhysicalAddress, Range};
use record::Architecture;
use record::Record;
use vmcore::{HeaderError, Note};
use vtd::control::{RootTableAddress, TableMode};

use crate::platform::boot_params::BootParams;
use crate::platform::console::say;
use crate::platform::entry::Image;
use crate::platform::exceptions;
use crate::platform::frames::FramePool;
use crate::platform::heap::Unused;
use crate::platform::linux;
use crate::platform::memory::{Mapped, Pieces};
use crate::platform::paging::{Features, MapError};
use crate::platform::room::{NoRoom, Room};
use crate::platform::shared::Shared;
use crate::platform::zero_page::{self, CommandLine, Next, Remapped, TooManyRanges};
use crate::recording;
use crate::remapping::{Fate, Remapping};
use crate::watchdogs;

/// The hand-over that is possible, or why none is; none before the boot has set its memory aside.
static PREPARED: Shared<Result<HandOver, NoRoom>> = Shared::none();

/// Why the machine was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandOverError {
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error(transparent)]
    Damaged(#[from] FallbackError),
    #[error("it cannot be entered: {0}")]
    NotBootable(#[from] NotBootable),
    #[error("paging has five levels, and the fallback kernel takes four")]
    FiveLevels,
    #[error("the reservation has no room for {0:#x} bytes that it needs")]
    NoPlace(u64),
    #[error("its command line is too long")]
    CommandLine(#[from] fmt::Error),
    #[error(transparent)]
    MemoryMap(#[from] TooManyRanges),
    #[error("page tables: {0}")]
    PageTables(#[from] MapError),
    #[error("no kernel has crashed")]
    NoCrash,
    #[error("it was not prepared, or has failed before")]
    NotPrepared,
}

/// The fallback kernel, and all that it takes to start it.
struct HandOver {
    room: Room,
    params: &'static BootParams,
    handed: &'static mut Handed,
    /// For the page tables with which it starts; none once they are used up.
    frames: Option<FramePool>,
    /// The core header: the loader's, or a copy.
    elfcorehdr: Option<u64>,
    /// ACPI's root pointer.
    root_pointer: Option<u64>,
    remapped: Remapped,
}

/// What the fallback kernel reads first. It stays where it is.
#[repr(C, align(4096))]
struct Handed {
    boot_params: [u8; 4096],
    command_line: [u8; Fallback::LONGEST_COMMAND_LINE + 1],
}

/// Sets aside what a hand-over takes, while there is memory for it.
pub(crate) fn prepare(room: Result<Room, NoRoom>, params: &'static BootParams) {
    PREPARED.set(room.and_then(|room| HandOver::prepare(room, params)));
    exceptions::before_giving_up(after_own_failure);
}

/// Takes note of where ACPI's root pointer is.
pub(crate) fn know_root_pointer(address: u64) {
    amend(|prepared| prepared.root_pointer = Some(address));
}

/// Takes note of the units that were taken over: the other kernel must be told to keep their translations, and gets the record.
pub(crate) fn know_units(remapping: &Remapping) {
    amend(|prepared| prepared.remapped = remapped(remapping));
    leave_record(remapping);
}

/// Leaves the record of the takeover where the other kernel finds it: among the dead kernel's notes.
///
/// Should this kernel fail here, what is prepared is not in use, and starts the other kernel without the record.
fn leave_record(remapping: &Remapping) {
    let Some(loaders) = amend(|prepared| prepared.elfcorehdr).flatten() else { return };
    match header_with(recording::record(remapping), loaders) {
        Ok(header) => {
            amend(|prepared| prepared.elfcorehdr = Some(header.as_ptr() as u64));
        }
        Err(error) => say!("a fallback kernel's dump would go without the record of the takeover: {error}"),
    }
}

/// A copy of the loader's core header that leads to a record too.
fn header_with(record: Record, loaders: u64) -> Result<&'static [u8], HeaderError> {
    let content = record.encode()?;
    let note = Note { name: record::NOTE_NAME, kind: record::NOTE_TYPE, content: &content };
    let header = vmcore::with_note(&Mapped, loaders, &note, |bytes| bytes.as_ptr() as u64)?;
    Ok(header.leak())
}

/// Looks at what is prepared, or changes it, if anything is.
fn amend<T>(change: impl FnOnce(&mut HandOver) -> T) -> Option<T> {
    PREPARED.with(|prepared| prepared.as_mut().map(change).ok()).flatten()
}

/// Hands the machine over. Returns only if that is impossible, and has then changed nothing that this kernel needs. `never_used` is memory of
/// this kernel's besides what its heap can tell.
pub(crate) fn hand_over(never_used: [Range<PhysicalAddress>; 2]) -> Result<Infallible, HandOverError> {
    let heap = amend(|prepared| prepared.room.heap().len() / PAGE_SIZE);
    let block = heap.and_then(|frames| Unused::largest(frames as usize));
    let mut unused = Pieces::new();
    for range in block.iter().map(Unused::range).chain(never_used) {
        unused.push(range);
    }
    start(&unused)
}

fn start(unused: &[Range<PhysicalAddress>]) -> Result<Infallible, HandOverError> {
    let handed_over = PREPARED.with(|prepared| prepared.as_mut().map_err(|&mut why| why)?.start(unused));
    handed_over.unwrap_or(Err(HandOverError::NotPrepared))
}

/// Hands the machine over after a failure of this kernel's own, if there is anyone to hand it over to.
fn after_own_failure() {
    // The heap may be in any state.
    match start(&[]) {
        Err(HandOverError::NoRoom(NoRoom::NotLoaded)) => {}
        Err(error) => say!("no hand-over to a fallback kernel: {error}"),
        Ok(never) => match never {},
    }
}

impl HandOver {
    fn prepare(room: Room, params: &'static BootParams) -> Result<Self, NoRoom> {
        let handed = leaked(Handed { boot_params: [0; 4096], command_line: [0; _] });
        Ok(Self {
            room,
            params,
            handed: handed.map_err(|_| NoRoom::TooSmall)?,
            frames: Some(FramePool::new(linux::TABLES).ok_or(NoRoom::TooSmall)?),
            elfcorehdr: Options::parse(params.command_line()).elfcorehdr,
            root_pointer: None,
            remapped: Remapped::No,
        })
    }

    fn start(&mut self, unused: &[Range<PhysicalAddress>]) -> Result<Infallible, HandOverError> {
        let elfcorehdr = self.elfcorehdr.ok_or(HandOverError::NoCrash)?;
        let Self { room, params, handed, remapped, .. } = self;
        let (header, length) = room.header()?;
        let fallback = Fallback::parse(header, length)?;
        let (kernel, initramfs) = (fallback.kernel(), fallback.initramfs());
        let first = room.bytes(kernel.clone()).and_then(|bytes| bytes.first_chunk::<{ BzImage::HEADER }>());
        let first = first.ok_or(NotBootable::NotABzImage)?;
        let image = BzImage::parse(first, fallback.kernel)?;
        if Features::of_this_processor().levels > 4 && !image.takes_five_levels() {
            return Err(HandOverError::FiveLevels);
        }
        let place =
            room.place(image.memory(), image.alignment()).ok_or(HandOverError::NoPlace(image.memory()))?;
        let line = command_line(&fallback, elfcorehdr, *remapped, image)?;
        handed.command_line.fill(0);
        handed.command_line[..line.len()].copy_from_slice(line.as_bytes());
        let mut kept = room.kept(unused);
        kept.push(Image::running().whole());
        let next = Next {
            first,
            image,
            command_line: handed.command_line.as_ptr() as u64,
            initramfs: part(room, initramfs),
            root_pointer: self.root_pointer,
            kept: &kept,
        };
        zero_page::compose(params, &next, &mut handed.boot_params)?;
        let program = kernel.start + image.program().start..kernel.start + image.program().end;
        if !room.put(program, place) {
            return Err(HandOverError::NoPlace(image.memory()));
        }
        let kept = kept.iter().map(|kept| kept.len() >> 10).sum::<u64>();
        say!("handing over to the fallback kernel at {place}, {kept} KiB are kept from it: {line}");
        watchdogs::progress();
        let boot_params = PhysicalAddress::new(handed.boot_params.as_ptr() as u64);
        let kept = [place, room.heap()].into_iter();
        let memory = kept.chain(params.usable()).chain(params.acpi());
        let frames = self.frames.take().ok_or(MapError::NoFrame)?;
        Ok(linux::enter(frames, image.entry(place.start.get()).into(), boot_params, memory)?)
    }
}

/// Where a part of the fallback kernel is.
fn part(room: &Room, part: core::ops::Range<u64>) -> Range<PhysicalAddress> {
    let [start, end] = [part.start, part.end].map(|at| room.start().saturating_add(at));
    Range::new(start, end)
}

fn command_line(
    fallback: &Fallback<'_>,
    elfcorehdr: u64,
    remapped: Remapped,
    image: BzImage,
) -> Result<CommandLine, fmt::Error> {
    zero_page::command_line(fallback.command_line, elfcorehdr, remapped, image.command_line())
}

/// The units that were taken over, and their mode: Linux uses all of them in one.
fn remapped(remapping: &Remapping) -> Remapped {
    let mut taken = remapping.units.iter().filter_map(|unit| match &unit.fate {
        Fate::TakenOver(taken) => Some((unit.architecture, taken.report().root)),
        _ => None,
    });
    match taken.next() {
        None => Remapped::No,
        Some((Architecture::AmdVi, _)) => Remapped::AmdVi,
        Some((Architecture::Vtd, root)) => match RootTableAddress::from_bits(root).mode() {
            TableMode::SCALABLE => Remapped::Scalable,
            _ => Remapped::Legacy,
        },
    }
}
