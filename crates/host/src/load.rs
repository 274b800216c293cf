//! Finds the dump area and its disk, and has the capture kernel loaded; removes it again.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use handoff::{AreaAddress, Areas, HandOver, Options, SerialConsole, Uncollected};
use kdump::Codec;
use pci::Function;
use uuid::Uuid;
use vmcore::Level;

use crate::areas::registry::Registry;
use crate::areas::{self, AreaCopy, AreaError, AreaName, FoundArea, UncollectedDump};
use crate::config::{self, PanicConfiguration};
use crate::crash_slot::{self, OtherCrashKernel, Rival};
use crate::fallback::{FallbackError, FallbackRequest, Packed};
use crate::image::{Image, Origin};
use crate::kexec::{self, Refusal};
use crate::loaded::{self, LoadNote};
use crate::lockdown::Lockdown;
use crate::panic_settings::{self, PanicSettings};
use crate::root_pointer::{self, RootPointerError};
use crate::sysfs::{self, Location, SysfsError};
use crate::watchdogs;
use crate::{Bytes, chain, memory_encryption, reservation};

pub use crate::areas::IfUncollected;
pub use crate::kexec::{KernelLog, KexecError, KexecSyscall, Refused};

/// The root folder of this system.
const ROOT: &str = "/";

/// The capture kernel to load, and its options.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// The capture kernel.
    pub image: Image,
    /// Where dumps go: the areas in the order in which they are tried, at least one and at most [`MOST_AREAS`].
    pub areas: Vec<AreaName>,
    /// PCI function of the first area's disk; `None` takes the one that `/sys` names.
    pub disk: Option<Function>,
    /// Which pages to leave out.
    pub level: Level,
    /// How to compress pages: one of [`Codec::EVERYWHERE`], which the capture kernel knows.
    pub codec: Codec,
    /// The system call that loads.
    pub syscall: KexecSyscall,
    /// More options for the capture kernel's command line.
    pub append: Option<String>,
    /// What becomes of dumps in the areas that nobody has collected.
    pub if_uncollected: IfUncollected,
    /// What becomes of another's crash kernel.
    pub if_taken: IfTaken,
    /// The kernel to which the capture kernel hands the machine over where it cannot write the dump itself. With one, there need be no
    /// area.
    pub fallback: Option<FallbackRequest>,
    /// Which events panic the kernel from then on.
    pub panic: PanicConfiguration,
}

/// What becomes of a crash kernel that is loaded and is not Holdover's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfTaken {
    /// It stays, and nothing is loaded.
    Refuse,
    /// It is replaced.
    Replace,
}

/// Most areas that can be named at once.
pub const MOST_AREAS: usize = Areas::MOST;

impl IfUncollected {
    /// Returns an error if the next panic could go to no area, because dumps in all of them must not be lost.
    fn check(self, dumps: &[UncollectedDump], areas: usize) -> Result<(), LoadError> {
        match dumps {
            [first, ..] if self == Self::Keep && dumps.len() >= areas => {
                Err(LoadError::Uncollected(first.clone()))
            }
            _ => Ok(()),
        }
    }

    /// As the capture kernel is told.
    fn told(self) -> Uncollected {
        match self {
            Self::Keep => Uncollected::Keep,
            Self::Discard => Uncollected::Discard,
        }
    }
}

