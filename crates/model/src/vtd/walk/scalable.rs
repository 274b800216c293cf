//! Scalable mode: root table → context table of half a bus → PASID directory → PASID table → tables of either stage,
//! or both (3.4.3).

use super::first_stage::{FirstStage, Privilege};
use super::second_stage::{Marks, SecondStage};
use super::{Context, Rights, Table, Translation, Walker};
use machine::{Level, PAGE_SIZE, PhysicalAddress};
use vtd::context::{SCALABLE_CONTEXT_ENTRIES, ScalableContextEntry};
use vtd::fault::FaultReason;
use vtd::pasid::{
    PASID_ENTRY_WORDS, PASID_TABLE_ENTRIES, PasidDirectoryEntry, PasidEntry, PasidTranslationType,
};
use vtd::root::ContextTablePointer;

/// Reasons of scalable mode (7.1.3): SRT, SCT, SPD and SPT conditions.
const ROOT_UNREADABLE: FaultReason = FaultReason(0x38);
const ROOT_NOT_PRESENT: FaultReason = FaultReason(0x39);
const ROOT_RESERVED: FaultReason = FaultReason(0x3A);
const CONTEXT_UNREADABLE: FaultReason = FaultReason(0x40);
const CONTEXT_NOT_PRESENT: FaultReason = FaultReason(0x41);
const CONTEXT_RESERVED: FaultReason = FaultReason(0x42);
const PASID_DISABLED: FaultReason = FaultReason(0x45);
const PASID_TOO_LARGE: FaultReason = FaultReason(0x46);
const DIRECTORY_UNREADABLE: FaultReason = FaultReason(0x50);
const DIRECTORY_NOT_PRESENT: FaultReason = FaultReason(0x51);
const DIRECTORY_RESERVED: FaultReason = FaultReason(0x52);
const PASID_UNREADABLE: FaultReason = FaultReason(0x58);
const PASID_NOT_PRESENT: FaultReason = FaultReason(0x59);
const PASID_RESERVED: FaultReason = FaultReason(0x5A);
const PASID_INVALID: FaultReason = FaultReason(0x5B);
const SUPERVISOR_DISABLED: FaultReason = FaultReason(0x5D);

/// The PASID directory of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    address: PhysicalAddress,
    entries: usize,
    /// The PASID of requests that carry none.
    own_pasid: u32,
    /// The role of requests that carry no PASID.
    own_role: Role,
    pasids: Pasids,
    fault_disabled: bool,
    device_tlb: bool,
}

/// The role of a request: user or supervisor (RID_PRIV, 9.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    User,
    Supervisor,
}

/// Whether requests may carry PASIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pasids {
    Enabled,
    Disabled,
}

