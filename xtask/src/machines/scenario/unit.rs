//! The machine's remapping unit, and what the crashing kernel did with it.

use clap::{Args, ValueEnum};
use serde::Serialize;

/// Slot of the function that an IOMMU of AMD's is on its bus.
const UNIT_SLOT: u8 = 1;

/// Whose remapping unit the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Iommu {
    /// Intel's: VT-d.
    Intel,
    /// AMD's: AMD-Vi.
    Amd,
}

/// How the crashing kernel's devices reach memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Translation {
    /// Every device through tables of its own.
    On,
    /// By physical addresses, which the unit passes through (`iommu=pt`).
    PassThrough,
    /// By physical addresses, through one table that maps each to itself (`iommu=pt` where the unit cannot pass through).
    Identity,
    /// By physical addresses: the unit was left off (`intel_iommu=off`).
    Off,
    /// By physical addresses: there is no unit.
    NoUnit,
    /// By physical addresses: the firmware lists a unit at address 0, and there is none.
    Absent,
}

/// The tables that the unit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Legacy mode: context entries lead to second-stage tables.
    Legacy,
    /// Scalable mode: PASID entries lead to second-stage tables.
    Scalable,
    /// Scalable mode: PASID entries lead to first-stage tables.
    FirstStage,
}

/// Width of I/O addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub(crate) enum Width {
    /// Three levels of second-stage tables.
    #[value(name = "39")]
    Bits39,
    /// Four levels.
    #[value(name = "48")]
    Bits48,
}

/// How interrupts reach processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Interrupts {
    /// Remapped.
    Remapped,
    /// Remapped, to processors in x2APIC mode.
    X2apic,
    /// As devices send them.
    Plain,
}

/// Whether software must tell the unit also of entries that were not present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Caching {
    /// Only what is present is cached.
    Present,
    /// Caching mode: anything may be.
    Anything,
}

/// The unit and its use.
#[derive(Args, Clone, Copy, Debug, Serialize)]
pub(crate) struct UnitSetting {
    /// Whose it is. By itself, AMD's comes with a kernel that has a driver for it, and with a QEMU that has enough of it
    #[arg(long, value_enum, default_value = "intel")]
    pub(crate) iommu: Iommu,
    /// How the crashing kernel's devices reach memory
    #[arg(long, value_enum, default_value = "on")]
    pub(crate) translation: Translation,
    /// The tables that a unit of Intel's has
    #[arg(long, value_enum, default_value = "legacy")]
    pub(crate) mode: Mode,
    /// Width of I/O addresses of a unit of Intel's
    #[arg(long, value_enum, default_value = "39")]
    pub(crate) width: Width,
    /// How interrupts reach processors
    #[arg(long, value_enum, default_value = "remapped")]
    pub(crate) interrupts: Interrupts,
    /// What the unit may cache
    #[arg(long, value_enum, default_value = "present")]
    pub(crate) caching: Caching,
}

impl UnitSetting {
    /// Legacy mode, everything translated: what Linux does by default.
    pub(crate) const PLAIN: Self = Self {
        iommu: Iommu::Intel,
        translation: Translation::On,
        mode: Mode::Legacy,
        width: Width::Bits39,
        interrupts: Interrupts::Remapped,
        caching: Caching::Present,
    };
    /// The same with an IOMMU of AMD's.
    pub(crate) const AMD: Self = Self { iommu: Iommu::Amd, ..Self::PLAIN };

    /// QEMU's options for the devices that are the unit, the unit itself last; none if there is none.
    pub(crate) fn devices(self) -> Vec<String> {
        match (self.translation, self.iommu) {
            (Translation::NoUnit | Translation::Absent, _) => Vec::new(),
            (_, Iommu::Intel) => vec![self.intel()],
            (_, Iommu::Amd) => vec![format!("AMDVI-PCI,id=unit,addr={UNIT_SLOT:#x}"), self.amd()],
        }
    }

    fn amd(self) -> String {
        let interrupts = match self.interrupts {
            Interrupts::Remapped => "intremap=on",
            Interrupts::X2apic => "intremap=on,xtsup=on",
            Interrupts::Plain => "intremap=off",
        };
        format!("amd-iommu,pci-id=unit,dma-remap=on,{interrupts}")
    }

