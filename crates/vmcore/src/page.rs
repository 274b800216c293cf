//! `struct page`: its layout in the kernel that died, and what it says of a page.
//!
//! Kernels differ in where they keep the type of a page: in flags, in `_mapcount` (one bit cleared for each type up
//! to 6.11, the top byte since), or in the second `struct page` of a compound page. VMCOREINFO's lines tell which
//! form a kernel uses (`kernel/vmcore_info.c`, `include/linux/page-flags.h`).

use machine::Pfn;

use crate::{Level, Unknown, VmcoreInfo};

/// Largest plausible order: 1 GiB, the largest page of x86-64. Every run of pages is aligned to its size.
pub(crate) const MAX_ORDER: u32 = 18;
/// Most bytes that a `struct page` may take.
const MAX_SIZE: usize = 1024;
/// Bit 0 of `compound_head`: this page is a tail.
const TAIL: u64 = 1;
/// Bits of `flags` that are flags on every x86-64 kernel: zone, node and section are far above (`page-flags-layout.h`).
const FLAGS: u64 = (1 << 24) - 1;
/// Bit 0 of `mapping`: the page is anonymous (`PAGE_MAPPING_ANON`).
const ANONYMOUS: u64 = 1;

/// Why a page is excluded from a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Free,
    Cache,
    PrivateCache,
    User,
    Poisoned,
    Offline,
}

/// A run of `1 << order` pages is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exclusion {
    pub(crate) reason: Reason,
    pub(crate) order: u32,
}

/// Where the fields of `struct page` are and what their values mean.
#[derive(Clone, Debug)]
pub(crate) struct PageLayout {
    /// Bytes in a `struct page`.
    pub(crate) size: usize,
    flags: Offset,
    mapping: Offset,
    mapcount: Offset,
    private: Offset,
    compound_head: Offset,
    /// Flags of the head of a compound page.
    head: u64,
    slab: Mark,
    cache: Result<CacheFlags, Unknown>,
    free: Result<FreeMarks, Unknown>,
    compound: Result<Compound, Unknown>,
    offline: Option<u32>,
    poisoned: Option<u64>,
}

/// Where in a structure a field is; small, so that one comparison tells whether a copy of the structure has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offset(u16);

impl Offset {
    /// `None` if the copy is cut short before the end of the field.
    pub(crate) fn read<const N: usize>(self, bytes: &[u8]) -> Option<[u8; N]> {
        let start = usize::from(self.0);
        bytes.get(start..start + N)?.first_chunk().copied()
    }
}

/// A type of page, told by a flag or by a value of `_mapcount`.
#[derive(Clone, Copy, Debug)]
enum Mark {
    Flag(u64),
    Mapcount(u32),
}

/// Flags of the page cache.
#[derive(Clone, Copy, Debug)]
struct CacheFlags {
    lru: u64,
    private: u64,
    /// Both flags of a page in the swap cache: `PG_swapcache` means that only beside `PG_swapbacked`.
    swap: u64,
}

/// The marks in `_mapcount` of a free block's first page.
#[derive(Clone, Copy, Debug)]
struct FreeMarks {
    /// A block of the buddy allocator's; `private` is its order.
    buddy: u32,
    /// Memory that a confidential guest has not accepted yet: always a block of the largest order.
    unaccepted: Option<u32>,
    /// One more than the largest order.
    orders: u32,
}

/// Where the first tail of a compound page keeps the order, and how hugetlbfs marks its pages.
#[derive(Clone, Copy, Debug)]
enum Compound {
    /// Two bytes in the first tail (up to 6.5).
    Bytes { order: Offset, destructor: Offset, hugetlb: Option<u8> },
    /// The first tail's flags: the order in the low byte, and a flag (6.6 to 6.8).
    TailFlags { hugetlb: u64 },
    /// The order as before, the mark in the head's `_mapcount` (since 6.9).
    HeadMapcount { hugetlb: u32 },
}

/// The fields of a `struct page` that most rules look at. It is no tail.
struct Page {
    flags: u64,
    mapping: u64,
    mapcount: u32,
}

impl PageLayout {
    pub(crate) fn new(info: VmcoreInfo<'_>) -> Result<Self, Unknown> {
        let size = info.size("page").filter(|&size| size <= MAX_SIZE).ok_or(Unknown("SIZE(page)"))?;
        let field = |name, line| inside(info.offset(name), size, 8).ok_or(Unknown(line));
        let head = info.offset("page.compound_head").or_else(|| info.offset("page.compound_info"));
        Ok(Self {
            size,
            flags: field("page.flags", "OFFSET(page.flags)")?,
            mapping: field("page.mapping", "OFFSET(page.mapping)")?,
            private: field("page.private", "OFFSET(page.private)")?,
            mapcount: inside(info.offset("page._mapcount"), size, 4)
                .ok_or(Unknown("OFFSET(page._mapcount)"))?,
            compound_head: inside(head, size, 8).ok_or(Unknown("OFFSET(page.compound_head)"))?,
            head: info.number("PG_head_mask").ok_or(Unknown("NUMBER(PG_head_mask)"))?.cast_unsigned(),
            slab: slab_mark(info).ok_or(Unknown("NUMBER(PG_slab)"))?,
            cache: CacheFlags::new(info),
            free: FreeMarks::new(info),
            compound: Compound::new(info, size),
            offline: mapcount_value(info, "PAGE_OFFLINE_MAPCOUNT_VALUE"),
            poisoned: flag(info, "PG_hwpoison"),
        })
    }

