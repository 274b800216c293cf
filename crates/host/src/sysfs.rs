//! Finds a disk or a partition in `/sys`: the whole disk, the byte at which a partition begins, and the PCI function
//! of the disk's controller.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{io, num};

use pci::{Class, Function, Identity};

use crate::mapped::{self, MappedError, Stretch};

/// Where the kernel shows what it knows of the machine.
pub(crate) const SYS: &str = "/sys";

/// Bytes in the unit in which the kernel counts, whatever the disk's own sectors are.
const SECTOR: u64 = 512;
/// Most devices of the device mapper's on top of each other: a volume, a partition in it, and one more.
const MOST_MAPS: u32 = 3;

/// Why `/sys` does not tell what is asked of it.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum SysfsError {
    /// There is no such device.
    #[error("cannot find {device}; `lsblk` lists the disks and partitions that there are")]
    NoDevice {
        /// The path that was given.
        device: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// It is a file, or something else.
    #[error(
        "{device} is not a block device: the capture kernel finds disks and partitions only; `holdover format FILE --size 2G` makes a file that it finds"
    )]
    NotABlockDevice {
        /// The path that was given.
        device: PathBuf,
    },
    /// The kernel has the device, and `/sys` does not.
    #[error("cannot find {entry}; is /sys mounted?")]
    NoEntry {
        /// The device's entry in `/sys`.
        entry: String,
        /// What the host's file system said.
        source: io::Error,
    },
    /// It is a device of the device mapper's that is more than a stretch of a disk.
    #[error(transparent)]
    Mapped(#[from] MappedError),
    /// It is a RAID, or made of devices that lead nowhere.
    #[error("{disk} is not a disk of its own but made of others; use a partition of a disk")]
    MadeOfOthers {
        /// The kernel's name of it.
        disk: String,
    },
    /// There is no list of disks.
    #[error("cannot list disks; is /sys mounted?")]
    NoList(#[source] io::Error),
    /// A file in `/sys` cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// A file in `/sys` has something else in it than one number.
    #[error("{path} holds no number: {text:?}")]
    NoNumber {
        /// The file.
        path: PathBuf,
        /// What is in it.
        text: String,
        /// What is wrong with it.
        source: num::ParseIntError,
    },
}

type Result<T> = std::result::Result<T, SysfsError>;

/// Where a disk or a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The kernel's name of the whole disk.
    pub(crate) disk: String,
    /// Byte on the whole disk at which the device begins.
    pub(crate) offset: u64,
    /// Its controller, if that is a PCI function.
    pub(crate) controller: Option<Controller>,
    /// The mapper's UUID of the volume that the device is; `None` if it is a disk or a partition.
    pub(crate) volume: Option<String>,
}

/// The controller of a disk: a PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Controller {
    /// Where it is.
    pub(crate) function: Function,
    /// What it says that it is.
    identity: Identity,
    /// The interface of its virtio device, if it is one.
    virtio: Option<Virtio>,
    /// The function through which Linux reaches it, and what that says that it is, if it is in a domain that Linux made up.
    through: Option<(Function, Identity)>,
}

/// The two interfaces that virtio devices have (virtio 1.3, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Virtio {
    /// Since version 1.0, which the capture kernel's driver needs.
    Modern,
    /// Before it.
    Legacy,
}

impl Virtio {
    /// Reads the features that the kernel's driver and the device agreed on: a digit for each bit, the lowest first. `None` in
    /// the directory of another device.
    fn read(directory: &Path) -> Option<Self> {
        const VERSION_1: usize = 32;
        let features = fs::read_to_string(directory.join("features")).ok()?;
        let is_modern = *features.as_bytes().get(VERSION_1)? == b'1';
        Some(if is_modern { Self::Modern } else { Self::Legacy })
    }
}

impl Controller {
    /// Finds the function closest to a disk on its way from the root.
    fn above(disk: &Path, virtio: Option<Virtio>) -> Option<Self> {
        let mut functions = disk.ancestors().filter_map(|directory| Self::read(directory, virtio));
        let closest = functions.next()?;
        let through = if closest.function.segment < pci::vmd::FIRST_DOMAIN {
            None
        } else {
            let mut outer = functions.filter(|outer| outer.function.segment < pci::vmd::FIRST_DOMAIN);
            outer.next().map(|outer| (outer.function, outer.identity))
        };
        Some(Self { through, ..closest })
    }

    /// Reads a function's directory in `/sys/devices`; `None` if it is none. `virtio` is what is known of a device below it.
    fn read(directory: &Path, virtio: Option<Virtio>) -> Option<Self> {
        let function = function_named(&name(directory))?;
        let number = |file| {
            let text = fs::read_to_string(directory.join(file)).ok()?;
            u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
        };
        let id = |file| number(file).and_then(|id| u16::try_from(id).ok());
        let class = Class::from_code(number("class")?);
        Some(Self {
            function,
            identity: Identity { vendor: id("vendor")?, device: id("device")?, class },
            virtio,
            through: None,
        })
    }