    fn intel(self) -> String {
        let mut options = vec!["intel-iommu"];
        options.push(match self.interrupts {
            Interrupts::Remapped => "intremap=on",
            Interrupts::X2apic => "intremap=on,eim=on",
            Interrupts::Plain => "intremap=off",
        });
        options.push(match self.mode {
            Mode::Legacy => "x-scalable-mode=off",
            Mode::Scalable => "x-scalable-mode=on",
            Mode::FirstStage => "x-scalable-mode=on,x-flts=on",
        });
        options.push(match self.width {
            Width::Bits39 => "aw-bits=39",
            Width::Bits48 => "aw-bits=48",
        });
        options.extend((self.caching == Caching::Anything).then_some("caching-mode=on"));
        options.extend((self.translation == Translation::Identity).then_some("pt=off"));
        options.join(",")
    }

    /// What the crashing kernel is told.
    pub(crate) fn kernel_options(self) -> &'static str {
        match self.iommu {
            Iommu::Intel => self.kernel_options_for_intel(),
            Iommu::Amd => self.kernel_options_for_amd(),
        }
    }

    /// A unit that is there is used without being asked for. Whatever the kernel is told of the time at which the unit forgets what is
    /// no longer mapped, it is at once: "AMD-Vi: Using strict mode due to virtualization".
    fn kernel_options_for_amd(self) -> &'static str {
        match self.translation {
            Translation::On => "iommu.passthrough=0",
            Translation::PassThrough | Translation::Identity => "iommu=pt",
            Translation::Off | Translation::NoUnit | Translation::Absent => "amd_iommu=off",
        }
    }

    fn kernel_options_for_intel(self) -> &'static str {
        match (self.translation, self.mode) {
            (Translation::Off | Translation::NoUnit, _) => "intel_iommu=off",
            (Translation::On | Translation::Absent, Mode::Legacy) => "intel_iommu=on",
            (Translation::On | Translation::Absent, Mode::Scalable | Mode::FirstStage) => {
                "intel_iommu=on,sm_on"
            }
            (Translation::PassThrough | Translation::Identity, Mode::Legacy) => "intel_iommu=on iommu=pt",
            (Translation::PassThrough | Translation::Identity, Mode::Scalable | Mode::FirstStage) => {
                "intel_iommu=on,sm_on iommu=pt"
            }
        }
    }
}

/// A table DMAR of firmware that has left the address of its only unit, which serves all functions, at zero (VT-d
/// specification, sections 8.1 and 8.3).
pub(crate) fn table_with_absent_unit() -> Vec<u8> {
    let mut table = b"DMAR\0\0\0\0\x01\0HOLDOVBENCH   \x01\0\0\0HOLD\x01\0\0\0".to_vec();
    // 39 bits of host addresses, no flags; DRHD of 16 bytes, INCLUDE_PCI_ALL, segment 0, registers at 0.
    table.extend([38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    table.extend([0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    table[4] = table.len() as u8;
    table[9] = table.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_and_the_kernel_are_told_of_the_same_mode() {
        let scalable =
            UnitSetting { mode: Mode::Scalable, translation: Translation::PassThrough, ..UnitSetting::PLAIN };
        assert_eq!(scalable.kernel_options(), "intel_iommu=on,sm_on iommu=pt");
        assert!(scalable.devices().concat().contains("x-scalable-mode=on"));
    }

    #[test]
    fn an_iommu_of_amds_is_two_devices_of_which_the_kernel_hears_nothing_of_intels() {
        let x2apic = UnitSetting { interrupts: Interrupts::X2apic, ..UnitSetting::AMD };
        assert_eq!(x2apic.kernel_options(), "iommu.passthrough=0");
        let [function, unit] = &x2apic.devices()[..] else { panic!("not two devices") };
        assert!(function.starts_with("AMDVI-PCI,id=unit") && unit.contains("pci-id=unit"));
        assert!(unit.ends_with("xtsup=on"));
    }

    #[test]
    fn a_machine_without_a_unit_has_no_device_for_it() {
        let none = UnitSetting { translation: Translation::NoUnit, ..UnitSetting::PLAIN };
        assert!(none.devices().is_empty());
    }
}
