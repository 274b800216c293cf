//! What the record says of a unit that was taken over, in the form in which it is shown.

use amdvi::device_table::DeviceTableEntry;
use amdvi::event::Event;
use record::{Architecture, Context, Domain, Entry, Hazard, Queue, Takeover};
use serde::Serialize;
use vtd::context::{ContextEntry, TranslationType};
use vtd::fault::FaultRecord;
use vtd::pasid::{PasidEntry, PasidTranslationType};

use super::hex::Hex;

/// The results of the takeover for a unit's contexts and domains.
#[derive(Debug, Serialize)]
pub struct TakeoverView {
    /// Physical address of the root table that the dead kernel left.
    pub old_root: Hex,
    /// Physical address of the root table that replaced it.
    pub new_root: Hex,
    /// The fate of the dead kernel's invalidation queue.
    pub queue: String,
    /// Faults that were recorded before the takeover was done.
    pub faults: Vec<FaultView>,
    /// Entries that said how devices' requests are translated.
    pub contexts: Vec<ContextView>,
    /// Entries that are not listed.
    pub unlisted_contexts: u64,
    /// Domains that these entries named.
    pub domains: Vec<DomainView>,
    /// Domains that are not listed.
    pub unlisted_domains: u64,
    /// What was wrong or dangerous.
    pub hazards: Vec<HazardView>,
    /// Hazards that are not listed.
    pub unlisted_hazards: u64,
}

/// A fault that was recorded before the takeover was done.
#[derive(Debug, Serialize)]
pub struct FaultView {
    /// Bus, device and function: `00:14.0`.
    pub device: String,
    /// PASID of the request, if it had one.
    pub pasid: Option<u32>,
    /// Address of the requested page.
    pub address: Hex,
    /// Why it faulted, in the specification's numbers: the reason (VT-d 7.1.3), or the code of the event (AMD-Vi 2.5).
    pub reason: Hex,
}

/// An entry that said how a device's requests are translated.
#[derive(Debug, Serialize)]
pub struct ContextView {
    /// Bus, device and function: `00:14.0`.
    pub device: String,
    /// PASID of the requests that it is for, if they have one.
    pub pasid: Option<u32>,
    /// Its words, as they were found.
    pub entry: Vec<Hex>,
    /// The stages of translation that it selects.
    pub translation: String,
    /// Domain-id as it was found.
    pub old_domain: u16,
    /// Domain-id now; `None` if it was not carried over.
    pub domain: Option<u16>,
    /// Its outcome.
    pub outcome: String,
}

/// A domain.
#[derive(Debug, Serialize)]
pub struct DomainView {
    /// Its id.
    pub id: u16,
    /// Width of its I/O addresses.
    pub address_bits: u32,
    /// Tables that were duplicated for it.
    pub tables: u64,
    /// Mappings in these.
    pub leaves: u64,
    /// Mappings that were omitted, because they led to the capture kernel's memory.
    pub fenced: u64,
    /// Its outcome.
    pub outcome: String,
}

/// Something wrong or dangerous.
#[derive(Debug, Serialize)]
pub struct HazardView {
    /// Where it was found.
    pub place: String,
    /// What it is.
    pub what: String,
    /// What was done about it.
    pub outcome: String,
}

impl TakeoverView {
    pub(super) fn new(takeover: &Takeover, architecture: Architecture) -> Self {
        let Takeover { old_root, new_root, queue, faults, counts: _, contexts, domains, hazards } = takeover;
        Self {
            old_root: Hex(*old_root),
            new_root: Hex(*new_root),
            queue: queue_state(*queue),
            faults: faults
                .listed
                .iter()
                .map(|&(low, high)| FaultView::new(low, high, architecture))
                .collect(),
            contexts: contexts.listed.iter().map(ContextView::new).collect(),
            unlisted_contexts: contexts.unlisted,
            domains: domains.listed.iter().map(DomainView::new).collect(),
            unlisted_domains: domains.unlisted,
            hazards: hazards.listed.iter().map(HazardView::new).collect(),
            unlisted_hazards: hazards.unlisted,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.unlisted_contexts + self.unlisted_domains + self.unlisted_hazards == 0
    }
}

fn queue_state(queue: Queue) -> String {
    match queue {
        Queue::Off => "off".to_owned(),
        Queue::Drained => "drained".to_owned(),
        Queue::Stuck { head, tail } => format!("stuck at {head:#x} of {tail:#x}"),
    }
}

impl FaultView {
    fn new(low: u64, high: u64, architecture: Architecture) -> Self {
        match architecture {
            Architecture::Vtd => Self::of_record(low, high),
            Architecture::AmdVi => Self::of_event(low, high),
        }
    }

