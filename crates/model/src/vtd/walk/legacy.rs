//! Legacy mode: root table → context table → second-stage tables (3.4.2, 3.4.3).

use super::second_stage::Marks;
use super::{Context, Rights, SecondStage, Table, Translation, Walker};
use machine::{PhysicalAddress, SourceId};
use vtd::context::{ContextEntry, TranslationType};
use vtd::fault::FaultReason;
use vtd::root::RootEntry;

impl Walker<'_> {
    /// Follows the root entry of the requester's bus to the context entry of its device and function.
    pub(super) fn legacy_context(&self, source: u16) -> Result<Context, FaultReason> {
        let source = SourceId(source);
        let entry = self.context_entry(self.context_table(source.bus())?, source.devfn())?;
        let translation = match entry.low.translation() {
            TranslationType::PASS_THROUGH if self.traits.extended.pt() => Translation::PassThrough,
            TranslationType::DEVICE_TLB if !self.traits.extended.dt() => {
                return Err(FaultReason::CONTEXT_INVALID);
            }
            TranslationType::TRANSLATED | TranslationType::DEVICE_TLB => self.second_stage_root(entry)?,
            _ => return Err(FaultReason::CONTEXT_INVALID),
        };
        let (domain, fault_disabled) = (entry.high.domain(), entry.low.fault_disabled());
        let device_tlb = entry.low.translation() == TranslationType::DEVICE_TLB;
        Ok(Context { domain, pasid: 0, fault_disabled, device_tlb, translation })
    }

    /// The address of the context table of `bus`.
    pub(super) fn context_table(&self, bus: u8) -> Result<PhysicalAddress, FaultReason> {
        let (low, high) = self
            .pair(self.root.address().saturating_add(u64::from(bus) * 16))
            .ok_or(FaultReason::ROOT_UNREADABLE)?;
        let entry = RootEntry::from_words(low, high);
        if !entry.low.present() {
            return Err(FaultReason::ROOT_NOT_PRESENT);
        }
        if entry.low.reserved_bits(self.traits.host_address_bits) != 0 || high != 0 {
            return Err(FaultReason::ROOT_RESERVED);
        }
        Ok(entry.low.address())
    }

    /// The present and well-formed context entry of `devfn`.
    fn context_entry(&self, table: PhysicalAddress, devfn: u8) -> Result<ContextEntry, FaultReason> {
        let words =
            self.pair(table.saturating_add(u64::from(devfn) * 16)).ok_or(FaultReason::CONTEXT_UNREADABLE)?;
        let entry = ContextEntry::from_words(words.0, words.1);
        if !entry.low.present() {
            return Err(FaultReason::CONTEXT_NOT_PRESENT);
        }
        if entry.reserved_bits(self.traits.host_address_bits) != (0, 0) {
            return Err(FaultReason::CONTEXT_RESERVED);
        }
        Ok(entry)
    }

    fn second_stage_root(&self, entry: ContextEntry) -> Result<Translation, FaultReason> {
        let width = entry.high.width();
        let level = width
            .top()
            .filter(|_| self.traits.capability.supports(width))
            .ok_or(FaultReason::CONTEXT_INVALID)?;
        let root = Table { address: entry.table(), level, rights: Rights::ALL };
        Ok(Translation::SecondStage(SecondStage { root, marks: Marks::Off }))
    }

    fn pair(&self, address: PhysicalAddress) -> Option<(u64, u64)> {
        Some((self.memory.read(address)?, self.memory.read(address.saturating_add(8))?))
    }
}