/// Why the capture kernel was not loaded.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum LoadError {
    /// There is too little memory for it.
    #[error(
        "{} are reserved for a crash kernel, and this machine's devices need more; `holdover setup` asks for crashkernel={}M",
        Bytes(*reserved), needed >> 20
    )]
    ReservedTooLittle {
        /// Bytes that are reserved.
        reserved: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// There is too little memory for it and the fallback kernel.
    #[error(
        "{} are reserved for a crash kernel, and the fallback kernel needs more beside the capture kernel; start this kernel with \
         crashkernel={}M, or leave the fallback out",
        Bytes(*reserved), needed.div_ceil(1 << 20)
    )]
    ReservedTooLittleForFallback {
        /// Bytes that are reserved.
        reserved: u64,
        /// Bytes that both need, in all likelihood.
        needed: u64,
    },
    /// The fallback kernel cannot be loaded.
    #[error(transparent)]
    Fallback(#[from] FallbackError),
    /// The running kernel encrypts its memory.
    #[error(
        "this kernel encrypts its memory (SME or SEV), and the capture kernel could read none of it; {}",
        memory_encryption::REMEDY
    )]
    MemoryEncrypted,
    /// The running kernel loads no crash kernel any more.
    #[error("this kernel loads no crash kernel any more: {found}; {remedy}")]
    Forbidden {
        /// What was found.
        found: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// There is no area that the next dump could go to.
    #[error("{0}. Until then no other dump goes there; `--discard-dump` lets the next one replace it")]
    Uncollected(UncollectedDump),
    /// Another's crash kernel is loaded.
    #[error("{0}")]
    Taken(OtherCrashKernel),
    /// Nobody names an area.
    #[error(
        "no dump area is named; `holdover setup` makes one and writes it to {}, and --area names one",
        config::FILE
    )]
    NoArea,
    /// No areas, or too many of them.
    #[error("{0} dump areas were named: name one, and at most {MOST_AREAS}")]
    AreaCount(usize),
    /// One area was named twice.
    #[error("dump area {0} was named twice; name each area once: `holdover doctor` shows what is where")]
    NamedTwice(Uuid),
    /// The running kernel refused, or kexec failed.
    #[error(transparent)]
    Kexec(#[from] KexecError),
    /// The dump area cannot be used.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// The area's disk cannot be found.
    #[error(transparent)]
    Disk(#[from] SysfsError),
    /// The area's partition begins within a block.
    #[error(
        "{device} begins at byte {offset} of its disk, which is not a multiple of {}; make a partition that begins at a whole \
         mebibyte",
        area::BLOCK
    )]
    Misaligned {
        /// The area's device.
        device: PathBuf,
        /// Where it begins on its disk.
        offset: u64,
    },
    /// The area's disk is not a PCI function's.
    #[error("{disk} has no PCI function in /sys; name the one it is behind with --disk")]
    NoFunction {
        /// The kernel's name of the disk.
        disk: String,
    },
    /// The capture kernel has no driver for the area's disk.
    #[error("{objection}; make a dump area on another disk with `holdover format`")]
    NoDriver {
        /// Which function it is, and why it cannot be used.
        objection: String,
    },
    /// What names ACPI's root pointer cannot be used.
    #[error(transparent)]
    RootPointer(#[from] RootPointerError),
    /// UEFI has started this host, and nothing names ACPI's root pointer.
    #[error(
        "nothing on this host says where ACPI's root pointer is, without which the capture kernel finds no device; \
         `dmesg | grep RSDP` shows it, and --append acpi_rsdp=0x… names it"
    )]
    NoRootPointer,
    /// The running kernel's command line, which names its serial console, cannot be read.
    #[error("cannot read the command line; is /proc mounted?")]
    NoCommandLine(#[source] io::Error),
}

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Where the capture kernel was found.
    pub image: Origin,
    /// The dump areas' devices, in their order.
    pub devices: Vec<PathBuf>,
    /// The capture kernel's command line.
    pub command_line: String,
    /// Areas that were named and left out.
    pub left_out: Vec<LeftOutArea>,
    /// Other devices that could get the dump.
    pub copies: Vec<AreaCopy>,
    /// The dumps in these areas that nobody has collected.
    pub uncollected: Vec<UncollectedDump>,
    /// What becomes of them.
    pub if_uncollected: IfUncollected,
    /// Why `doctor` will not know what was loaded, if it will not.
    pub unnoted: Option<String>,
    /// Why an automatic collect will not know that the areas are this host's, if it will not.
    pub unregistered: Option<String>,
    /// Which events panic the kernel from now on, where that changed.
    pub panic: PanicSettings,
    /// Units that will load another crash kernel at the next boot.
    pub rivals: Vec<Rival>,
}