    fn of_event(low: u64, high: u64) -> Self {
        let event = Event::from_words([low, high]);
        Self {
            device: event.low.source().to_string(),
            pasid: event.pasid(),
            address: Hex(event.address),
            reason: Hex(event.low.code().0.into()),
        }
    }

    fn of_record(low: u64, high: u64) -> Self {
        let record = FaultRecord::from_words(low, high);
        Self {
            device: record.high.source().to_string(),
            pasid: record.high.pasid_present().then(|| record.high.pasid()),
            address: Hex(record.address().get()),
            reason: Hex(record.high.reason().0.into()),
        }
    }
}

impl ContextView {
    fn new(context: &Context) -> Self {
        let requester = context.requester();
        let (entry, translation, old_domain) = match context.entry {
            Entry::Context(words) => {
                let entry = ContextEntry::from_words(words[0], words[1]);
                (words.to_vec(), legacy_type(entry.low.translation()), entry.high.domain())
            }
            Entry::Pasid(words) => {
                let entry = PasidEntry::from_words(words);
                (words.to_vec(), pasid_type(entry.second.translation()), entry.domain.domain())
            }
            Entry::Device(words) => {
                let entry = DeviceTableEntry::from_words(words);
                (words.to_vec(), device_type(entry), entry.guest.domain())
            }
            Entry::Guest([host, guest, interrupts, attributes, _]) => {
                let entry = DeviceTableEntry::from_words([host, guest, interrupts, attributes]);
                let words = vec![host, guest, interrupts, attributes];
                (words, "guest tables".into(), entry.guest.domain())
            }
        };
        Self {
            device: requester.source.to_string(),
            pasid: requester.pasid,
            entry: entry.into_iter().map(Hex).collect(),
            translation,
            old_domain,
            domain: context.domain,
            outcome: context.outcome.to_string(),
        }
    }
}

fn device_type(entry: DeviceTableEntry) -> String {
    match (entry.host.valid(), entry.host.mode().top(), entry.host.guest_valid()) {
        (false, _, _) | (true, None, false) => "pass-through".into(),
        (true, None, true) => "guest tables".into(),
        (true, Some(_), false) => "host tables".into(),
        (true, Some(_), true) => "nested".into(),
    }
}

fn legacy_type(code: TranslationType) -> String {
    match code {
        TranslationType::TRANSLATED => "second stage".into(),
        TranslationType::DEVICE_TLB => "second stage, device-TLB".into(),
        TranslationType::PASS_THROUGH => "pass-through".into(),
        TranslationType(other) => format!("type {other}"),
    }
}

fn pasid_type(code: PasidTranslationType) -> String {
    match code {
        PasidTranslationType::FIRST_STAGE => "first stage".into(),
        PasidTranslationType::SECOND_STAGE => "second stage".into(),
        PasidTranslationType::NESTED => "nested".into(),
        PasidTranslationType::PASS_THROUGH => "pass-through".into(),
        PasidTranslationType(other) => format!("type {other}"),
    }
}

impl DomainView {
    fn new(domain: &Domain) -> Self {
        let Domain { id, address_bits, tables, leaves, fenced, outcome } = *domain;
        Self { id, address_bits, tables, leaves, fenced, outcome: outcome.to_string() }
    }
}

impl HazardView {
    fn new(hazard: &Hazard) -> Self {
        let Hazard { place, what, outcome } = hazard;
        Self { place: place.to_string(), what: what.to_string(), outcome: outcome.to_string() }
    }
}
