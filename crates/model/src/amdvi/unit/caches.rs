//! The caches of a unit (2.1.1), and how commands affect them.
//!
//! Entries have the tags of the specification: device table entries and interrupts have the source-id; translations of host
//! tables the domain-id alone; those of guest tables the domain-id and PASID. So two devices whose different tables share one
//! domain-id get each other's translations, as on hardware. A change of memory or of a base register invalidates nothing; any
//! entry may be evicted at any time.

use crate::amdvi::walk::Page;
use crate::answer::Answer;
use crate::translations::{CachedPage, Translations};
use amdvi::command::PagesRange;
use amdvi::device_table::DeviceTableEntry;
use fastrand::Rng;
use machine::IoAddress;
use std::collections::BTreeMap;

/// The caches of one unit.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    /// Device table entries, also those that are not valid.
    devices: BTreeMap<u16, DeviceTableEntry>,
    /// What becomes of interrupt messages, by source-id and address.
    interrupts: BTreeMap<(u16, IoAddress), Answer>,
    /// Translations of host and guest tables.
    pub(super) translations: Translations<Tag, Page>,
}

impl CachedPage for Page {
    fn holds(&self, iova: IoAddress) -> bool {
        self.contains(iova)
    }
}

/// The tag of a cached translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Host { domain: u16 },
    Guest { domain: u16, pasid: u32 },
    Nested { domain: u16, pasid: u32 },
}

/// Which translations to invalidate (2.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forget {
    pub(crate) domain: u16,
    pub(crate) whose: Whose,
    pub(crate) span: Span,
    pub(crate) depth: Depth,
}

/// Whose translations (GN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those of host tables. Nested translations may depend on any of them; those of guest tables alone do not.
    Host,
    /// Those of a PASID.
    Guest(u32),
}

/// How much of the way to a page an invalidation covers (PDE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Leaves,
    AllLevels,
}

/// Addresses that equal `iova` above `shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    iova: IoAddress,
    shift: u32,
}

impl Span {
    /// What an invalidation covers: one page of 4 KiB, or as many as the lowest clear bit of the address says; everything if that is
    /// as high as in the largest page (2.2.3).
    pub(crate) fn of(range: PagesRange) -> Self {
        let shift = match range.frame().trailing_ones() {
            _ if !range.size() => 12,
            ones if ones >= 39 => u64::BITS,
            ones => 12 + ones + 1,
        };
        Self { iova: IoAddress::new(range.frame() << 12), shift }
    }

    /// Whether it has an address in common with those that equal `iova` above `shift`.
    pub(crate) fn meets(self, iova: IoAddress, shift: u32) -> bool {
        let shift = shift.max(self.shift);
        iova.get().checked_shr(shift) == self.iova.get().checked_shr(shift)
    }
}

impl Caches {
    pub(crate) fn device(&self, source: u16) -> Option<DeviceTableEntry> {
        self.devices.get(&source).copied()
    }

    pub(crate) fn keep_device(&mut self, source: u16, entry: DeviceTableEntry) {
        self.devices.insert(source, entry);
    }

    pub(crate) fn forget_device(&mut self, source: u16) {
        self.devices.remove(&source);
    }

    pub(crate) fn interrupt(&self, source: u16, iova: IoAddress) -> Option<Answer> {
        self.interrupts.get(&(source, iova)).copied()
    }

    pub(crate) fn keep_interrupt(&mut self, source: u16, iova: IoAddress, answer: Answer) {
        self.interrupts.insert((source, iova), answer);
    }

    pub(crate) fn forget_interrupts(&mut self, source: u16) {
        self.interrupts.retain(|(of, _), _| *of != source);
    }

    pub(crate) fn forget(&mut self, what: Forget) {
        self.translations.forget_pages(|tag, page| what.includes(tag, page.iova, page.shift));
        if what.depth == Depth::AllLevels {
            self.translations.forget_tables(|tag, iova, width| what.includes(tag, iova, width));
        }
    }

