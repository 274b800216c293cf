//! Boots: starts from what the loader left, sets up a console, a heap, page tables and exception handlers, and turns off
//! what the dead kernel left on in the processor.

use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::slice;

use handoff::Options;
use machine::growth::{OutOfMemory, leaked};
use machine::{PhysicalAddress, Range, Table};

use crate::hand_over;
use crate::platform::boot_params::BootParams;
use crate::platform::entry::Image;
use crate::platform::frames::FramePool;
use crate::platform::free_parts::for_each_free_part;
use crate::platform::heap::{self, Pages};
use crate::platform::memory::{self, Pieces};
use crate::platform::paging::{Access, AddressSpace, Features, MapError};
use crate::platform::room::Room;
use crate::platform::{console, copy, exceptions, machine_check, processor};

/// Page tables for our own memory only: enough for [`memory::free_pages`]'s most pieces, unless they lie gibibytes apart.
const FIRST_TABLES: usize = 32;

/// Frames for the first page tables. They come from the image, because the loader's tables, which are still in use while
/// the first ones are built, lie somewhere in the memory that becomes the heap.
static FIRST_FRAMES: FirstFrames = FirstFrames(UnsafeCell::new([[0; _]; FIRST_TABLES]));

#[repr(C, align(4096))]
struct FirstFrames(UnsafeCell<[Table; FIRST_TABLES]>);

// SAFETY: there is one processor, and one use: in `first_tables`.
unsafe impl Sync for FirstFrames {}

/// Why the boot failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BootError {
    /// There is not enough memory for page tables.
    #[error("own page tables: {0}")]
    PageTables(#[from] MapError),
    /// There is not enough memory for the exception handlers.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// The result of a successful boot.
pub(crate) struct Booted {
    /// What the loader handed over.
    pub(crate) params: &'static BootParams,
    /// All of our own memory, image included.
    pub(crate) own: Pieces,
    /// Bytes of it that this kernel works with: all, unless some is left to a fallback kernel.
    pub(crate) working: u64,
    /// Pages of it below 4 GiB that are set aside from the heap, where the reservation is above.
    pub(crate) low: Option<Pages>,
    /// The page tables in use; they map our own memory.
    pub(crate) space: AddressSpace,
}

/// Takes the machine over from the loader; `boot_params` is the address that it passed.
pub(crate) fn boot(boot_params: u64) -> Result<Booted, BootError> {
    let params =
        BootParams::copy(boot_params, |address, into| copy::read_physical(address.into(), into).is_ok());
    if let Some(serial) = Options::parse(params.command_line()).console {
        console::open(serial);
    }
    let image = Image::running();
    let reserved = memory::reserved(params.usable(), image.whole());
    let free = memory::free_pages(reserved, &[image.whole()]);
    let first = first_tables(&image, &free)?;
    // SAFETY: it maps the image and all memory that will be the heap; nothing else is in use.
    unsafe { first.activate() };
    let room = Room::find(&params, &free, image.whole());
    let heap = room.as_ref().map(Room::heap);
    let heap = heap.as_ref().map_or(&free[..], slice::from_ref);
    let low = room.as_ref().map_or_else(|_| memory::low_part(heap, image.whole()), Room::low);
    for &piece in heap {
        for_each_free_part(piece, &[low], &mut |part| {
            // SAFETY: mapped just now; the loader and the dead kernel do not need it any more.
            unsafe { heap::claim(part) };
        });
    }
    let working = heap.iter().map(|piece| piece.len()).sum::<u64>() + image.whole().len();
    let params = leaked(params)?;
    hand_over::prepare(room, params);
    exceptions::install()?;
    machine_check::expect();
    processor::turn_off_leftovers();
    let mut own = free;
    // If there are too many pieces, one is dropped, and its memory is not used.
    own.truncate(own.capacity() - 1);
    own.push(image.whole());
    // SAFETY: whole pages of our own memory, mapped just now, which the heap did not get.
    let low = (!low.is_empty()).then(|| unsafe { Pages::at(low) });
    Ok(Booted { params, own, working, low, space: first })
}

fn first_tables(image: &Image, free: &[Range<PhysicalAddress>]) -> Result<AddressSpace, MapError> {
    let start = NonNull::from(&FIRST_FRAMES).cast();
    // SAFETY: page-aligned memory of the image, used here only, once.
    let frames = FramePool::of(unsafe { Pages::set_aside(start, FIRST_TABLES) });
    own_tables(frames, image, free)
}

/// Page tables that map our own memory.
pub(crate) fn own_tables(
    frames: FramePool,
    image: &Image,
    free: &[Range<PhysicalAddress>],
) -> Result<AddressSpace, MapError> {
    let mut space = AddressSpace::new(frames, Features::of_this_processor())?;
    space.map(image.code, Access::Code)?;
    space.map(image.constants, Access::ReadOnly)?;
    space.map(image.variables, Access::Own)?;
    space.map(image.stack, Access::Own)?;
    free.iter().try_for_each(|&piece| space.map(piece, Access::Own))?;
    Ok(space)
}
