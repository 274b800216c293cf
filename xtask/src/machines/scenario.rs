//! What varies from run to run: which kernel crashes on which machine, and how Holdover was loaded.

pub(crate) mod capture;
pub(crate) mod device;
pub(crate) mod disk;
pub(crate) mod events;
pub(crate) mod file_system;
pub(crate) mod memory;
pub(crate) mod mutation;
pub(crate) mod unit;
pub(crate) mod watchdog;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::crashes::damage::Damage;
use crate::crashes::handover::Loss;
use crate::guests::kernels::Flavour;
use crate::guests::stock::SecondUse;
use crate::guests::target::Target;
use crate::machines::emulator::Emulator;
use crate::machines::firmware::Firmware;
use crate::machines::scale::Scale;
use capture::{Capture, Syscall};
use device::{DiskModel, DiskPlace, DiskTrouble, DiskUse, NvmeOddity};
use disk::Disk;
use events::{End, MachineCheck, Start};
use file_system::FileFate;
use memory::{MemoryUse, Paging, Reservation};
use mutation::Mutation;
use unit::{Translation, UnitSetting};
use watchdog::Watchdog;

/// How the dump's pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Codec {
    /// Not at all.
    None,
    /// By zlib.
    Zlib,
    /// By LZO.
    Lzo,
    /// By zstd.
    Zstd,
}

impl Codec {
    /// Its name, as Holdover's command line takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zlib => "zlib",
            Self::Lzo => "lzo",
            Self::Zstd => "zstd",
        }
    }
}

/// The board, which decides how configuration space is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Board {
    /// PCI Express, with configuration space mapped into memory.
    Q35,
    /// Conventional PCI, with configuration space behind ports; no remapping unit fits.
    Pc,
}

/// What the machine has for people to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Display {
    /// Nothing.
    None,
    /// A VGA adapter. UEFI leaves a framebuffer of 32 bits a pixel, Linux' set-up code one of VESA's with 16. Pictures are taken of it.
    Vga,
}

/// Whether the crashing Linux forbids root to change it, and so wants a signed capture kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Lockdown {
    /// If firmware has Secure Boot.
    ByFirmware,
    /// By its command line, whatever firmware has.
    ByCommandLine,
}