    /// The missing facts without which some pages cannot be excluded.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = Unknown> {
        [self.cache.err(), self.free.err(), self.compound.err()].into_iter().flatten()
    }

    /// Whether a level excludes any page because of its `struct page`. As with makedumpfile, poisoned and offline pages are
    /// excluded at every level if the kernel records memory errors.
    pub(crate) fn concerns(&self, level: Level) -> bool {
        level.looks_at_types() || self.poisoned.is_some()
    }

    /// Classifies page frame `pfn` by its `struct page` and the one after it; either may be truncated.
    pub(crate) fn judge(&self, level: Level, pfn: Pfn, bytes: &[u8], next: &[u8]) -> Option<Exclusion> {
        let page = self.decode(bytes)?;
        if level.leaves_out_free()
            && let Ok(free) = &self.free
            && free.marks(&page)
            && !self.is_slab(&page)
        {
            let order = free.order(&page, word(bytes, self.private)).filter(|&order| is_aligned(pfn, order));
            return order.map(|order| Exclusion { reason: Reason::Free, order });
        }
        let order = if page.flags & self.head == 0 { 0 } else { self.compound_order(pfn, next) };
        self.reason(level, &page, next).map(|reason| Exclusion { reason, order })
    }

    /// The one flag that is set in this `struct page`, if there is just one among those that every page has.
    pub(crate) fn only_flag(&self, page: &[u8]) -> Option<u64> {
        Some(word(page, self.flags) & FLAGS).filter(|flag| flag.is_power_of_two())
    }

    /// Number of pages from `pfn` on that belong to the slab allocator or have one of `flags` set; 0 if this one does not.
    pub(crate) fn kernels_own(&self, flags: u64, pfn: Pfn, page: &[u8], next: &[u8]) -> u64 {
        let Some(page) = self.decode(page) else { return 0 };
        match () {
            () if self.is_slab(&page) && page.flags & self.head != 0 => 1 << self.compound_order(pfn, next),
            () => u64::from(self.is_slab(&page) || page.flags & flags != 0),
        }
    }

    /// `None` if it is a tail.
    fn decode(&self, page: &[u8]) -> Option<Page> {
        let head = word(page, self.compound_head) & TAIL == 0;
        head.then(|| Page {
            flags: word(page, self.flags),
            mapping: word(page, self.mapping),
            mapcount: half_word(page, self.mapcount),
        })
    }

    /// The rules for pages that are in use, in their order.
    fn reason(&self, level: Level, page: &Page, next: &[u8]) -> Option<Reason> {
        let anonymous = page.mapping & ANONYMOUS != 0 && !self.is_slab(page);
        if let Some(reason) = self.cache_kind(page)
            && !anonymous
            && level.leaves_out_cache(reason)
        {
            return Some(reason);
        }
        if level.leaves_out_user() && (anonymous || self.is_hugetlb(page, next)) {
            return Some(Reason::User);
        }
        if self.poisoned.is_some_and(|flag| page.flags & flag != 0) {
            return Some(Reason::Poisoned);
        }
        (Some(page.mapcount) == self.offline && !self.is_slab(page)).then_some(Reason::Offline)
    }

    fn cache_kind(&self, page: &Page) -> Option<Reason> {
        let flags = self.cache.as_ref().ok()?;
        let cached = page.flags & flags.lru != 0 || page.flags & flags.swap == flags.swap;
        let kind = if page.flags & flags.private == 0 { Reason::Cache } else { Reason::PrivateCache };
        cached.then_some(kind)
    }

    fn is_slab(&self, page: &Page) -> bool {
        match self.slab {
            Mark::Flag(flag) => page.flags & flag != 0,
            Mark::Mapcount(value) => page.mapcount == value,
        }
    }

    fn is_hugetlb(&self, page: &Page, next: &[u8]) -> bool {
        if page.flags & self.head == 0 {
            return false;
        }
        match self.compound {
            Ok(Compound::Bytes { destructor, hugetlb, .. }) => {
                hugetlb.is_some() && destructor.read(next).map(u8::from_le_bytes) == hugetlb
            }
            Ok(Compound::TailFlags { hugetlb }) => word(next, self.flags) & hugetlb != 0,
            Ok(Compound::HeadMapcount { hugetlb }) => page.mapcount == hugetlb,
            Err(_) => false,
        }
    }

    /// The order of a compound page by its first tail; 0 if it makes no sense.
    fn compound_order(&self, pfn: Pfn, next: &[u8]) -> u32 {
        let order = match self.compound {
            Ok(Compound::Bytes { order, .. }) => order.read(next).map_or(0, |[order]| u32::from(order)),
            Ok(Compound::TailFlags { .. } | Compound::HeadMapcount { .. }) => {
                (word(next, self.flags) & 0xff) as u32
            }
            Err(_) => 0,
        };
        if order <= MAX_ORDER && is_aligned(pfn, order) { order } else { 0 }
    }
}

