//! What a dump needs to know of the kernel that died, drawn from its VMCOREINFO.

use alloc::vec::Vec;

use machine::growth::push;
use machine::{OldMemory, PAGE_SIZE, Position, Range, VirtualAddress};

use crate::log::LogLayout;
use crate::page::PageLayout;
use crate::sections::Sections;
use crate::{AddressSpace, OutOfMemory, Ram, Segment, Unknown, VmcoreInfo};

/// Bytes in a field of `struct new_utsname` (`__NEW_UTS_LEN` + 1).
const UTS_FIELD: usize = 65;

/// `struct new_utsname`: six zero-terminated strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utsname {
    fields: [[u8; UTS_FIELD]; 6],
}

impl Utsname {
    /// System, node, release, version, machine and domain names, as the kernel stores them.
    pub fn fields(&self) -> &[[u8; UTS_FIELD]; 6] {
        &self.fields
    }

    /// The fields, one after the other, as a dump's header holds them.
    pub fn as_bytes(&self) -> &[u8] {
        self.fields.as_flattened()
    }

    /// The release as text, if it is text.
    pub fn release(&self) -> Option<&str> {
        core::ffi::CStr::from_bytes_until_nul(&self.fields[2]).ok()?.to_str().ok()
    }
}

/// The kernel that died: where its memory is mapped and how it describes its pages.
///
/// If VMCOREINFO lacks a fact, this is no error: the work that depends on the fact is omitted, and
/// [`unknown`](Self::unknown) names the fact.
#[derive(Clone, Debug)]
pub struct Kernel {
    space: Result<AddressSpace, Unknown>,
    uts: Option<VirtualAddress>,
    kaslr_offset: Option<u64>,
    pub(crate) sections: Result<Sections, Unknown>,
    pub(crate) page: Result<PageLayout, Unknown>,
    pub(crate) log: Result<LogLayout, Unknown>,
}

impl Kernel {
    /// Derives the facts from VMCOREINFO; accepts any text.
    pub fn new(info: VmcoreInfo<'_>) -> Self {
        Self {
            space: AddressSpace::new(info),
            uts: uts_address(info),
            kaslr_offset: info.kernel_offset(),
            sections: Sections::new(info),
            page: PageLayout::new(info),
            log: LogLayout::new(info),
        }
    }

    /// How virtual addresses translate, if that is known.
    pub fn address_space(&self) -> Result<&AddressSpace, Unknown> {
        self.space.as_ref().map_err(|&unknown| unknown)
    }

    /// `phys_base` of a dump's header; 0 if unknown. Wraps.
    pub fn phys_base(&self) -> u64 {
        self.space.as_ref().map_or(0, AddressSpace::phys_base)
    }

    /// How far address space randomization moved the kernel image.
    pub fn kaslr_offset(&self) -> Option<u64> {
        self.kaslr_offset
    }

    /// Reads the kernel's names, if they can be found.
    pub fn utsname(&self, memory: &impl OldMemory) -> Option<Utsname> {
        let mut fields = [[0; UTS_FIELD]; 6];
        self.address_space().ok()?.read(memory, self.uts?, fields.as_flattened_mut()).ok()?;
        Some(Utsname { fields })
    }

    /// The direct map: the virtual addresses where the kernel maps all of its memory. It starts at the virtual address of
    /// the table of sections minus that table's physical address, which is a multiple of 1 GiB even if address space
    /// randomization moves it (`arch/x86/mm/kaslr.c`).
    pub(crate) fn direct_map(&self, memory: &impl OldMemory, ram: &Ram) -> Option<Range<VirtualAddress>> {
        const ALIGNMENT: u64 = 1 << 30;
        let (space, sections) = (self.address_space().ok()?, self.sections.as_ref().ok()?);
        let found = space.translate(memory, sections.roots()).ok()?;
        let start = VirtualAddress::new(sections.roots().get().checked_sub(found.physical.get())?);
        let len = ram.end_pfn().checked_mul(PAGE_SIZE)?;
        Range::sized(start, len).filter(|_| start.is_aligned(ALIGNMENT))
    }

    /// Lists RAM as a core header would, for a dump without one: with the virtual addresses of the direct map, or those
    /// from 0 on if that is not found.
    pub fn segments(&self, memory: &impl OldMemory, ram: &Ram) -> Result<Vec<Segment>, OutOfMemory> {
        let direct = self.direct_map(memory, ram).unwrap_or_default();
        let mut segments = Vec::new();
        for physical in ram.ranges() {
            let virtual_start = direct.start.get().wrapping_add(physical.start.get()).into();
            let (stored_at, stored_len) = (physical.start.get(), physical.len());
            push(&mut segments, Segment { physical, virtual_start, stored_at, stored_len })?;
        }
        Ok(segments)
    }

    /// The missing facts. For each of them the dump keeps pages that the level excludes.
    pub fn unknown(&self) -> impl Iterator<Item = Unknown> {
        let page = self.page.as_ref();
        let whole = [self.space.as_ref().err(), self.sections.as_ref().err(), page.err()];
        let partial = page.map(PageLayout::unknown).into_iter().flatten();
        whole.into_iter().flatten().copied().chain(partial)
    }
}

/// Where the initial namespace keeps its names.
fn uts_address(info: VmcoreInfo<'_>) -> Option<VirtualAddress> {
    info.symbol("init_uts_ns")?.checked_add(info.offset("uts_namespace.name")? as u64)
}