/// An area that was named, and that no dump can go to until the next load. Its text says what to do.
#[derive(Debug)]
pub struct LeftOutArea {
    /// Its name.
    pub name: AreaName,
    /// Why it cannot be used.
    pub error: AreaError,
}

impl fmt::Display for LeftOutArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, error } = self;
        write!(f, "no dump goes to {name}: {}; once it is there, `holdover load` takes it too", chain(error))
    }
}

/// Has the running kernel load the capture kernel, to be started by a panic.
pub fn load(request: &LoadRequest) -> Result<Loaded, LoadError> {
    let (reserved, needed) = (kexec::reserved()?, reservation::needed(Path::new(sysfs::SYS)));
    check_reservation(reserved, needed)?;
    if let Some(Refusal { found, remedy }) = kexec::refusal() {
        return Err(LoadError::Forbidden { found, remedy });
    }
    if memory_encryption::is_on(Path::new(ROOT)) {
        return Err(LoadError::MemoryEncrypted);
    }
    check_slot(request.if_taken, Path::new(ROOT))?;
    let fallback = request.fallback.as_ref().map(|fallback| pack(fallback, reserved, needed)).transpose()?;
    let (found, left_out) = match (&fallback, &request.areas[..]) {
        (Some(_), []) => (Vec::new(), Vec::new()),
        (_, areas) => find_areas(areas)?,
    };
    // First: after a boot nothing keeps a file in its place, and there may be a dump in it.
    found.iter().try_for_each(FoundArea::pin)?;
    let is_first_there = left_out.iter().all(|area| Some(&area.name) != request.areas.first());
    let uncollected = uncollected(&found)?;
    request.if_uncollected.check(&uncollected, found.len())?;
    let addresses = addresses(&found, request.disk.filter(|_| is_first_there))?;
    let running = fs::read_to_string("/proc/cmdline").map_err(LoadError::NoCommandLine)?;
    let all = areas::all()?;
    let mut loaded = Loaded {
        image: request.image.origin().clone(),
        command_line: command_line(request, addresses, &running)?,
        left_out,
        copies: found.iter().flat_map(|found| found.copies(&all)).collect(),
        uncollected,
        if_uncollected: request.if_uncollected,
        devices: found.iter().map(|found| found.device.clone()).collect(),
        unnoted: None,
        unregistered: None,
        panic: PanicSettings::default(),
        rivals: crash_slot::rivals(Path::new(ROOT)).into_iter().filter(|rival| rival.is_enabled).collect(),
    };
    let initramfs = fallback.as_ref().map(|packed| &packed.file);
    kexec::load(&request.image, initramfs, &loaded.command_line, request.syscall)?;
    let noted = LoadNote::write(&request.image, &loaded.command_line, &found, request.fallback.as_ref());
    loaded.unnoted = noted.err().map(|error| error.to_string());
    loaded.unregistered = Registry::of_host().add_found(&found).err().map(|error| error.to_string());
    // Last: a panic more is no use before it is dumped.
    loaded.panic = panic_settings::apply(Path::new(ROOT), &request.panic);
    Ok(loaded)
}

/// Packs the fallback kernel. The reservation must have room for it beside what the capture kernel keeps.
fn pack(fallback: &FallbackRequest, reserved: u64, kept: u64) -> Result<Packed, LoadError> {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let packed = fallback.pack(kept, Lockdown::now(), &processors)?;
    let needed = packed.weighed.needed.saturating_add(kept);
    if needed > reserved {
        return Err(LoadError::ReservedTooLittleForFallback { reserved, needed });
    }
    Ok(packed)
}

