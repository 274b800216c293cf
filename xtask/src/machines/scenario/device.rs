//! The PCI functions of the bench machine, and the source-ids of their requests to the remapping unit.

use clap::ValueEnum;
use serde::Serialize;

/// A PCI function of the bench machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// What a person calls it.
    pub(crate) name: &'static str,
    /// Slot on its bus; the function is always 0.
    pub(crate) slot: u8,
}

impl Device {
    /// The disk that takes the dump, whatever its model.
    pub(crate) const DUMP_DISK: Self = Self { name: "dump's disk", slot: 0x10 };
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

    /// The source-id of a device on bus 0.
    pub(crate) const fn source_id(self) -> u16 {
        (self.slot as u16) << 3
    }

    /// Bus, device and function, as people write them.
    pub(crate) fn address(self) -> String {
        address_of(self.source_id())
    }

    /// What a person calls the function with this source-id.
    pub(crate) fn name_of(source_id: u16) -> String {
        let known = Self::ALL.into_iter().find(|device| device.source_id() == source_id);
        known.map_or_else(|| address_of(source_id), |device| device.name.to_owned())
    }
}

/// Bus, device and function of a source-id, as people write them.
pub(crate) fn address_of(source_id: u16) -> String {
    let [bus, function] = source_id.to_be_bytes();
    format!("{bus:02x}:{:02x}.{}", function >> 3, function & 7)
}

/// The source-id of a function that people write so.
pub(crate) fn source_id_of(address: &str) -> Option<u16> {
    let (bus, rest) = address.split_once(':')?;
    let (slot, function) = rest.split_once('.')?;
    let [bus, slot, function] = [bus, slot, function].map(|digits| u8::from_str_radix(digits, 16).ok());
    let devfn = slot?.checked_mul(8)?.checked_add(function?)?;
    Some(u16::from_be_bytes([bus?, devfn]))
}

/// Slot of the bridge, if there is one.
pub(crate) const BRIDGE_SLOT: u8 = 0x15;
/// Slot of the device that takes memory from the guest, if there is one. Linux does not have its requests translated.
pub(crate) const BALLOON_SLOT: u8 = 0x16;

/// Slot of the disk that refuses writes, if there is one.
pub(crate) const FAILING_DISK_SLOT: u8 = 0x17;
/// Slot of the VGA adapter.
pub(crate) const DISPLAY_SLOT: u8 = 0x18;

/// Where the dump's disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskPlace {
    /// On the root bus, as all others.
    RootBus,
    /// Behind a conventional bridge, which speaks for it.
    PciBridge,
    /// Behind a bridge from PCI Express to conventional PCI, for which function 0 of the bus behind it speaks.
    PcieToPciBridge,
    /// Behind a switch, as the only function of its bus.
    Switch,
}

impl DiskPlace {
    /// The source-ids that the disk's requests can carry: its own, and those of the bridge which speaks for it.
    pub(crate) fn source_ids(self) -> Vec<u16> {
        let (disk, bridge, bus_behind) = (Device::DUMP_DISK.source_id(), u16::from(BRIDGE_SLOT) << 3, 1 << 8);
        match self {
            Self::RootBus => vec![disk],
            Self::PciBridge => vec![bus_behind | disk, bridge],
            Self::PcieToPciBridge => vec![bus_behind | disk, bridge, bus_behind],
            // Behind the root port, the switch's upper and its lower port.
            Self::Switch => vec![3 << 8],
        }
    }

    /// QEMU's options for the bridges before the disk, the first one first. The last is called `bridge`.
    pub(crate) fn bridges(self) -> Vec<String> {
        let first = format!("addr={BRIDGE_SLOT:#x}");
        match self {
            Self::RootBus => Vec::new(),
            Self::PciBridge => vec![format!("pci-bridge,id=bridge,chassis_nr=1,{first}")],
            Self::PcieToPciBridge => vec![format!("pcie-pci-bridge,id=bridge,{first}")],
            Self::Switch => vec![
                format!("pcie-root-port,id=before-disk,chassis=20,{first}"),
                "x3130-upstream,id=disk-switch,bus=before-disk".to_owned(),
                "xio3130-downstream,id=bridge,bus=disk-switch,chassis=21,addr=0".to_owned(),
            ],
        }
    }

