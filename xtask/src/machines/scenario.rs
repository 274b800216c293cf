//! What varies from run to run: which kernel crashes on which machine, and how Holdover was loaded.

pub(crate) mod device;
pub(crate) mod file_system;
pub(crate) mod mutation;
pub(crate) mod unit;
pub(crate) mod watchdog;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::crashes::damage::Damage;
use crate::crashes::handover::Loss;
use crate::guests::archive::Suite;
use crate::guests::kernels::Flavour;
use crate::guests::stock::SecondUse;
use crate::guests::target::Target;
use crate::machines::emulator::Emulator;
use crate::machines::firmware::Firmware;
use crate::machines::scale::Scale;
use device::{DiskModel, DiskPlace, DiskTrouble, DiskUse, NvmeOddity};
use file_system::{FileFate, FileSystem};
use mutation::Mutation;
use unit::{Iommu, Translation, UnitSetting};
use watchdog::Watchdog;

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

/// Where the crash reservation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reservation {
    /// Below 4 GiB.
    Low,
    /// Above 4 GiB, with a second one below for devices that reach no further.
    High,
    /// Above 4 GiB, and nothing below.
    OnlyHigh,
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

/// The board, which decides how configuration space is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Board {
    /// PCI Express, with configuration space mapped into memory.
    Q35,
    /// Conventional PCI, with configuration space behind ports; no remapping unit fits.
    Pc,
}

/// The disk that should take the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Disk {
    /// Carries Holdover's label and is large enough.
    Labelled,
    /// Carries the label, but the dump does not fit.
    TooSmall,
    /// Carries the label; the pages that readers need fit, the dump of a machine of several GiB does not.
    Tight,
    /// Carries the label; a dump of level 31 fits, one of level 1 does not.
    TooSmallForLevel,
    /// Carries another label than the one that was named when Holdover was loaded.
    OtherLabel,
    /// Carries the second of two labels that were named; no disk carries the first.
    AfterMissing,
    /// Carries the second of two labels that were named; the first is on a disk that refuses writes in the middle of the dump.
    AfterFailing,
    /// Has an ext4 file system with a file that is the area.
    FileExt4,
    /// Has an xfs file system with such a file.
    FileXfs,
    /// Has a btrfs file system with such a file.
    FileBtrfs,
    /// Has a partition, from [`Disk::PART`] on, that is the area.
    Partition,
    /// Has the area at the same place, to which Linux gives a device of its own, as to an LVM volume of one piece.
    Volume,
    /// Carries the label, and the dump of a panic before this one, which nobody has collected.
    HoldsDump,
}

impl Disk {
    /// Byte at which a partition or a volume begins.
    pub(crate) const PART: u64 = 1 << 20;
    /// The device of a volume in the guest.
    pub(crate) const VOLUME: &str = "/dev/dm-0";

    /// Byte at which the area begins, unless it is a file.
    pub(crate) fn area_start(self) -> u64 {
        if matches!(self, Self::Partition | Self::Volume) { Self::PART } else { 0 }
    }

    /// What the guest does first if the area is on a volume.
    pub(crate) fn map_volume(self) -> String {
        if self != Self::Volume {
            return String::new();
        }
        format!(
            "disk=/dev/vda; DM_DISABLE_UDEV=1 dmsetup create area --table \"0 $(($(blockdev --getsz $disk) - {start})) linear $disk {start}\"\n",
            start = Self::PART / 512
        )
    }

    /// The file system in which the area is a file, if it is one.
    pub(crate) fn file_system(self) -> Option<FileSystem> {
        match self {
            Self::FileExt4 => Some(FileSystem::Ext4),
            Self::FileXfs => Some(FileSystem::Xfs),
            Self::FileBtrfs => Some(FileSystem::Btrfs),
            _ => None,
        }
    }
}