    /// Says why the capture kernel could not use the controller, if that is so.
    pub(crate) fn objection(&self) -> Option<String> {
        let Self { function, identity: Identity { vendor, device, .. }, virtio, through } = self;
        if let Some((outer, Identity { vendor, device, .. })) =
            through.filter(|(_, identity)| !pci::vmd::is_vmd(*identity))
        {
            return Some(format!(
                "{function} is behind {outer} ({vendor:04x}:{device:04x}), which is no volume management device that the capture \
                 kernel knows: use a disk elsewhere, or turn the device off in the firmware's set-up"
            ));
        }
        if !storage::has_driver(self.identity) {
            return Some(format!(
                "the capture kernel has no driver for {function} ({vendor:04x}:{device:04x})"
            ));
        }
        let is_legacy = *virtio == Some(Virtio::Legacy);
        is_legacy.then(|| {
            format!(
                "{function} is a virtio device without VIRTIO_F_VERSION_1, and the capture kernel needs virtio 1.0 or later \
                 (QEMU: disable-modern=off)"
            )
        })
    }
}

/// Whether two paths name one device.
pub(crate) fn are_same(one: &Path, other: &Path) -> bool {
    let number = |device: &Path| {
        let metadata = device.metadata().ok()?;
        metadata.file_type().is_block_device().then(|| metadata.rdev())
    };
    one == other || number(one).is_some_and(|one| number(other) == Some(one))
}

/// Finds a block device in `/sys` by its number, whatever it is called in `/dev`.
pub(crate) fn locate(device: &Path) -> Result<Location> {
    let device = device.to_owned();
    let metadata = match device.metadata() {
        Ok(metadata) => metadata,
        Err(source) => return Err(SysfsError::NoDevice { device, source }),
    };
    if !metadata.file_type().is_block_device() {
        return Err(SysfsError::NotABlockDevice { device });
    }
    let number = metadata.rdev();
    locate_number((libc::major(number), libc::minor(number)), MOST_MAPS)
}

/// Finds a block device by its number, through `maps` devices of the mapper's at most.
fn locate_number((major, minor): (u32, u32), maps: u32) -> Result<Location> {
    let entry = format!("/sys/dev/block/{major}:{minor}");
    let entry = fs::canonicalize(&entry).map_err(|source| SysfsError::NoEntry { entry, source })?;
    if !entry.join("dm").exists() {
        return locate_entry(&entry);
    }
    let Some(maps) = maps.checked_sub(1) else { return Err(SysfsError::MadeOfOthers { disk: name(&entry) }) };
    let Stretch { device, start } = mapped::stretch(&name(&entry), (major, minor))?;
    let below = locate_number(device, maps)?;
    let offset = start.checked_mul(SECTOR).and_then(|start| below.offset.checked_add(start));
    let offset = offset.ok_or_else(|| SysfsError::MadeOfOthers { disk: name(&entry) })?;
    let volume = fs::read_to_string(entry.join("dm/uuid")).unwrap_or_default();
    Ok(Location { offset, volume: Some(volume.trim().to_owned()), ..below })
}

/// What tells a disk from others, whatever the kernel calls it, if the disk says so: its world-wide name, or its serial number.
pub(crate) fn identity(disk: &str) -> Option<String> {
    let entry = Path::new("/sys/class/block").join(disk);
    ["wwid", "device/wwid", "serial", "device/serial"].iter().find_map(|file| {
        let said = fs::read_to_string(entry.join(file)).ok()?;
        Some(said.trim().to_owned()).filter(|said| !said.is_empty())
    })
}

/// Reads a device's directory in `/sys/devices`.
fn locate_entry(entry: &Path) -> Result<Location> {
    let is_partition = entry.join("partition").exists();
    let disk = if is_partition { entry.parent().unwrap_or(entry) } else { entry };
    let offset = if is_partition { number(&entry.join("start"))? * SECTOR } else { 0 };
    if disk.join("dm").exists() || disk.join("md").exists() {
        return Err(SysfsError::MadeOfOthers { disk: name(disk) });
    }
    Ok(Location { disk: name(disk), offset, controller: controller(disk), volume: None })
}

/// The PCI function closest to the disk on its way from the root.
fn controller(disk: &Path) -> Option<Controller> {
    let virtio = disk.ancestors().find_map(Virtio::read);
    Controller::above(disk, virtio)
        .or_else(|| nvme_paths(disk).find_map(|path| Controller::above(&path, virtio)))
}

