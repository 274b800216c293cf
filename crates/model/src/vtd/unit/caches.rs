//! The caches of a unit (6.2), and how invalidations affect them.
//!
//! Entries have the tags of the specification: contexts have the source-id; PASID entries the source-id and PASID;
//! translations and paging structures of the second stage the domain-id alone; those of the first stage and nested
//! ones the domain-id and PASID. So two devices whose different tables share one domain-id get each other's
//! translations, as on hardware. A change of memory invalidates nothing; any entry may be evicted at any time.

use crate::answer::Requester;
use crate::translations::{CachedPage, Translations};
use crate::vtd::walk::{Context, Device, Page, Privilege};
use fastrand::Rng;
use machine::{IoAddress, Level};
use std::collections::BTreeMap;
use vtd::fault::FaultReason;

/// The caches of one unit.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    /// Context cache. In caching mode it also holds entries that are not present, under domain-id 0 (6.1).
    devices: BTreeMap<u16, Result<Device, FaultReason>>,
    /// PASID cache. It also holds the PASID entries for requests without PASID.
    pasids: BTreeMap<Requester, Context>,
    /// IOTLB and paging-structure cache. In caching mode a page may say that there is no translation.
    pub(super) translations: Translations<Tag, Page>,
}

impl CachedPage for Page {
    fn holds(&self, iova: IoAddress) -> bool {
        self.contains(iova)
    }
}

/// The tag of a cached translation (6.2.1). Those of the first stage cover all privileges in one entry; here each
/// privilege has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Second { domain: u16 },
    First { domain: u16, pasid: u32, privilege: Privilege },
    Nested { domain: u16, pasid: u32, privilege: Privilege },
}

impl Tag {
    fn domain(self) -> u16 {
        let (Self::Second { domain } | Self::First { domain, .. } | Self::Nested { domain, .. }) = self;
        domain
    }

    fn pasid(self) -> Option<u32> {
        match self {
            Self::Second { .. } => None,
            Self::First { pasid, .. } | Self::Nested { pasid, .. } => Some(pasid),
        }
    }
}

/// Which translations to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forget {
    Everything,
    Domain(u16),
    /// `2^order` pages from `iova`; with `leaves_only`, tables on the way stay cached.
    Pages {
        domain: u16,
        iova: IoAddress,
        order: u32,
        depth: Depth,
    },
    /// Those of a PASID in a domain: first-stage and nested ones.
    Pasid {
        domain: u16,
        pasid: u32,
    },
}

/// How much of the way to a page an invalidation covers (IH, 6.5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Leaves,
    AllLevels,
}

/// Which PASID entries to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForgetPasids {
    Everything,
    Domain(u16),
    /// One PASID of a domain. Requests without PASID use some PASID too, so any such invalidation covers what is
    /// cached for them.
    One {
        domain: u16,
        pasid: u32,
    },
}

/// Which contexts to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForgetContexts {
    Everything,
    Domain(u16),
    /// Source-ids that equal `source` except in the bits of `ignored`.
    Device {
        source: u16,
        ignored: u16,
    },
}

impl Caches {
    pub(crate) fn device(&self, source: u16) -> Option<Result<Device, FaultReason>> {
        self.devices.get(&source).copied()
    }

    pub(crate) fn keep_device(&mut self, source: u16, device: Result<Device, FaultReason>) {
        self.devices.insert(source, device);
    }

    pub(crate) fn pasid(&self, requester: Requester) -> Option<Context> {
        self.pasids.get(&requester).copied()
    }

    pub(crate) fn keep_pasid(&mut self, requester: Requester, context: Context) {
        self.pasids.insert(requester, context);
    }

    pub(crate) fn forget_contexts(&mut self, what: ForgetContexts) {
        self.devices.retain(|source, device| !what.includes(*source, *device));
    }

    pub(crate) fn forget_pasids(&mut self, what: ForgetPasids) {
        self.pasids.retain(|requester, context| !what.includes(*requester, context));
    }

    pub(crate) fn forget(&mut self, what: Forget) {
        self.translations.forget_pages(|tag, page| what.includes(tag, page.iova, page.level.shift()));
        if !matches!(what, Forget::Pages { depth: Depth::Leaves, .. }) {
            self.translations.forget_tables(|tag, iova, width| what.includes(tag, iova, width));
        }
    }

    /// Evicts a random entry, as hardware may at any time.
    pub(crate) fn evict(&mut self, rng: &mut Rng) {
        self.translations.evict(rng);
        if let Some(source) = rng.choice(self.devices.keys().copied()) {
            self.devices.remove(&source);
        }
        if let Some(requester) = rng.choice(self.pasids.keys().copied()) {
            self.pasids.remove(&requester);
        }
    }
}