/// How the capture kernel comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Start {
    /// The old kernel panics.
    Panic,
    /// The old kernel panics on its second processor.
    PanicElsewhere,
    /// The old kernel panics in an interrupt of its serial port.
    PanicInInterrupt,
    /// The old kernel panics in an NMI, as it does where one tells of a hard lockup.
    PanicInNmi,
    /// A fatal machine check makes the old kernel panic.
    MachineCheck,
    /// `kexec -e`, as an ordinary reboot into it: there is no crash, and no dead kernel's memory.
    Exec,
}

impl Start {
    /// What the old kernel's command line must have for it.
    fn kernel_options(self) -> &'static str {
        match self {
            Self::PanicInInterrupt => "sysrq_always_enabled",
            Self::PanicInNmi => "unknown_nmi_panic",
            _ => "",
        }
    }
}

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

/// What the machine has for people to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Display {
    /// Nothing.
    None,
    /// A VGA adapter. UEFI leaves a framebuffer of 32 bits a pixel, Linux' set-up code one of VESA's with 16. Pictures are taken of it.
    Vga,
}

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    /// Holdover resets it.
    Reset,
    /// A watchdog resets it.
    Watchdog,
    /// Holdover resets it, and each request to the dump's disk is recorded: the power can be cut at each of them afterwards.
    Recorded,
    /// Its power goes while the dump is written, as soon as the vital pages are said to be safe.
    PowerCut,
    /// Its power goes as soon as the dead kernel's log is said to be safe.
    PowerCutAfterLog,
    /// The dump's disk goes as soon as the dead kernel's log is said to be safe; Holdover resets the machine.
    DiskGoneAfterLog,
}

/// A machine check of processor 0. Its status words are those of the Intel SDM, volume 3, chapter 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MachineCheck {
    /// Memory that nobody was reading is bad: the interrupted program can go on.
    Recoverable,
    /// The processor's state is corrupt.
    Fatal,
}

impl MachineCheck {
    /// The status of the bank that reports it.
    pub(crate) fn bank_status(self) -> u64 {
        match self {
            // VAL, UC, EN, MISCV, ADDRV, S: memory scrubbing found an error (table 16-8).
            Self::Recoverable => 0xBD00_0000_0000_00C0,
            // VAL, UC, EN, PCC: an internal timer ran out.
            Self::Fatal => 0xB200_0000_0000_0400,
        }
    }

    /// The processor's status: MCIP, and RIPV if the interrupted program can go on.
    pub(crate) fn global_status(self) -> u64 {
        match self {
            Self::Recoverable => 0b101,
            Self::Fatal => 0b100,
        }
    }
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

/// What the crashing Linux has done with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MemoryUse {
    /// Next to nothing.
    Idle,
    /// Pages of every kind that a dump may leave out are in use: huge, cached, poisoned, offline, given back by a balloon.
    EveryKind,
}

/// A dump at this rate takes longer than the bench's watchdogs wait.
const WATCHED_RATE: u32 = 2_000_000;
/// A dump at this rate is sealed some times on the way.
const RECORDED_RATE: u32 = 6_000_000;
/// A dump at this rate goes on for seconds after each event that the bench waits for: the bench may be late.
const INTERRUPTED_RATE: u32 = 3_000_000;

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

    /// Bytes per second that the dump's disk takes, if it is not as fast as the host makes it. It must be slow for something to
    /// happen in the middle of the dump.
    pub(crate) fn dump_rate(&self) -> Option<u32> {
        if self.watchdog.is_some() {
            return Some(WATCHED_RATE);
        }
        if self.end == End::Recorded {
            return Some(RECORDED_RATE);
        }
        if self.display == Display::Vga && self.end == End::Reset {
            return Some(INTERRUPTED_RATE);
        }
        let ends = [End::PowerCut, End::PowerCutAfterLog, End::DiskGoneAfterLog].contains(&self.end);
        let hangs = self.disk_trouble == Some(DiskTrouble::Hang);
        if ends || hangs || self.machine_check.is_some() {
            return Some(INTERRUPTED_RATE);
        }
        self.disk_rate
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