/// The paths to a namespace that several NVMe controllers may share. Linux shows it below its subsystem, which is no device, and
/// each path below a controller: `nvme0c1n2` is `nvme0n2` behind the controller 1. Those that work come first.
fn nvme_paths(namespace: &Path) -> impl Iterator<Item = PathBuf> {
    let controllers = namespace.parent().and_then(|subsystem| fs::read_dir(subsystem).ok());
    let mut controllers: Vec<_> =
        controllers.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    controllers.sort_by_key(|controller| (!is_live(controller), controller.clone()));
    let namespace = name(namespace);
    controllers.into_iter().filter_map(move |controller| {
        let controller = fs::canonicalize(controller).ok()?;
        let mut paths = fs::read_dir(&controller).ok()?.flatten().map(|entry| entry.path());
        paths.find(|path| is_nvme_path(&name(path), &namespace))
    })
}

/// Whether Linux says that it can use an NVMe controller.
fn is_live(controller: &Path) -> bool {
    fs::read_to_string(controller.join("state")).is_ok_and(|state| state.trim() == "live")
}

/// Whether `path` is the name of a path to `namespace`: the same name, with a controller's number in it.
fn is_nvme_path(path: &str, namespace: &str) -> bool {
    let (Some((subsystem, rest)), Some((of, number))) = (path.split_once('c'), namespace.rsplit_once('n'))
    else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    rest.split_once('n')
        .is_some_and(|(controller, rest)| digits(controller) && subsystem == of && rest == number)
}

/// The PCI function whose directory has this name: `0000:00:04.0`. Linux writes all digits.
fn function_named(name: &str) -> Option<Function> {
    name.parse().ok().filter(|function: &Function| function.to_string() == name)
}

/// The devices of all disks and partitions, by the kernel's names.
pub(crate) fn block_devices() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir("/sys/class/block").map_err(SysfsError::NoList)?;
    let names = entries.map(|entry| entry.map(|entry| Path::new("/dev").join(entry.file_name())));
    let mut devices = names.collect::<io::Result<Vec<_>>>().map_err(SysfsError::NoList)?;
    devices.sort();
    Ok(devices)
}

