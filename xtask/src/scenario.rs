//! What is varied from run to run: which kernel crashes on which machine, and how Holdover was loaded.

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::kernels::Flavour;

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

    /// The word with which `holdover load` is asked for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Load => "load",
        }
    }
}

/// Levels of the processor's page tables in the crashing kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub(crate) enum Paging {
    /// 48-bit virtual addresses.
    #[value(name = "4")]
    FourLevel,
    /// 57-bit virtual addresses.
    #[value(name = "5")]
    FiveLevel,
}

impl Paging {
    /// How many.
    pub(crate) fn levels(self) -> u8 {
        match self {
            Self::FourLevel => 4,
            Self::FiveLevel => 5,
        }
    }
}

/// What the crashing kernel did with the remapping unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Translation {
    /// Translates every device.
    On,
    /// Left it off (`intel_iommu=off`).
    Off,
    /// There is none.
    NoUnit,
}

/// The disk that should take the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Disk {
    /// Carries Holdover's label and is large enough.
    Labelled,
    /// Carries the label, but the dump does not fit.
    TooSmall,
    /// Carries another label than the one that was named when Holdover was loaded.
    OtherLabel,
}

/// How the capture kernel comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Start {
    /// The old kernel panics.
    Panic,
    /// `kexec -e`, as an ordinary reboot into it: there is no crash, and no dead kernel's memory.
    Exec,
}

/// A deliberate fault in the capture kernel, compiled into the image for tests only: a witness must notice it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mutation {
    /// One leaf table is not duplicated: its copy stays empty.
    SkipTable,
    /// A driver is given an I/O address that the old kernel uses.
    ReuseIova,
    /// Translation is off for a moment.
    ClearTe,
    /// One byte of the dump is wrong.
    FlipByte,
}

impl Mutation {
    /// Its name on the capture kernel's command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SkipTable => "skip-table",
            Self::ReuseIova => "reuse-iova",
            Self::ClearTe => "clear-te",
            Self::FlipByte => "flip-byte",
        }
    }
}

/// One crash.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Scenario {
    /// Which of Debian's kernels crashes
    #[arg(long, value_enum, default_value = "cloud")]
    pub(crate) kernel: Flavour,
    /// System call that loads Holdover
    #[arg(long, value_enum, default_value = "file")]
    pub(crate) syscall: Syscall,
    /// Levels of the processor's page tables
    #[arg(long, value_enum, default_value = "4")]
    pub(crate) paging: Paging,
    /// What the crashing kernel did with the remapping unit
    #[arg(long, value_enum, default_value = "on")]
    pub(crate) translation: Translation,
    /// The disk that should take the dump
    #[arg(long, value_enum, default_value = "labelled")]
    pub(crate) disk: Disk,
    /// How the capture kernel comes to run
    #[arg(long, value_enum, default_value = "panic")]
    pub(crate) start: Start,
    /// Processors
    #[arg(long, default_value_t = 1)]
    pub(crate) cpus: u32,
    /// RAM in MiB
    #[arg(long, default_value_t = 1024)]
    pub(crate) memory_mib: u64,
    /// The crash reservation in MiB
    #[arg(long, default_value_t = 16)]
    pub(crate) reserved_mib: u64,
    /// Deliberate fault in the capture kernel
    #[arg(long, value_enum)]
    pub(crate) mutation: Option<Mutation>,
}

impl Scenario {
    /// The plain case for a kernel, from which the others differ in one field or two.
    pub(crate) fn plain(kernel: Flavour) -> Self {
        Self {
            kernel,
            syscall: Syscall::File,
            paging: Paging::FourLevel,
            translation: Translation::On,
            disk: Disk::Labelled,
            start: Start::Panic,
            cpus: 1,
            memory_mib: 1024,
            reserved_mib: 16,
            mutation: None,
        }
    }

    /// The command line of the kernel that crashes.
    pub(crate) fn kernel_command_line(&self) -> String {
        let iommu = if self.translation == Translation::On { "on" } else { "off" };
        let reserved = self.reserved_mib;
        // On a busy host, an emulated timer can tick too late for Linux's check of its interrupt, which ends in a panic.
        let options = "console=ttyS0 printk.devkmsg=on panic=1 no_timer_check";
        format!("{options} intel_iommu={iommu} crashkernel={reserved}M")
    }
}

/// A PCI function of the bench machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// What a person calls it.
    pub(crate) name: &'static str,
    /// Slot on bus 0; the function is always 0.
    pub(crate) slot: u8,
}

impl Device {
    /// The disk that takes the dump: the only device for which Holdover has a driver.
    pub(crate) const DUMP_DISK: Self = Self { name: "virtio-blk (dump)", slot: 0x10 };
    /// The throttled disk.
    pub(crate) const SLOW_DISK: Self = Self { name: "NVMe", slot: 0x11 };
    /// The network card.
    pub(crate) const NETWORK: Self = Self { name: "network", slot: 0x12 };
    /// The USB controller.
    pub(crate) const USB: Self = Self { name: "UHCI", slot: 0x13 };
    /// The sound controller.
    pub(crate) const SOUND: Self = Self { name: "HDA", slot: 0x14 };

    /// Every function of the bench that does DMA.
    pub(crate) const ALL: [Self; 5] =
        [Self::DUMP_DISK, Self::SLOW_DISK, Self::NETWORK, Self::USB, Self::SOUND];

    /// The source-id with which it asks the remapping unit.
    pub(crate) const fn source_id(self) -> u16 {
        (self.slot as u16) << 3
    }

    /// What a person calls the function with this source-id.
    pub(crate) fn name_of(source_id: u16) -> String {
        let known = Self::ALL.into_iter().find(|device| device.source_id() == source_id);
        let [bus, function] = source_id.to_be_bytes();
        known.map_or_else(
            || format!("{bus:02x}:{:02x}.{}", function >> 3, function & 7),
            |device| device.name.to_owned(),
        )
    }
}