    /// QEMU's options for the function there, which on a bus of several slots is in `slot`.
    pub(crate) fn options(self, slot: u8) -> String {
        match self {
            Self::RootBus => format!("addr={slot:#x}"),
            Self::PciBridge | Self::PcieToPciBridge => format!("bus=bridge,addr={slot:#x}"),
            Self::Switch => "bus=bridge,addr=0".to_owned(),
        }
    }
}

/// What kind of disk takes the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskModel {
    /// A virtio block device.
    VirtioBlk,
    /// A virtio block device with the interface before version 1.0 only.
    VirtioLegacy,
    /// A namespace of an NVMe controller.
    Nvme,
    /// A disk at the last port of an AHCI controller.
    Ahci,
    /// A disk at a port of the AHCI controller of the board's chipset.
    AhciOfChipset,
    /// A unit of a virtio SCSI host.
    VirtioScsi,
    /// A target of VMware's paravirtual SCSI host.
    Pvscsi,
    /// A disk of a MegaRAID controller's, for which only Linux has a driver.
    Megasas,
}

impl DiskModel {
    /// QEMU's options for the function, unless the board has it.
    pub(crate) fn function(self) -> Option<&'static str> {
        match self {
            Self::VirtioBlk => Some("virtio-blk-pci,disable-legacy=on,iommu_platform=on"),
            Self::VirtioLegacy => Some("virtio-blk-pci,disable-modern=on,disable-legacy=off"),
            Self::Nvme => Some("nvme,id=dump,serial=dump"),
            Self::Ahci => Some("ahci,id=dump"),
            Self::AhciOfChipset => None,
            Self::VirtioScsi => Some("virtio-scsi-pci,id=dump,disable-legacy=on,iommu_platform=on"),
            Self::Pvscsi => Some("pvscsi,id=dump"),
            Self::Megasas => Some("megasas-gen2,id=dump"),
        }
    }

    /// QEMU's options for the disk behind the function, unless the function itself is the disk.
    pub(crate) fn disk(self) -> Option<&'static str> {
        match self {
            Self::VirtioBlk | Self::VirtioLegacy => None,
            Self::Nvme => Some("nvme-ns,bus=dump"),
            Self::Ahci => Some("ide-hd,bus=dump.5"),
            Self::AhciOfChipset => Some("ide-hd,bus=ide.5"),
            Self::VirtioScsi => Some("scsi-hd,bus=dump.0,scsi-id=5,lun=1"),
            Self::Pvscsi | Self::Megasas => Some("scsi-hd,bus=dump.0,scsi-id=5"),
        }
    }

    /// QEMU's options for another disk behind the function, if there can be one. Linux finds it before the dump's.
    pub(crate) fn neighbour(self) -> Option<&'static str> {
        match self {
            Self::VirtioBlk | Self::VirtioLegacy => None,
            Self::Nvme => Some("nvme-ns,bus=dump,nsid=1"),
            Self::Ahci => Some("ide-hd,bus=dump.1"),
            Self::AhciOfChipset => Some("ide-hd,bus=ide.1"),
            Self::VirtioScsi | Self::Pvscsi | Self::Megasas => Some("scsi-hd,bus=dump.0,scsi-id=2"),
        }
    }

    /// The dump's disk among those behind the function, as Holdover names it; a neighbour is the first namespace of an NVMe
    /// controller.
    pub(crate) fn place(self, disk_use: DiskUse) -> &'static str {
        match (self, disk_use) {
            (Self::VirtioBlk | Self::VirtioLegacy, _) => "disk",
            (Self::Nvme, DiskUse::BusyNeighbour) => "namespace 2",
            (Self::Nvme, _) => "namespace 1",
            (Self::Ahci | Self::AhciOfChipset, _) => "port 5",
            (Self::VirtioScsi, _) => "target 5 unit 1",
            (Self::Pvscsi | Self::Megasas, _) => "target 5 unit 0",
        }
    }

    /// The source-ids that the disk's requests can carry, at a place.
    pub(crate) fn source_ids(self, place: DiskPlace) -> Vec<u16> {
        match self {
            Self::AhciOfChipset => vec![0x1F << 3 | 2],
            _ => place.source_ids(),
        }
    }

    /// What Linux calls the first disk behind the function: a path, or the serial number of an NVMe controller. `guest/find-disk` knows
    /// both.
    pub(crate) fn disk_in_linux(self) -> &'static str {
        match self {
            Self::VirtioBlk | Self::VirtioLegacy => "/dev/vda",
            Self::Nvme => "dump",
            Self::Ahci | Self::AhciOfChipset | Self::VirtioScsi | Self::Pvscsi | Self::Megasas => "/dev/sda",
        }
    }

    /// Modules of Linux for it, besides those of the bench's other devices.
    pub(crate) fn modules(self) -> &'static [&'static str] {
        match self {
            Self::VirtioBlk | Self::VirtioLegacy => &["virtio_blk"],
            Self::Nvme => &["nvme"],
            Self::Ahci | Self::AhciOfChipset => &["ahci", "sd_mod"],
            Self::VirtioScsi => &["virtio_scsi", "sd_mod"],
            Self::Pvscsi => &["vmw_pvscsi", "sd_mod"],
            Self::Megasas => &["megaraid_sas", "sd_mod"],
        }
    }
}