/// Finds the areas with these names, each of them once, at least one; and those that cannot be used, which keep no dump from the others.
fn find_areas(names: &[AreaName]) -> Result<(Vec<FoundArea>, Vec<LeftOutArea>), LoadError> {
    if names.is_empty() {
        return Err(LoadError::NoArea);
    }
    if names.len() > MOST_AREAS {
        return Err(LoadError::AreaCount(names.len()));
    }
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for name in names {
        match areas::find(name) {
            Ok(area) => found.push(area),
            Err(error) => left_out.push(LeftOutArea { name: name.clone(), error }),
        }
    }
    if found.is_empty() {
        return Err(left_out.swap_remove(0).error.into());
    }
    check_each_once(&found)?;
    Ok((found, left_out))
}

fn check_each_once(found: &[FoundArea]) -> Result<(), LoadError> {
    let uuids: Vec<_> = found.iter().map(|found| found.label.uuid).collect();
    match uuids.iter().enumerate().find(|(at, uuid)| uuids[..*at].contains(uuid)) {
        Some((_, uuid)) => Err(LoadError::NamedTwice(*uuid)),
        None => Ok(()),
    }
}

/// The dumps in these areas that nobody has collected.
fn uncollected(found: &[FoundArea]) -> Result<Vec<UncollectedDump>, AreaError> {
    let dumps = found.iter().map(FoundArea::uncollected).collect::<Result<Vec<_>, _>>()?;
    Ok(dumps.into_iter().flatten().collect())
}

/// Where the areas are; the first one's disk is behind `disk`, if that is named.
fn addresses(found: &[FoundArea], mut disk: Option<Function>) -> Result<Areas, LoadError> {
    let address = |found: &FoundArea| {
        let location = found.locate()?;
        check_start(&found.device, location.offset)?;
        let disk = disk.take().map_or_else(|| disk_function(&location), Ok)?;
        Ok(AreaAddress { uuid: found.label.uuid, offset: location.offset, disk: Some(disk) })
    };
    found.iter().map(address).collect()
}

/// Composes the capture kernel's command line; `running` is that of the running kernel.
fn command_line(request: &LoadRequest, areas: Areas, running: &str) -> Result<String, LoadError> {
    let options = Options {
        acpi_rsdp: acpi_root(Path::new(sysfs::SYS), request.append.as_deref(), running)?,
        areas,
        uncollected: request.if_uncollected.told(),
        level: Some(request.level),
        codec: Some(request.codec),
        hand_over: request.fallback.as_ref().map_or_else(HandOver::default, |fallback| fallback.when),
        console: serial_console(running),
        ..Options::default()
    };
    let options = watchdogs::find().tell(options);
    Ok(with_appended(&options, request.append.as_deref()))
}

/// Appends the user's options; where both set an option, the user's counts.
fn with_appended(options: &Options, append: Option<&str>) -> String {
    append.map_or_else(|| options.to_string(), |append| format!("{options} {append}"))
}

/// What was left when the capture kernel was removed.
#[derive(Debug)]
pub struct Unloaded {
    /// Files that stay pinned, because they hold dumps that nobody has collected.
    pub holding: Vec<UncollectedDump>,
    /// Why files that need no pin any more still have theirs.
    pub pinned: Vec<AreaError>,
    /// The crash kernel that stays, because it is not Holdover's.
    pub other: Option<OtherCrashKernel>,
    /// Which events panic the kernel no more, or again.
    pub panic: PanicSettings,
}

/// Has the running kernel remove the capture kernel: from then on a panic is not dumped. Another's crash kernel stays. Files that the
/// capture kernel would have written need not stay in their places, unless there is a dump in them.
pub fn unload() -> Result<Unloaded, KexecError> {
    let areas = loaded::areas();
    let other = crash_slot::other(Path::new(ROOT), crash_slot::owner()?);
    if other.is_none() {
        kexec::unload()?;
    }
    LoadNote::remove();
    let panic = panic_settings::restore(Path::new(ROOT));
    let mut unloaded = Unloaded { holding: Vec::new(), pinned: Vec::new(), other, panic };
    // A file that is lost has no pin.
    for found in areas.iter().filter_map(|area| FoundArea::again(&area.device, area.uuid).ok()) {
        match found.uncollected() {
            Ok(Some(dump)) => unloaded.holding.push(dump),
            Ok(None) | Err(_) => unloaded.pinned.extend(found.unpin().err()),
        }
    }
    Ok(unloaded)
}

