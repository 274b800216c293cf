//! Which pages a reader of the dump needs before all others.
//!
//! A dump may end before its last page, because the disk is too small or fails. Such a dump is useful if a debugger
//! opens it. A debugger needs the kernel's image, its page tables, what they map (modules, stacks, per-CPU areas),
//! the early allocations (the first per-CPU areas, `mem_section`) and the slab allocator's objects (tasks). These are
//! a small part of a machine's memory, and are spread all over it.
//!
//! The vital frames are therefore
//!
//! - frames that the kernel's page tables map anywhere but in the direct map of all memory and in the array of
//!   `struct page`, and the tables themselves;
//! - frames of the slab allocator, and *reserved* ones, which were allocated before there was any other allocator.
//!   VMCOREINFO does not give `PG_reserved`; it is the one flag that is set of the frame of the top-level page table,
//!   which is a part of the image;
//!
//! but not those of the array of `struct page`, which grows with the machine and is not needed to list tasks.
//!
//! This affects only the order of pages, so a wrong guess costs a complete dump nothing.

use alloc::vec::Vec;

use machine::growth::filled;
use machine::{OldMemory, PAGE_SIZE, Pfn, PhysicalAddress, Position, Range, VirtualAddress};

use crate::array::{GULP, PageArray};
use crate::bitmap;
use crate::walk::{Entry, Target, Walker, Way};
use crate::{AddressSpace, Kernel, Level, OutOfMemory, Ram};

/// Bytes of bitmap that are held at a time: 32 GiB of memory. Page tables lead anywhere, so there is one walk per window.
const WINDOW: usize = 1 << 20;
/// How often page tables may map the memory of a window: a kernel maps most of it once, besides the direct map.
const TIMES_OVER: u64 = 16;

/// Tells vital pages from others; cheap for page frames that ascend.
#[derive(Debug)]
pub struct Vital<'a, M> {
    ram: &'a Ram,
    finder: Option<Finder<'a, M>>,
    /// First page frame that `bits` stands for.
    first: Pfn,
    bits: Vec<u8>,
}

impl<'a, M: OldMemory> Vital<'a, M> {
    /// Finds the vital pages of the first 32 GiB; later ones are found when a caller asks for them. Needs the same memory
    /// for any larger machine.
    pub fn new(memory: &'a M, kernel: &'a Kernel, ram: &'a Ram) -> Result<Self, OutOfMemory> {
        let len = ram.end_pfn().div_ceil(8).min(WINDOW as u64) as usize;
        let bits = filled(0, len)?;
        let mut vital = Self { ram, finder: Finder::new(memory, kernel, ram)?, first: Pfn::default(), bits };
        vital.find_from(Pfn::default());
        Ok(vital)
    }

    /// Whether readers need this page frame before others. None is vital if nothing is known of the kernel.
    pub fn contains(&mut self, pfn: u64) -> bool {
        let pfn = Pfn::new(pfn);
        let first = pfn.align_down(WINDOW as u64 * 8);
        if self.first != first {
            self.find_from(first);
        }
        let bit = pfn.count_since(first) as usize;
        self.bits.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
    }

    fn find_from(&mut self, first: Pfn) {
        self.bits.fill(0);
        if let Some(finder) = &mut self.finder {
            finder.find(&mut Window::new(first, &mut self.bits), self.ram);
        }
        self.first = first;
    }
}

/// The facts needed to find vital pages.
#[derive(Debug)]
struct Finder<'a, M> {
    walker: Walker<'a, M>,
    pages: PageArray<'a, M>,
    /// Where all of memory is mapped.
    direct: Range<VirtualAddress>,
    /// Where the array of `struct page` is.
    array: Range<VirtualAddress>,
    /// `PG_reserved`, or nothing.
    reserved: u64,
}

impl<'a, M: OldMemory> Finder<'a, M> {
    /// `None` if the kernel's description does not suffice.
    fn new(memory: &'a M, kernel: &'a Kernel, ram: &Ram) -> Result<Option<Self>, OutOfMemory> {
        let Some(mut pages) = PageArray::new(memory, kernel)? else { return Ok(None) };
        let Ok(space) = kernel.address_space() else { return Ok(None) };
        let Some(direct) = kernel.direct_map(memory, ram) else { return Ok(None) };
        let array = pages.place(ram).unwrap_or_default();
        let reserved = reserved_flag(&mut pages, space).unwrap_or(0);
        Ok(Some(Self { walker: Walker::new(memory, space)?, pages, direct, array, reserved }))
    }

