//! The machine's remapping unit, and what the crashing kernel did with it.

use clap::{Args, ValueEnum};
use serde::Serialize;

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
    /// Every device through tables of its own in an IOMMU of AMD's.
    Amd,
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
    /// How the crashing kernel's devices reach memory
    #[arg(long, value_enum, default_value = "on")]
    pub(crate) translation: Translation,
    /// The tables that the unit has
    #[arg(long, value_enum, default_value = "legacy")]
    pub(crate) mode: Mode,
    /// Width of I/O addresses
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
        translation: Translation::On,
        mode: Mode::Legacy,
        width: Width::Bits39,
        interrupts: Interrupts::Remapped,
        caching: Caching::Present,
    };

    /// QEMU's option for the device; none if there is no unit.
    pub(crate) fn device(self) -> Option<String> {
        match self.translation {
            Translation::NoUnit | Translation::Absent => return None,
            Translation::Amd => return Some("amd-iommu".to_owned()),
            _ => {}
        }
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
        Some(options.join(","))
    }

    /// What the crashing kernel is told.
    pub(crate) fn kernel_options(self) -> &'static str {
        match (self.translation, self.mode) {
            (Translation::Amd, _) => "iommu.passthrough=0 iommu.strict=1",
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
        assert!(scalable.device().unwrap().contains("x-scalable-mode=on"));
    }

    #[test]
    fn a_machine_without_a_unit_has_no_device_for_it() {
        assert_eq!(UnitSetting { translation: Translation::NoUnit, ..UnitSetting::PLAIN }.device(), None);
    }
}