/// Leaves another's crash kernel where it is, unless it may be replaced.
fn check_slot(if_taken: IfTaken, root: &Path) -> Result<(), LoadError> {
    if if_taken == IfTaken::Replace {
        return Ok(());
    }
    match crash_slot::other(root, crash_slot::owner()?) {
        Some(other) => Err(LoadError::Taken(other)),
        None => Ok(()),
    }
}

/// Refuses a reservation in which tables for this machine's devices would not fit.
fn check_reservation(reserved: u64, needed: u64) -> Result<(), LoadError> {
    if reserved >= needed {
        return Ok(());
    }
    Err(LoadError::ReservedTooLittle { reserved, needed })
}

/// Refuses an area that the capture kernel will refuse because of its place on the disk.
fn check_start(device: &Path, offset: u64) -> Result<(), LoadError> {
    if offset.is_multiple_of(area::BLOCK) {
        return Ok(());
    }
    Err(LoadError::Misaligned { device: device.to_owned(), offset })
}

/// The function behind which the capture kernel will find the disk.
fn disk_function(location: &Location) -> Result<Function, LoadError> {
    let Some(controller) = &location.controller else {
        return Err(LoadError::NoFunction { disk: location.disk.clone() });
    };
    match controller.objection() {
        Some(objection) => Err(LoadError::NoDriver { objection }),
        None => Ok(controller.function),
    }
}

/// The root pointer that the capture kernel must be told, because UEFI has started this host. What a user appends counts
/// instead. (`kexec -c` appends the same address once more.)
fn acpi_root(sys: &Path, append: Option<&str>, running: &str) -> Result<Option<u64>, LoadError> {
    let is_named = append.is_some_and(|append| Options::parse(append).acpi_rsdp.is_some());
    if is_named || !root_pointer::is_uefi(sys) {
        return Ok(None);
    }
    let named = root_pointer::of_efi(sys)?.or_else(|| root_pointer::of_running_kernel(sys, running));
    named.map(Some).ok_or(LoadError::NoRootPointer)
}

