//! The kernel that takes the dump: which it is, how it is loaded, and whose tables translate while it works.

use clap::ValueEnum;
use serde::Serialize;

use super::Scenario;
use super::memory::Reservation;
use super::unit::Iommu;
use crate::guests::archive::Suite;
use crate::guests::kernels::Flavour;

/// Which kernel takes the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Capture {
    /// Holdover.
    Holdover,
    /// Debian's own, in which `holdover makedump` and makedumpfile make dumps of `/proc/vmcore`.
    Stock,
    /// Holdover, which hands over at once to Debian's own: that makes the dumps.
    HandedOver,
    /// Holdover, which has an area on another disk, and hands over to Debian's own if that comes to nothing.
    Fallback,
}

/// The system call through which `kexec` loads the capture kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Syscall {
    /// `kexec_file_load`, `kexec -s`: the old kernel takes the image apart.
    File,
    /// `kexec_load`, `kexec -c`: the tool does.
    Load,
}

impl Syscall {
    /// The letter with which `kexec` is asked for it.
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::File => "s",
            Self::Load => "c",
        }
    }

    /// The option with which `holdover load` is asked for it.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::File => "",
            Self::Load => "--syscall load",
        }
    }
}

/// Whose tables a stock crash kernel has the unit translate with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecondTables {
    /// It sets one of its own in place of Holdover's.
    Own,
    /// It goes on with Holdover's: Linux 7.2 does on AMD's unit.
    Holdovers,
    /// It goes on with the dead kernel's, which Holdover has changed where it is.
    Dead,
}

impl Scenario {
    /// Which of Debian's kernels a stock crash kernel is.
    pub(crate) fn crash_kernel(&self) -> Flavour {
        self.second_kernel.unwrap_or(self.kernel)
    }

    /// Whose tables a stock crash kernel has the unit translate with. Where nothing is reserved below 4 GiB, Holdover has no memory for a
    /// device table of AMD's unit there, and its base stays as it is.
    pub(crate) fn second_tables(&self) -> SecondTables {
        let adopts = self.unit.iommu == Iommu::Amd && self.crash_kernel().suite() == Suite::Testing;
        match (adopts, self.reservation) {
            (false, _) => SecondTables::Own,
            (true, Reservation::Low | Reservation::High) => SecondTables::Holdovers,
            (true, Reservation::OnlyHigh) => SecondTables::Dead,
        }
    }
}