impl ForgetContexts {
    /// Covers one device, or several functions of it: FM says how many bits of the function number are ignored, from
    /// the highest (6.5.2.1).
    pub(crate) fn device(source: u16, function_mask: u8) -> Self {
        const IGNORED: [u16; 4] = [0b000, 0b100, 0b110, 0b111];
        Self::Device { source, ignored: IGNORED[usize::from(function_mask & 3)] }
    }

    /// Whether this covers a context. Contexts of scalable mode belong to no domain: an invalidation of any domain
    /// covers them.
    fn includes(self, source: u16, device: Result<Device, FaultReason>) -> bool {
        match self {
            Self::Everything => true,
            Self::Domain(domain) => match device {
                Ok(Device::Legacy(context)) => context.domain == domain,
                Ok(Device::Scalable(_)) => true,
                Err(_) => domain == 0,
            },
            Self::Device { source: of, ignored } => source | ignored == of | ignored,
        }
    }
}

impl ForgetPasids {
    fn includes(self, requester: Requester, context: &Context) -> bool {
        match self {
            Self::Everything => true,
            Self::Domain(domain) => context.domain == domain,
            Self::One { domain, pasid } => {
                context.domain == domain && requester.pasid.is_none_or(|other| other == pasid)
            }
        }
    }
}

impl Forget {
    /// Whether this covers a cached entry for the addresses that equal `iova` above `shift`. Pages of a domain are
    /// second-stage addresses: nested translations may depend on any of them.
    fn includes(self, tag: Tag, cached: IoAddress, shift: u32) -> bool {
        match (self, tag) {
            (Self::Everything, _) => true,
            (Self::Domain(domain), _) | (Self::Pages { domain, .. }, Tag::Nested { .. }) => {
                tag.domain() == domain
            }
            (Self::Pages { domain, iova, order, .. }, Tag::Second { .. }) => {
                let shift = (Level::ONE.shift() + order).max(shift);
                tag.domain() == domain && same_above(shift, cached, iova)
            }
            (Self::Pasid { domain, pasid }, _) => (tag.domain(), tag.pasid()) == (domain, Some(pasid)),
            (Self::Pages { .. }, Tag::First { .. }) => false,
        }
    }
}

fn same_above(shift: u32, a: IoAddress, b: IoAddress) -> bool {
    a.get().checked_shr(shift) == b.get().checked_shr(shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vtd::walk::Rights;
    use machine::PhysicalAddress;

    const SEVEN: Tag = Tag::Second { domain: 7 };

    /// Caches with one page, under this tag.
    fn with(tag: Tag, iova: IoAddress, level: Level) -> Caches {
        let page =
            Page { iova, address: PhysicalAddress::default(), level, rights: Rights::ALL, noted: true };
        let mut caches = Caches::default();
        caches.translations.keep_page(tag, page, &mut Rng::with_seed(0));
        caches
    }

    #[test]
    fn a_page_selective_invalidation_forgets_a_superpage_that_holds_the_page() {
        let mut caches = with(SEVEN, 0x20_0000.into(), Level::TWO);
        caches.forget(Forget::Pages { domain: 7, iova: 0x40_0000.into(), order: 0, depth: Depth::Leaves });
        assert!(caches.translations.page(SEVEN, 0x20_1000.into()).is_some());
        caches.forget(Forget::Pages { domain: 7, iova: 0x21_3000.into(), order: 0, depth: Depth::Leaves });
        assert!(caches.translations.page(SEVEN, 0x20_1000.into()).is_none());
    }

    #[test]
    fn a_domain_selective_invalidation_leaves_other_domains() {
        let mut caches = with(SEVEN, 0x1000.into(), Level::ONE);
        caches.forget(Forget::Domain(8));
        assert!(
            caches.translations.page(SEVEN, 0x1FFF.into()).is_some()
                && caches.translations.page(Tag::Second { domain: 8 }, 0x1FFF.into()).is_none()
        );
    }

    #[test]
    fn a_first_stage_translation_is_forgotten_by_pasid_and_not_by_page() {
        let tag = Tag::First { domain: 7, pasid: 3, privilege: Privilege::User };
        let mut caches = with(tag, 0x1000.into(), Level::ONE);
        caches.forget(Forget::Pages { domain: 7, iova: 0x1000.into(), order: 0, depth: Depth::AllLevels });
        caches.forget(Forget::Pasid { domain: 7, pasid: 4 });
        assert!(caches.translations.page(tag, 0x1000.into()).is_some());
        caches.forget(Forget::Pasid { domain: 7, pasid: 3 });
        assert!(caches.translations.page(tag, 0x1000.into()).is_none());
    }

    #[test]
    fn a_device_selective_invalidation_honours_the_function_mask() {
        let all_functions = ForgetContexts::Device { source: 0x00F8, ignored: 7 };
        assert!(all_functions.includes(0x00FA, Err(FaultReason::CONTEXT_NOT_PRESENT)));
        assert!(!all_functions.includes(0x00F0, Err(FaultReason::CONTEXT_NOT_PRESENT)));
    }
}