impl CacheFlags {
    fn new(info: VmcoreInfo<'_>) -> Result<Self, Unknown> {
        let swap_cache = flag(info, "PG_swapcache").ok_or(Unknown("NUMBER(PG_swapcache)"))?;
        let swap_backed = flag(info, "PG_swapbacked").ok_or(Unknown("NUMBER(PG_swapbacked)"))?;
        Ok(Self {
            lru: flag(info, "PG_lru").ok_or(Unknown("NUMBER(PG_lru)"))?,
            private: flag(info, "PG_private").ok_or(Unknown("NUMBER(PG_private)"))?,
            swap: swap_cache | swap_backed,
        })
    }
}

impl FreeMarks {
    fn new(info: VmcoreInfo<'_>) -> Result<Self, Unknown> {
        let buddy = mapcount_value(info, "PAGE_BUDDY_MAPCOUNT_VALUE");
        let orders = info.length("zone.free_area").and_then(|orders| u32::try_from(orders).ok());
        let sane = orders.filter(|orders| (1..=MAX_ORDER + 1).contains(orders));
        Ok(Self {
            buddy: buddy.ok_or(Unknown("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)"))?,
            unaccepted: mapcount_value(info, "PAGE_UNACCEPTED_MAPCOUNT_VALUE"),
            orders: sane.ok_or(Unknown("LENGTH(zone.free_area)"))?,
        })
    }

    fn marks(&self, page: &Page) -> bool {
        page.mapcount == self.buddy || Some(page.mapcount) == self.unaccepted
    }

    /// The order of the block that a marked page starts, if it makes sense.
    fn order(&self, page: &Page, private: u64) -> Option<u32> {
        if page.mapcount == self.buddy {
            return u32::try_from(private).ok().filter(|&order| order < self.orders);
        }
        Some(self.orders - 1)
    }
}

impl Compound {
    /// The newest form that VMCOREINFO gives.
    fn new(info: VmcoreInfo<'_>, page_size: usize) -> Result<Self, Unknown> {
        if let Some(hugetlb) = mapcount_value(info, "PAGE_HUGETLB_MAPCOUNT_VALUE") {
            return Ok(Self::HeadMapcount { hugetlb });
        }
        if let Some(hugetlb) = flag(info, "PG_hugetlb") {
            return Ok(Self::TailFlags { hugetlb });
        }
        let in_tail = |folio, page| {
            let in_folio = info.offset(folio).and_then(|offset| offset.checked_sub(page_size));
            inside(in_folio.or_else(|| info.offset(page)), page_size, 1)
        };
        Ok(Self::Bytes {
            order: in_tail("folio._folio_order", "page.compound_order")
                .ok_or(Unknown("OFFSET(page.compound_order)"))?,
            destructor: in_tail("folio._folio_dtor", "page.compound_dtor")
                .ok_or(Unknown("OFFSET(page.compound_dtor)"))?,
            hugetlb: info.number("HUGETLB_PAGE_DTOR").and_then(|id| u8::try_from(id).ok()),
        })
    }
}

/// Slab pages have had a type of their own since 6.10, and a flag before.
fn slab_mark(info: VmcoreInfo<'_>) -> Option<Mark> {
    let typed = mapcount_value(info, "PAGE_SLAB_MAPCOUNT_VALUE").map(Mark::Mapcount);
    typed.or_else(|| flag(info, "PG_slab").map(Mark::Flag))
}

/// The mask of a page flag, of which VMCOREINFO gives the bit's number.
fn flag(info: VmcoreInfo<'_>, name: &str) -> Option<u64> {
    1u64.checked_shl(u32::try_from(info.number(name)?).ok()?)
}

/// A value of `_mapcount`, which VMCOREINFO gives as a signed number.
fn mapcount_value(info: VmcoreInfo<'_>, name: &str) -> Option<u32> {
    info.number(name).map(|value| value.cast_unsigned() as u32)
}

fn is_aligned(pfn: Pfn, order: u32) -> bool {
    pfn.get().trailing_zeros() >= order
}

/// An offset at which `len` bytes lie inside a structure of `size` bytes.
pub(crate) fn inside(offset: Option<usize>, size: usize, len: usize) -> Option<Offset> {
    let offset = offset.filter(|&offset| offset.checked_add(len).is_some_and(|end| end <= size))?;
    u16::try_from(offset).ok().map(Offset)
}

fn word(bytes: &[u8], offset: Offset) -> u64 {
    offset.read(bytes).map_or(0, u64::from_le_bytes)
}

fn half_word(bytes: &[u8], offset: Offset) -> u32 {
    offset.read(bytes).map_or(0, u32::from_le_bytes)
}