    /// Evicts a random entry of each kind, as hardware may at any time.
    pub(crate) fn evict(&mut self, rng: &mut Rng) {
        self.translations.evict(rng);
        if let Some(source) = rng.choice(self.devices.keys().copied()) {
            self.devices.remove(&source);
        }
        if let Some(interrupt) = rng.choice(self.interrupts.keys().copied()) {
            self.interrupts.remove(&interrupt);
        }
    }
}

impl Forget {
    /// Whether this covers a cached entry for the addresses that equal `iova` above `shift`.
    fn includes(self, tag: Tag, iova: IoAddress, shift: u32) -> bool {
        let meets = self.span.meets(iova, shift);
        match (self.whose, tag) {
            (Whose::Host, Tag::Host { domain }) => domain == self.domain && meets,
            (Whose::Host, Tag::Nested { domain, .. }) => domain == self.domain,
            (Whose::Host, Tag::Guest { .. }) | (Whose::Guest(_), Tag::Host { .. }) => false,
            (Whose::Guest(wanted), Tag::Guest { domain, pasid } | Tag::Nested { domain, pasid }) => {
                (domain, pasid) == (self.domain, wanted) && meets
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reached::Rights;
    use machine::PhysicalAddress;

    /// A page, under the tag of a host table.
    fn page(domain: u16, iova: u64, shift: u32) -> (Tag, Page) {
        let (iova, address) = (IoAddress::new(iova), PhysicalAddress::default());
        (Tag::Host { domain }, Page { iova, address, shift, rights: Rights::ALL, noted: true })
    }

    fn forget(range: u64) -> Forget {
        let span = Span::of(PagesRange::from_bits(range));
        Forget { domain: 7, whose: Whose::Host, span, depth: Depth::Leaves }
    }

    fn keeps((tag, page): (Tag, Page), what: Forget) -> bool {
        let mut all = Caches::default();
        all.translations.keep_page(tag, page, &mut Rng::with_seed(0));
        all.forget(what);
        all.translations.page(tag, page.iova).is_some()
    }

    #[test]
    fn an_invalidation_of_one_page_forgets_the_large_page_around_it() {
        assert!(keeps(page(7, 0x20_0000, 21), forget(0x40_0000)));
        assert!(!keeps(page(7, 0x20_0000, 21), forget(0x21_3000)));
    }

    /// Linux: 0x3_7000 | S stands for 64 KiB at 0x3_0000, 0x7fff_ffff_ffff_f000 | S for everything.
    #[test]
    fn an_invalidation_says_in_its_address_how_large_it_is() {
        assert!(!keeps(page(7, 0x3_F000, 12), forget(0x3_7001)));
        assert!(keeps(page(7, 0x4_0000, 12), forget(0x3_7001)));
        assert!(keeps(page(7, 0x2_F000, 12), forget(0x3_7001)));
        assert!(!keeps(page(7, 1 << 62, 12), forget(0x0007_FFFF_FFFF_F001)));
        for iova in [0, 0x1234_5000, 0xFFFF_FFFF_FFFF_F000] {
            assert!(!keeps(page(7, iova, 12), forget(0x7FFF_FFFF_FFFF_F001)));
        }
    }

    #[test]
    fn an_invalidation_of_a_domain_leaves_other_domains() {
        assert!(keeps(page(8, 0x1000, 12), forget(0x7FFF_FFFF_FFFF_F001)));
    }

    #[test]
    fn an_invalidation_of_host_tables_covers_what_is_nested_in_them_and_no_guest_alone() {
        let (_, page) = page(7, 0x5000, 12);
        let nested = (Tag::Nested { domain: 7, pasid: 3 }, page);
        let guest = (Tag::Guest { domain: 7, pasid: 3 }, page);
        assert!(!keeps(nested, forget(0x1000)));
        assert!(keeps(guest, forget(0x5000)));
        let of_pasid = |pasid| Forget { whose: Whose::Guest(pasid), ..forget(0x5000) };
        assert!(keeps(guest, of_pasid(4)) && !keeps(guest, of_pasid(3)) && !keeps(nested, of_pasid(3)));
    }
}