impl Walker<'_> {
    /// The context table for a function: each half of a bus has one.
    pub(super) fn half_bus_table(&self, source: u16) -> Result<PhysicalAddress, FaultReason> {
        let at = self.root.address().saturating_add(u64::from(source >> 7) * 8);
        let entry = ContextTablePointer::from_bits(self.memory.read(at).ok_or(ROOT_UNREADABLE)?);
        if !entry.present() {
            return Err(ROOT_NOT_PRESENT);
        }
        if entry.reserved_bits(self.traits.host_address_bits) != 0 {
            return Err(ROOT_RESERVED);
        }
        Ok(entry.address())
    }

    /// Follows root and context table to the PASID directory of a function.
    pub(super) fn directory(&self, source: u16) -> Result<Directory, FaultReason> {
        let index = u64::from(source) % SCALABLE_CONTEXT_ENTRIES as u64;
        let words =
            self.words(self.half_bus_table(source)?.saturating_add(index * 32)).ok_or(CONTEXT_UNREADABLE)?;
        let entry = ScalableContextEntry::from_words(words);
        if !entry.low.present() {
            return Err(CONTEXT_NOT_PRESENT);
        }
        if entry.reserved_bits(self.traits.host_address_bits) != [0; 4] {
            return Err(CONTEXT_RESERVED);
        }
        Ok(Directory {
            address: entry.low.directory(),
            entries: entry.low.directory_entries(),
            own_pasid: if self.traits.extended.rps() { entry.high.rid_pasid() } else { 0 },
            own_role: self.own_role(entry),
            pasids: if entry.low.pasid_enabled() { Pasids::Enabled } else { Pasids::Disabled },
            fault_disabled: entry.low.fault_disabled(),
            device_tlb: entry.low.device_tlb() && self.traits.extended.dt(),
        })
    }

    /// The role of requests that carry no PASID.
    fn own_role(&self, entry: ScalableContextEntry) -> Role {
        let privileged = self.traits.extended.rprivs() && entry.high.rid_privileged();
        if privileged { Role::Supervisor } else { Role::User }
    }

    /// Follows directory and PASID table to the entry of a PASID.
    pub(super) fn pasid_context(
        &self,
        directory: Directory,
        pasid: Option<u32>,
    ) -> Result<Context, FaultReason> {
        if pasid.is_some() && directory.pasids == Pasids::Disabled {
            return Err(PASID_DISABLED);
        }
        let role = if pasid.is_none() { directory.own_role } else { Role::User };
        let pasid = pasid.unwrap_or(directory.own_pasid) as usize;
        let table = self.pasid_table(directory, pasid / PASID_TABLE_ENTRIES)?;
        let slot = pasid % PASID_TABLE_ENTRIES * PASID_ENTRY_WORDS;
        let at = table.saturating_add(slot as u64 * 8);
        let entry = PasidEntry::from_words(self.words(at).ok_or(PASID_UNREADABLE)?);
        if !entry.second.present() {
            return Err(PASID_NOT_PRESENT);
        }
        if entry.has_reserved_bits(self.traits.host_address_bits) {
            return Err(PASID_RESERVED);
        }
        Ok(Context {
            domain: entry.domain.domain(),
            pasid: pasid as u32,
            fault_disabled: directory.fault_disabled || entry.second.fault_disabled(),
            device_tlb: directory.device_tlb,
            translation: self.pasid_translation(entry, role)?,
        })
    }

    /// The address of the PASID table that the directory names at `index`.
    fn pasid_table(&self, directory: Directory, index: usize) -> Result<PhysicalAddress, FaultReason> {
        if index >= directory.entries {
            return Err(PASID_TOO_LARGE);
        }
        let at = directory.address.saturating_add(index as u64 * 8);
        let word = self.memory.read(at).ok_or(DIRECTORY_UNREADABLE)?;
        let entry = PasidDirectoryEntry::from_bits(word);
        if !entry.present() {
            return Err(DIRECTORY_NOT_PRESENT);
        }
        if entry.reserved_bits(self.traits.host_address_bits) != 0 {
            return Err(DIRECTORY_RESERVED);
        }
        Ok(entry.table())
    }

    fn pasid_translation(&self, entry: PasidEntry, role: Role) -> Result<Translation, FaultReason> {
        let extended = self.traits.extended;
        match entry.second.translation() {
            PasidTranslationType::PASS_THROUGH if extended.pt() => Ok(Translation::PassThrough),
            PasidTranslationType::SECOND_STAGE if extended.ssts() => {
                Ok(Translation::SecondStage(self.second_stage_of(entry)?))
            }
            PasidTranslationType::FIRST_STAGE if extended.fsts() => {
                Ok(Translation::FirstStage(self.first_stage_of(entry, role)?))
            }
            PasidTranslationType::NESTED if extended.nest() => {
                Ok(Translation::Nested(self.first_stage_of(entry, role)?, self.second_stage_of(entry)?))
            }
            _ => Err(PASID_INVALID),
        }
    }

    fn second_stage_of(&self, entry: PasidEntry) -> Result<SecondStage, FaultReason> {
        let width = entry.second.width();
        let supported = width.top().filter(|_| self.traits.capability.supports(width));
        let level = supported.ok_or(PASID_INVALID)?;
        let marks = match entry.second.accessed_dirty() {
            false => Marks::Off,
            true if !self.traits.extended.ssads() => return Err(PASID_INVALID),
            true if self.snoops(entry) => Marks::On,
            true => Marks::Impossible,
        };
        let root = Table { address: entry.second_stage_table(), level, rights: Rights::ALL };
        Ok(SecondStage { root, marks })
    }

    fn first_stage_of(&self, entry: PasidEntry, role: Role) -> Result<FirstStage, FaultReason> {
        let level = entry.first.mode().width().top().ok_or(PASID_INVALID)?;
        if level == Level::FIVE && !self.traits.capability.fs5lp() {
            return Err(PASID_INVALID);
        }
        let privilege = match role {
            Role::User => Privilege::User,
            Role::Supervisor if !entry.first.supervisor() => return Err(SUPERVISOR_DISABLED),
            Role::Supervisor if entry.first.write_protect() => Privilege::BoundSupervisor,
            Role::Supervisor => Privilege::Supervisor,
        };
        let root = Table { address: entry.first_stage_table(), level, rights: Rights::ALL };
        let extended_accessed = entry.first.extended_accessed();
        Ok(FirstStage { root, extended_accessed, snoops: self.snoops(entry), privilege })
    }

    /// Whether page walks snoop the processor's caches.
    fn snoops(&self, entry: PasidEntry) -> bool {
        self.traits.extended.smpwcs() && entry.domain.walk_snoop()
    }

    /// The PASIDs of a function that have a well-formed table entry, except for the PASID of requests without one.
    pub(super) fn pasids(&self, directory: Directory) -> Vec<u32> {
        if directory.pasids == Pasids::Disabled {
            return Vec::new();
        }
        let tables = (0..directory.entries).filter(|index| self.pasid_table(directory, *index).is_ok());
        let pasids = tables.flat_map(|index| index * PASID_TABLE_ENTRIES..(index + 1) * PASID_TABLE_ENTRIES);
        let others = pasids.map(|pasid| pasid as u32).filter(|pasid| *pasid != directory.own_pasid);
        others.filter(|pasid| self.pasid_context(directory, Some(*pasid)).is_ok()).collect()
    }

    fn words<const N: usize>(&self, address: PhysicalAddress) -> Option<[u64; N]> {
        debug_assert!(address.get() % PAGE_SIZE + N as u64 * 8 <= PAGE_SIZE);
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.memory.read(address.saturating_add(index as u64 * 8))?;
        }
        Some(words)
    }
}