    fn find(&mut self, window: &mut Window<'_>, ram: &Ram) {
        for frames in ram.within(window.frames()) {
            self.find_by_page(frames, window);
        }
        let Self { walker, direct, array, .. } = self;
        walker.walk(|Entry { address, target }| match target {
            Target::Memory(memory) if array.contains(address) => window.clear(memory),
            Target::Memory(memory) if !direct.contains(address) => window.set(memory),
            Target::Memory(_) => Way::On,
            Target::Table { address: table, level } => {
                window.set(Range::new(table, table.saturating_add(PAGE_SIZE)));
                // These tables lead only to frames in the direct map.
                if level == 1 && direct.contains(address) { Way::On } else { Way::Down }
            }
        });
    }

    /// Looks at the `struct page` of page frames, all of them RAM.
    fn find_by_page(&mut self, frames: Range<Pfn>, window: &mut Window<'_>) {
        let mut start = frames.start;
        while start < frames.end {
            let end = start.align_down(GULP).saturating_add(GULP).min(frames.end);
            start = self.find_in_gulp(Range::new(start, end), window).max(start.saturating_add(1));
        }
    }

    /// The same for the first of one gulp; returns the page frame to go on with.
    fn find_in_gulp(&mut self, gulp: Range<Pfn>, window: &mut Window<'_>) -> Pfn {
        let reserved = self.reserved;
        let Some((layout, frames, pages)) = self.pages.read(gulp) else { return gulp.end };
        let mut pfn = frames.start;
        while pfn < frames.end {
            let at = pfn.count_since(frames.start) as usize * layout.size;
            let Some((page, next)) = pages.get(at..).and_then(|rest| rest.split_at_checked(layout.size))
            else {
                break;
            };
            // A page that some level excludes is not vital, and is often the first of many.
            let left_out = layout.judge(Level::ALL, pfn, page, next).map(|exclusion| 1 << exclusion.order);
            let len = left_out.unwrap_or_else(|| {
                let len = layout.kernels_own(reserved, pfn, page, next);
                window.set_frames(Range::new(pfn, pfn.saturating_add(len)));
                len.max(1)
            });
            pfn = pfn.saturating_add(len);
        }
        pfn
    }
}

fn reserved_flag(pages: &mut PageArray<'_, impl OldMemory>, space: &AddressSpace) -> Option<u64> {
    let pfn = space.root().pfn();
    let (layout, _, page) = pages.read(Range::new(pfn, pfn.saturating_add(1)))?;
    layout.only_flag(page)
}

/// A part of a bitmap of page frames.
struct Window<'b> {
    first: Pfn,
    bits: &'b mut [u8],
    /// The number of frames that page tables may still report. Tables that map the same gibibytes again and again would
    /// take minutes.
    left: u64,
}

impl<'b> Window<'b> {
    fn new(first: Pfn, bits: &'b mut [u8]) -> Self {
        let left = bits.len() as u64 * 8 * TIMES_OVER;
        Self { first, bits, left }
    }

    fn frames(&self) -> Range<Pfn> {
        bitmap::window(self.first, self.bits)
    }

    fn set_frames(&mut self, frames: Range<Pfn>) {
        let inside = frames.intersection(self.frames());
        if !inside.is_empty() {
            bitmap::set(self.bits, self.first, inside);
        }
    }

    /// Marks memory as vital.
    fn set(&mut self, memory: Range<PhysicalAddress>) -> Way {
        let inside = self.mapped(memory);
        self.set_frames(inside);
        Way::On
    }

    /// Marks memory as not vital.
    fn clear(&mut self, memory: Range<PhysicalAddress>) -> Way {
        let inside = self.mapped(memory);
        if !inside.is_empty() {
            bitmap::clear(self.bits, self.first, inside);
        }
        Way::On
    }

    /// The part of mapped memory, in whole pages, that is in the window; nothing if too much was mapped before.
    fn mapped(&mut self, memory: Range<PhysicalAddress>) -> Range<Pfn> {
        let inside = memory.frames().intersection(self.frames());
        match self.left.checked_sub(inside.len()) {
            Some(left) => {
                self.left = left;
                inside
            }
            None => Range::default(),
        }
    }
}