/// Reads a file that holds one number.
pub(crate) fn number(path: &Path) -> Result<u64> {
    let path = path.to_owned();
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|source| SysfsError::NoNumber { path, text, source }),
        Err(source) => Err(SysfsError::Read { path, source }),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directory of the first partition of a disk as Linux lays it out.
    fn partition(root: &Path, disk: &str) -> PathBuf {
        let partition = root.join("devices").join(disk).join("disk1");
        fs::create_dir_all(&partition).unwrap();
        fs::write(partition.join("partition"), "1\n").unwrap();
        fs::write(partition.join("start"), "2048\n").unwrap();
        for function in partition.ancestors().filter(|folder| function_named(&name(folder)).is_some()) {
            fs::write(function.join("vendor"), "0x1af4\n").unwrap();
            fs::write(function.join("device"), "0x1042\n").unwrap();
            fs::write(function.join("class"), "0x010000\n").unwrap();
        }
        partition
    }

    #[test]
    fn a_partition_is_located_on_its_disk_and_behind_the_nearest_function() {
        for (disk, way) in [("vda", "virtio1"), ("sda", "ata6/host5/target5:0:0/5:0:0:0")] {
            check_partition(disk, &format!("pci0000:00/0000:00:1c.0/0000:01:00.0/{way}/block/{disk}"));
        }
    }

    fn check_partition(disk: &str, path: &str) {
        let root = tempfile::tempdir().unwrap();
        let partition = partition(root.path(), path);
        let location = locate_entry(&partition).unwrap();
        assert_eq!(location.disk, disk);
        assert_eq!(location.offset, 1 << 20);
        let controller = location.controller.clone().unwrap();
        assert_eq!(
            (controller.function.to_string().as_str(), controller.objection()),
            ("0000:01:00.0", None)
        );
        let whole = locate_entry(partition.parent().unwrap()).unwrap();
        assert_eq!((whole.offset, whole.controller), (0, location.controller));
    }

    #[test]
    fn a_disk_without_a_function_has_none_and_one_made_of_others_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let partition = partition(root.path(), "virtual/block/loop0");
        assert_eq!(locate_entry(&partition).unwrap().controller, None);
        fs::create_dir(partition.parent().unwrap().join("md")).unwrap();
        assert!(locate_entry(&partition).unwrap_err().to_string().contains("made of others"));
    }

    /// The disk's directory is in no function's: only the subsystem's links lead to the controllers.
    #[test]
    fn a_namespace_of_several_controllers_is_behind_one_that_works() {
        let root = tempfile::tempdir().unwrap();
        let devices = root.path().join("devices");
        let subsystem = devices.join("virtual/nvme-subsystem/nvme-subsys3");
        let namespace = subsystem.join("nvme3n1");
        fs::create_dir_all(namespace.join("nvme3n1p1")).unwrap();
        fs::write(namespace.join("nvme3n1p1/partition"), "1\n").unwrap();
        fs::write(namespace.join("nvme3n1p1/start"), "2048\n").unwrap();
        for (function, controller, state) in
            [("0000:01:00.0", "nvme3", "dead"), ("0000:02:00.0", "nvme4", "live")]
        {
            let function = devices.join("pci0000:00/0000:00:1c.0").join(function);
            let number = &controller[4..];
            let controller = function.join("nvme").join(controller);
            // Other namespaces, one of which has the same number in another subsystem.
            for path in
                [format!("nvme3c{number}n1"), format!("nvme3c{number}n11"), format!("nvme13c{number}n1")]
            {
                fs::create_dir_all(controller.join(path)).unwrap();
            }
            fs::write(controller.join("state"), format!("{state}\n")).unwrap();
            fs::write(function.join("vendor"), "0x144d\n").unwrap();
            fs::write(function.join("device"), "0xa824\n").unwrap();
            fs::write(function.join("class"), "0x010802\n").unwrap();
            std::os::unix::fs::symlink(&controller, subsystem.join(name(&controller))).unwrap();
        }
        let location = locate_entry(&namespace.join("nvme3n1p1")).unwrap();
        assert_eq!((location.disk.as_str(), location.offset), ("nvme3n1", 1 << 20));
        let controller = location.controller.unwrap();
        let told = (controller.function.to_string(), controller.objection());
        assert_eq!(told, ("0000:02:00.0".to_owned(), None));
    }

    #[test]
    fn a_path_to_a_namespace_has_its_name_and_a_controllers_number() {
        assert!(is_nvme_path("nvme0c1n2", "nvme0n2") && is_nvme_path("nvme10c11n12", "nvme10n12"));
        for other in
            ["nvme0c1n1", "nvme1c0n2", "nvme0n2", "nvme0cn2", "nvme0c1n2p1", "nvme0c1", "ng0c1n2", "state"]
        {
            assert!(!is_nvme_path(other, "nvme0n2"), "{other}");
        }
    }

    #[test]
    fn a_function_without_a_driver_is_objected_to() {
        let function = "0000:00:1f.2".parse().unwrap();
        let identity = Identity { vendor: 0x1af4, device: 0x1000, class: Class::from_code(0x020000) };
        let controller = Controller { function, identity, virtio: None, through: None };
        assert!(controller.objection().unwrap().contains("1af4:1000"));
    }

    /// Linux gives the functions behind Intel's volume management device a domain of their own, of five digits.
    #[test]
    fn a_disk_behind_a_volume_management_device_is_named_by_its_domain() {
        let root = tempfile::tempdir().unwrap();
        let vmd = "pci0000:00/0000:00:0e.0";
        let way = "pci10000:e0/10000:e0:06.0/10000:e1:00.0/nvme/nvme0";
        let partition = partition(root.path(), &format!("{vmd}/{way}/nvme0n1"));
        let function = root.path().join("devices").join(vmd);
        fs::write(function.join("vendor"), "0x8086\n").unwrap();
        let with = |device| {
            fs::write(function.join("device"), format!("{device}\n")).unwrap();
            locate_entry(&partition).unwrap().controller.unwrap()
        };
        let (known, unknown) = (with("0x467f"), with("0x1234"));
        assert_eq!((known.function.to_string().as_str(), known.objection()), ("10000:e1:00.0", None));
        let objection = unknown.objection().unwrap();
        assert!(objection.starts_with("10000:e1:00.0 is behind 0000:00:0e.0 (8086:1234)"), "{objection}");
        assert!(objection.contains("firmware's set-up"), "{objection}");
    }

    #[test]
    fn a_virtio_disk_of_the_old_kind_is_objected_to() {
        let root = tempfile::tempdir().unwrap();
        let device = "pci0000:00/0000:00:04.0/virtio1";
        let partition = partition(root.path(), &format!("{device}/block/vda"));
        let objection = |version_1: char| {
            let features = format!("{}{version_1}{}\n", "0".repeat(32), "0".repeat(31));
            fs::write(root.path().join("devices").join(device).join("features"), features).unwrap();
            locate_entry(&partition).unwrap().controller.unwrap().objection()
        };
        assert_eq!(objection('1'), None);
        assert!(objection('0').unwrap().contains("VIRTIO_F_VERSION_1"));
    }

    #[test]
    fn functions_are_told_from_other_names() {
        assert!(function_named("10ab:3f:1e.7").is_some() && function_named("10000:e1:00.0").is_some());
        for other in [
            "pci0000:00",
            "0000:00:04",
            "0000.00.04:0",
            "0000:00.04.0",
            "0000:00:04.00",
            "0:0:4.0",
            "virtio0",
            "",
        ] {
            assert_eq!(function_named(other), None, "{other}");
        }
    }
}
