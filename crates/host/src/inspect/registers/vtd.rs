//! Names the bits of a VT-d unit's registers (11.4).

use vtd::capability::{Capability, ExtendedCapability, Version};
use vtd::control::{GlobalStatus, InterruptTableAddress, ProtectedMemory, RootTableAddress, TableMode};
use vtd::fault::FaultStatus;
use vtd::paging::AddressWidth;
use vtd::queue::QueueAddress;
use vtd::registers::{self, Register};

use super::names;

/// The name of the register and the meaning of its value, if the specification has a register there.
pub(super) fn told(found: &record::Register) -> Option<(&'static str, String)> {
    let register =
        registers::FIXED.into_iter().find(|register| register.offset == usize::from(found.offset))?;
    Some((register.name, meaning(register, found.value)))
}

/// The meaning of a register's value; empty if the register's name suffices.
fn meaning(register: Register, value: u64) -> String {
    match register {
        registers::VER => version(Version::from_bits(value as u32)),
        registers::CAP => capability(Capability::from_bits(value)),
        registers::ECAP => extended(ExtendedCapability::from_bits(value)),
        registers::GSTS => status(GlobalStatus::from_bits(value as u32)),
        registers::RTADDR => root(RootTableAddress::from_bits(value)),
        registers::FSTS => faults(FaultStatus::from_bits(value as u32)),
        registers::PMEN => protected(ProtectedMemory::from_bits(value as u32)),
        registers::IQA => queue(QueueAddress::from_bits(value)),
        registers::IRTA => interrupts(InterruptTableAddress::from_bits(value)),
        _ => String::new(),
    }
}

fn version(version: Version) -> String {
    format!("{}.{}", version.major(), version.minor())
}

fn capability(cap: Capability) -> String {
    let widths = [AddressWidth::BITS_39, AddressWidth::BITS_48, AddressWidth::BITS_57];
    let widths: Vec<String> = widths
        .into_iter()
        .filter(|width| cap.supports(*width))
        .filter_map(|width| Some(width.bits()?.to_string()))
        .collect();
    let numbers = format!(
        "{} domains, addresses of {} bits, tables of {} bits, {} fault records",
        cap.domains(),
        cap.guest_address_bits(),
        widths.join("/"),
        cap.fault_records(),
    );
    let set = names(&[
        (cap.sslps() & 1 != 0, "2M pages"),
        (cap.sslps() & 2 != 0, "1G pages"),
        (cap.rwbf(), "RWBF"),
        (cap.plmr(), "PLMR"),
        (cap.phmr(), "PHMR"),
        (cap.cm(), "CM"),
        (cap.zlr(), "ZLR"),
        (cap.psi(), "PSI"),
        (cap.dwd(), "DWD"),
        (cap.drd(), "DRD"),
        (cap.fs1gp(), "FS1GP"),
        (cap.pi(), "PI"),
        (cap.fs5lp(), "FS5LP"),
        (cap.ecmds(), "ECMDS"),
        (cap.esirtps(), "ESIRTPS"),
        (cap.esrtps(), "ESRTPS"),
    ]);
    format!("{numbers}; {set}")
}

fn extended(ecap: ExtendedCapability) -> String {
    names(&[
        (ecap.c(), "C"),
        (ecap.qi(), "QI"),
        (ecap.dt(), "DT"),
        (ecap.ir(), "IR"),
        (ecap.eim(), "EIM"),
        (ecap.pt(), "PT"),
        (ecap.sc(), "SC"),
        (ecap.mts(), "MTS"),
        (ecap.nest(), "NEST"),
        (ecap.prs(), "PRS"),
        (ecap.ers(), "ERS"),
        (ecap.srs(), "SRS"),
        (ecap.nwfs(), "NWFS"),
        (ecap.eafs(), "EAFS"),
        (ecap.pasid(), "PASID"),
        (ecap.dit(), "DIT"),
        (ecap.pds(), "PDS"),
        (ecap.smts(), "SMTS"),
        (ecap.vcs(), "VCS"),
        (ecap.ssads(), "SSADS"),
        (ecap.ssts(), "SSTS"),
        (ecap.fsts(), "FSTS"),
        (ecap.smpwcs(), "SMPWCS"),
        (ecap.rps(), "RPS"),
        (ecap.pms(), "PMS"),
        (ecap.adms(), "ADMS"),
        (ecap.rprivs(), "RPRIVS"),
        (ecap.sms(), "SMS"),
    ])
}

fn status(status: GlobalStatus) -> String {
    names(&[
        (status.tes(), "TES"),
        (status.rtps(), "RTPS"),
        (status.fls(), "FLS"),
        (status.afls(), "AFLS"),
        (status.wbfs(), "WBFS"),
        (status.qies(), "QIES"),
        (status.ires(), "IRES"),
        (status.irtps(), "IRTPS"),
        (status.cfis(), "CFIS"),
    ])
}

fn root(root: RootTableAddress) -> String {
    let mode = match root.mode() {
        TableMode::LEGACY => "legacy mode",
        TableMode::SCALABLE => "scalable mode",
        TableMode::ABORT_DMA => "abort-DMA mode",
        _ => "reserved mode",
    };
    format!("{mode}, root table at {:#x}", root.address())
}

fn faults(faults: FaultStatus) -> String {
    names(&[
        (faults.pfo(), "PFO"),
        (faults.ppf(), "PPF"),
        (faults.afo(), "AFO"),
        (faults.apf(), "APF"),
        (faults.iqe(), "IQE"),
        (faults.ice(), "ICE"),
        (faults.ite(), "ITE"),
        (faults.pro(), "PRO"),
    ])
}

fn protected(protected: ProtectedMemory) -> String {
    names(&[(protected.enable(), "EPM"), (protected.active(), "PRS")])
}

fn queue(queue: QueueAddress) -> String {
    format!("descriptors of {} bytes", queue.descriptor_bytes())
}

fn interrupts(table: InterruptTableAddress) -> String {
    let destinations = if table.extended() { "x2APIC" } else { "xAPIC" };
    format!("table of {} entries at {:#x}, {destinations}", 2u32 << table.size(), table.frame() << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux's log says of QEMU's unit: `DMAR: dmar0: … cap d2008c22260206 ecap f00f5a`.
    #[test]
    fn qemus_capabilities_are_told_by_name() {
        let expected = "65536 domains, addresses of 39 bits, tables of 39 bits, 1 fault records; \
             2M pages 1G pages PSI DWD DRD";
        assert_eq!(meaning(registers::CAP, 0x00D2_008C_2226_0206), expected);
        assert_eq!(meaning(registers::ECAP, 0x00F0_0F5A), "QI IR EIM PT");
    }

    /// What a dead Linux leaves on QEMU.
    #[test]
    fn status_and_root_are_told_by_name() {
        assert_eq!(meaning(registers::GSTS, 0xC700_0000), "TES RTPS QIES IRES IRTPS");
        assert_eq!(meaning(registers::RTADDR, 0x1F0_B400), "scalable mode, root table at 0x1f0b000");
        assert_eq!(meaning(registers::IQH, 0x40), "");
    }
}
