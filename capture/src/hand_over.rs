//! Hands the machine over to the fallback kernel, which travels with this one ([`Fallback`]): usually the distribution's own kernel
//! for crashes, which reaches disks and networks that there are no drivers for here.
//!
//! It gets what is left of the reservation, and finds the remapping units translating by the tables that the takeover made. Those lie
//! in memory that it is told not to use, and that no device reaches. Linux copies root and context tables, as it does after any
//! crash; everything below stays where it is. Devices for which there was a driver here keep their tables, queues and buffers, which
//! are in that memory too: what is still on its way does no harm until Linux starts the device anew.
//!
//! Nothing is changed before all that can fail has succeeded.

use core::convert::Infallible;
use core::fmt;

use handoff::{BzImage, Fallback, FallbackError, NotBootable, Options};
use machine::growth::{OutOfMemory, leaked};
use machine::{PhysicalAddress, Range};
use vtd::control::TableMode;

use crate::discover::Machine;
use crate::platform::console::say;
use crate::platform::entry::Image;
use crate::platform::linux;
use crate::platform::paging::{Features, MapError};
use crate::platform::room::{NoRoom, Room};
use crate::platform::zero_page::{self, CommandLine, Next, Remapped, TooManyRanges};
use crate::remapping::{Fate, Remapping};
use crate::watchdogs;

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
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    #[error("page tables: {0}")]
    PageTables(#[from] MapError),
}

/// What the fallback kernel reads first. It stays where it is.
#[repr(C, align(4096))]
struct Handed {
    boot_params: [u8; 4096],
    command_line: [u8; Fallback::LONGEST_COMMAND_LINE + 1],
}

/// Hands the machine over. Returns only if that is impossible, and has then changed nothing that this kernel needs.
pub(crate) fn hand_over(
    machine: &mut Machine,
    remapping: &Remapping,
    options: &Options,
) -> Result<Infallible, HandOverError> {
    let room = machine.room.as_mut().map_err(|&mut why| why)?;
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
    let line = command_line(&fallback, options, remapping, image)?;
    let handed = leaked(Handed { boot_params: [0; 4096], command_line: [0; _] })?;
    handed.command_line[..line.len()].copy_from_slice(line.as_bytes());
    let next = Next {
        first,
        image,
        command_line: handed.command_line.as_ptr() as u64,
        initramfs: part(room, initramfs),
        root_pointer: machine.root_pointer.ok().map(|place| place.address),
        kept: &[room.heap(), Image::running().whole()],
    };
    handed.boot_params = zero_page::compose(machine.params, &next)?;
    let program = kernel.start + image.program().start..kernel.start + image.program().end;
    if !room.put(program, place) {
        return Err(HandOverError::NoPlace(image.memory()));
    }
    say!("handing over to the fallback kernel at {place}: {line}");
    watchdogs::progress();
    let boot_params = PhysicalAddress::new(handed.boot_params.as_ptr() as u64);
    let kept = [place, room.heap()].into_iter();
    let memory = kept.chain(machine.params.usable()).chain(machine.params.acpi());
    Ok(linux::enter(image.entry(place.start.get()).into(), boot_params, memory)?)
}

/// Where a part of the fallback kernel is.
fn part(room: &Room, part: core::ops::Range<u64>) -> Range<PhysicalAddress> {
    let [start, end] = [part.start, part.end].map(|at| room.start().saturating_add(at));
    Range::new(start, end)
}

fn command_line(
    fallback: &Fallback<'_>,
    options: &Options,
    remapping: &Remapping,
    image: BzImage,
) -> Result<CommandLine, fmt::Error> {
    let (own, remapped) = (fallback.command_line, remapped(remapping));
    zero_page::command_line(own, options.elfcorehdr, remapped, image.command_line())
}

/// The mode of the units that were taken over: Linux uses all of them in one.
fn remapped(remapping: &Remapping) -> Remapped {
    let mut roots = remapping.units.iter().filter_map(|unit| match &unit.fate {
        Fate::TakenOver(unit) => Some(unit.report().root),
        _ => None,
    });
    match roots.next().map(|root| root.mode()) {
        None => Remapped::No,
        Some(TableMode::SCALABLE) => Remapped::Scalable,
        Some(_) => Remapped::Legacy,
    }
}