/// One crash.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Scenario {
    /// Which of Debian's kernels crashes
    #[arg(long, value_enum, default_value = "cloud", default_value_if("iommu", "amd", "amd64-backports"))]
    pub(crate) kernel: Flavour,
    /// Which kernel takes the dump; a stock one wants a reservation of 256 MiB
    #[arg(long, value_enum, default_value = "holdover")]
    pub(crate) capture: Capture,
    /// How a stock one is told to use the remapping unit
    #[arg(long, value_enum, default_value = "on")]
    pub(crate) second_use: SecondUse,
    /// Which of Debian's kernels a stock one is, if not the one that crashes
    #[arg(long, value_enum)]
    pub(crate) second_kernel: Option<Flavour>,
    /// Where a stock one writes its dumps
    #[arg(long, value_enum, default_value = "disk")]
    pub(crate) target: Target,
    /// System call that loads Holdover
    #[arg(long, value_enum, default_value = "file")]
    pub(crate) syscall: Syscall,
    /// How Holdover compresses the dump's pages
    #[arg(long, value_enum, default_value = "zlib")]
    pub(crate) codec: Codec,
    /// Which kinds of pages Holdover leaves out
    #[arg(long, default_value_t = 31)]
    pub(crate) level: u8,
    /// Levels of the processor's page tables
    #[arg(long, value_enum, default_value = "4")]
    pub(crate) paging: Paging,
    /// The QEMU that is the machine
    #[arg(long, value_enum, default_value = "installed", default_value_if("iommu", "amd", "testing"))]
    pub(crate) emulator: Emulator,
    /// How large the machine is
    #[arg(long, value_enum, default_value = "desk")]
    pub(crate) scale: Scale,
    /// The firmware, and so who starts the kernel that crashes
    #[arg(long, value_enum, default_value = "bios")]
    pub(crate) firmware: Firmware,
    /// Whether the kernel that crashes is locked down
    #[arg(long, value_enum, default_value = "by-firmware")]
    pub(crate) lockdown: Lockdown,
    /// The display
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) display: Display,
    /// The board
    #[arg(long, value_enum, default_value = "q35")]
    pub(crate) board: Board,
    /// The remapping unit and its use
    #[command(flatten)]
    pub(crate) unit: UnitSetting,
    /// The disk that should take the dump
    #[arg(long, value_enum, default_value = "labelled")]
    pub(crate) disk: Disk,
    /// How many machines have crashed with that disk before, each dump of which was collected
    #[arg(long, default_value_t = 0)]
    pub(crate) panics_before: u32,
    /// What happens to the file that is the area, if it is one, after Holdover was loaded
    #[arg(long, value_enum, default_value = "untouched")]
    pub(crate) file_fate: FileFate,
    /// What kind of disk that is
    #[arg(long, value_enum, default_value = "virtio-blk")]
    pub(crate) disk_model: DiskModel,
    /// What is unusual about it, if it is an NVMe controller's
    #[arg(long, value_enum)]
    pub(crate) nvme: Vec<NvmeOddity>,
    /// Bytes per second that it takes, if not as many as the host; the scenario itself can ask for a slow disk
    #[arg(long, value_name = "BYTES")]
    pub(crate) disk_rate: Option<u32>,
    /// What the crashing Linux does with that disk; both kinds of use want a disk of an AHCI or NVMe controller, or of a SCSI host
    #[arg(long, value_enum, default_value = "idle")]
    pub(crate) disk_use: DiskUse,
    /// What goes wrong with that disk in the middle of the dump; one that hangs is slow before
    #[arg(long, value_enum)]
    pub(crate) disk_trouble: Option<DiskTrouble>,
    /// Where that disk is
    #[arg(long, value_enum, default_value = "root-bus")]
    pub(crate) disk_place: DiskPlace,
    /// How the capture kernel comes to run
    #[arg(long, value_enum, default_value = "panic")]
    pub(crate) start: Start,
    /// Machine check while Holdover writes the dump, as soon as the vital pages are said to be safe; the dump's disk is slow then
    #[arg(long, value_enum)]
    pub(crate) machine_check: Option<MachineCheck>,
    /// How the machine ends; where that is in the middle of the dump, its disk is slow
    #[arg(long, value_enum, default_value = "reset")]
    pub(crate) end: End,
    /// Processors
    #[arg(long, default_value_t = 1)]
    pub(crate) cpus: u32,
    /// RAM in MiB
    #[arg(long, default_value_t = 1024)]
    pub(crate) memory_mib: u64,
    /// What the crashing Linux has done with it
    #[arg(long, value_enum, default_value = "idle")]
    pub(crate) memory_use: MemoryUse,
    /// The crash reservation in MiB
    #[arg(long, default_value_t = 16)]
    pub(crate) reserved_mib: u64,
    /// Where the crash reservation is
    #[arg(long, value_enum, default_value = "low")]
    pub(crate) reservation: Reservation,
    /// The watchdog that is armed before the crash; the dump's disk is slow then, so that it would bite
    #[arg(long, value_enum)]
    pub(crate) watchdog: Option<Watchdog>,
    /// Deliberate fault in the capture kernel
    #[arg(long, value_enum)]
    pub(crate) mutation: Option<Mutation>,
    /// Damage to the dead kernel's tables, if the machine is stopped for its memory to be copied
    #[arg(long, value_enum)]
    pub(crate) damage: Option<Damage>,
    /// What the loader's hand-over loses, if the machine is stopped for its memory to be copied
    #[arg(long, value_enum)]
    pub(crate) loss: Option<Loss>,
}