/// The last serial console of the running kernel: the capture kernel speaks there too.
fn serial_console(command_line: &str) -> Option<SerialConsole> {
    Options::parse(command_line).console
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_appends_follows_the_options() {
        let options = Options { level: Some(Level::ALL), ..Options::default() };
        assert_eq!(with_appended(&options, None), "holdover.level=31");
        assert_eq!(with_appended(&options, Some("a=b c")), "holdover.level=31 a=b c");
        assert_eq!(
            Options::parse(&with_appended(&options, Some("holdover.level=0"))).level,
            Some(Level::NOTHING)
        );
    }

    #[test]
    fn the_root_pointer_is_passed_where_uefi_has_started_the_host_and_only_once() {
        let sys = tempfile::tempdir().unwrap();
        let root = |append, running| acpi_root(sys.path(), append, running);
        assert_eq!(root(None, "acpi_rsdp=0x5000").unwrap(), None, "a BIOS");
        fs::create_dir_all(sys.path().join("firmware/efi")).unwrap();
        assert!(matches!(root(None, "quiet"), Err(LoadError::NoRootPointer)));
        assert_eq!(root(None, "acpi_rsdp=0x5000").unwrap(), Some(0x5000));
        fs::write(sys.path().join("firmware/efi/systab"), "ACPI20=0x7f77e014\n").unwrap();
        assert_eq!(root(None, "acpi_rsdp=0x5000").unwrap(), Some(0x7f77_e014));
        assert_eq!(root(Some("acpi_rsdp=0x6000"), "quiet").unwrap(), None, "the user's counts");
        fs::write(sys.path().join("firmware/efi/systab"), "ACPI20=everywhere\n").unwrap();
        assert!(matches!(root(None, "quiet"), Err(LoadError::RootPointer(_))));
    }

    #[test]
    fn the_capture_kernel_speaks_on_the_running_kernels_last_serial_console() {
        let running = "quiet console=tty0 console=ttyS1,9600 console=ttyS0,115200n8 ro";
        assert_eq!(serial_console(running), SerialConsole::new(0, Some(115_200)));
    }

    #[test]
    fn a_reservation_that_is_too_small_is_refused_with_the_one_that_is_needed() {
        assert!(check_reservation(16 << 20, 16 << 20).is_ok());
        let refused = check_reservation(16 << 20, 75 << 20).unwrap_err().to_string();
        assert!(
            refused.starts_with("16.00 MiB are reserved") && refused.ends_with("crashkernel=75M"),
            "{refused}"
        );
    }

    fn dump(device: &str) -> UncollectedDump {
        UncollectedDump { device: device.into(), held: areas::Held::Dump(38 << 20) }
    }

    #[test]
    fn a_dump_that_nobody_collected_is_lost_on_request_only() {
        let dumps = [dump("/dev/vda1")];
        let refused = IfUncollected::Keep.check(&dumps, 1).unwrap_err().to_string();
        assert!(refused.contains("`holdover collect /dev/vda1 FILE` fetches it"), "{refused}");
        assert!(refused.contains("--discard-dump"), "{refused}");
        assert!(IfUncollected::Keep.check(&[], 1).is_ok());
        assert!(IfUncollected::Discard.check(&dumps, 1).is_ok());
    }

    #[test]
    fn an_area_that_is_free_is_enough() {
        let dumps = [dump("/dev/vda1"), dump("/dev/vdb1")];
        assert!(IfUncollected::Keep.check(&dumps, 3).is_ok());
        assert!(IfUncollected::Keep.check(&dumps, 2).is_err());
    }

    #[test]
    fn areas_are_named_once_and_are_few() {
        let found = |uuid| {
            let label = areas::Label { uuid: Uuid::from_u128(uuid), length: 8 << 20, created: 0 };
            FoundArea { device: "/dev/vda".into(), label, file: None }
        };
        assert!(check_each_once(&[found(1), found(2)]).is_ok());
        let twice = check_each_once(&[found(1), found(2), found(1)]);
        assert!(matches!(twice, Err(LoadError::NamedTwice(uuid)) if uuid == Uuid::from_u128(1)));
        assert!(matches!(find_areas(&[]), Err(LoadError::NoArea)));
        let many = vec![AreaName::Uuid(Uuid::nil()); MOST_AREAS + 1];
        assert!(matches!(find_areas(&many), Err(LoadError::AreaCount(5))));
    }

    #[test]
    fn an_area_that_is_not_there_keeps_no_dump_from_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::File::create(path("there")).unwrap().set_len(8 << 20).unwrap();
        areas::format(&path("there"), areas::IfUsed::Refuse, Path::new("/")).unwrap();
        let names = ["gone", "there"].map(|name| AreaName::Device(path(name)));
        let (found, left_out) = find_areas(&names).unwrap();
        assert_eq!((found.len(), &left_out[0].name), (1, &names[0]));
        assert!(left_out[0].to_string().contains("`holdover load` takes it too"), "{}", left_out[0]);
        assert!(matches!(find_areas(&names[..1]), Err(LoadError::Area(_))));
    }

    #[test]
    fn an_area_that_begins_within_a_block_is_refused_before_the_crash() {
        assert!(check_start(Path::new("/dev/vda1"), 1 << 20).is_ok());
        assert!(check_start(Path::new("/dev/vda1"), 63 * 512).is_err());
    }

    #[test]
    fn a_kernel_without_a_serial_console_names_none() {
        assert_eq!(serial_console("quiet console=tty0 ro"), None);
    }
}