/// What the crashing Linux does with the dump's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskUse {
    /// Nothing.
    Idle,
    /// It reads it without end, faster than the disk is: there are always requests that the disk has not answered.
    Busy,
    /// It reads another disk behind the same function like that.
    BusyNeighbour,
}

impl DiskUse {
    /// The disk that is read, if one is: the first one behind the function, as Linux calls it.
    pub(crate) fn read(self, model: DiskModel) -> Option<&'static str> {
        (self != Self::Idle).then_some(model.disk_in_linux())
    }
}

/// What goes wrong with the dump's disk in the middle of the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskTrouble {
    /// It refuses to write some blocks.
    WriteErrors,
    /// It refuses to write anything.
    NoWrites,
    /// It is so slow from then on, as soon as the vital pages are said to be safe, that it answers nothing any more.
    Hang,
}

/// What is unusual about the NVMe controller of the dump's disk, or about its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NvmeOddity {
    /// Blocks have 4096 bytes.
    LargeBlocks,
    /// One command moves two pages at most.
    SmallTransfers,
    /// There is one pair of queues for requests.
    OneQueuePair,
    /// The disk is namespace 3.
    ThirdNamespace,
    /// The controller has memory of its own, in which Linux puts its queues.
    MemoryBuffer,
}

impl NvmeOddity {
    /// QEMU's option for the controller.
    pub(crate) fn of_controller(self) -> Option<&'static str> {
        match self {
            Self::SmallTransfers => Some("mdts=1"),
            Self::OneQueuePair => Some("max_ioqpairs=1"),
            Self::MemoryBuffer => Some("cmb_size_mb=16"),
            Self::LargeBlocks | Self::ThirdNamespace => None,
        }
    }

    /// QEMU's option for the disk's namespace.
    pub(crate) fn of_namespace(self) -> Option<&'static str> {
        match self {
            Self::LargeBlocks => Some("logical_block_size=4096,physical_block_size=4096"),
            Self::ThirdNamespace => Some("nsid=3"),
            Self::SmallTransfers | Self::OneQueuePair | Self::MemoryBuffer => None,
        }
    }
}