impl Scenario {
    /// The plain case for a kernel, from which the others differ in one field or two.
    pub(crate) fn plain(kernel: Flavour) -> Self {
        Self {
            kernel,
            capture: Capture::Holdover,
            second_use: SecondUse::On,
            second_kernel: None,
            target: Target::Disk,
            syscall: Syscall::File,
            codec: Codec::Zlib,
            level: 31,
            paging: Paging::FourLevel,
            emulator: Emulator::Installed,
            scale: Scale::Desk,
            firmware: Firmware::Bios,
            lockdown: Lockdown::ByFirmware,
            display: Display::None,
            board: Board::Q35,
            unit: UnitSetting::PLAIN,
            disk: Disk::Labelled,
            panics_before: 0,
            file_fate: FileFate::Untouched,
            disk_model: DiskModel::VirtioBlk,
            nvme: Vec::new(),
            disk_rate: None,
            disk_use: DiskUse::Idle,
            disk_trouble: None,
            disk_place: DiskPlace::RootBus,
            start: Start::Panic,
            machine_check: None,
            end: End::Reset,
            cpus: 1,
            memory_mib: 1024,
            memory_use: MemoryUse::Idle,
            reserved_mib: 16,
            reservation: Reservation::Low,
            watchdog: None,
            mutation: None,
            damage: None,
            loss: None,
        }
    }

    /// The plain case with an IOMMU of AMD's.
    pub(crate) fn amd(kernel: Flavour) -> Self {
        Self { emulator: Emulator::Testing, unit: UnitSetting::AMD, ..Self::plain(kernel) }
    }

    /// Whether there is one more disk, with the first area or the only one; `disk_trouble` is its own then.
    pub(crate) fn has_first_disk(&self) -> bool {
        self.disk == Disk::AfterFailing || self.capture == Capture::Fallback
    }

    /// Whether `holdover load` must refuse such a machine: its administrator uses `kexec` in spite of that.
    pub(crate) fn is_refused(&self) -> bool {
        self.disk_model == DiskModel::VirtioLegacy
    }

    /// Whether the capture kernel has the signature that the crashing kernel wants.
    pub(crate) fn is_signed(&self) -> bool {
        self.firmware == Firmware::SecureBoot
    }

    /// Whether the crashing kernel wants a signature by a key of which nobody has the private half.
    pub(crate) fn loads_nothing(&self) -> bool {
        self.lockdown == Lockdown::ByCommandLine && !self.is_signed()
    }

    /// A table of ACPI's that the firmware has besides its own.
    pub(crate) fn firmware_table(&self) -> Option<Vec<u8>> {
        match (self.watchdog, self.unit.translation) {
            (Some(Watchdog::Wdat), _) => Some(watchdog::table()),
            (_, Translation::Absent) => Some(unit::table_with_absent_unit()),
            _ => None,
        }
    }

    /// The command line of the kernel that crashes.
    pub(crate) fn kernel_command_line(&self) -> String {
        let iommu = self.unit.kernel_options();
        let reserved = self.reserved_mib;
        let reserved = match self.reservation {
            Reservation::Low => format!("crashkernel={reserved}M"),
            Reservation::High => format!("crashkernel={reserved}M,high crashkernel={reserved}M,low"),
            Reservation::OnlyHigh => format!("crashkernel={reserved}M,high crashkernel=0,low"),
        };
        // On a busy host, an emulated timer can tick too late for Linux's check of its interrupt, which ends in a panic.
        // Mode 0x117 of VESA's, plus 0x200 as Linux counts: 1024 x 768 pixels of 16 bits. Under UEFI it means nothing.
        let display = if self.display == Display::Vga { "vga=0x317 console=tty0 " } else { "" };
        let options = "console=ttyS0 printk.devkmsg=on panic=1 no_timer_check";
        let lockdown = if self.lockdown == Lockdown::ByCommandLine { "lockdown=integrity " } else { "" };
        format!("{display}{lockdown}{options} {} {iommu} {reserved}", self.start.kernel_options())
    }
}
