//! How large the machine is: what a server has and the bench's plain machine lacks.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::machines::files::Files;

/// The size of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scale {
    /// A root bus with the bench's devices, and one NUMA node.
    Desk,
    /// Two NUMA nodes, persistent memory, many root ports and a switch, devices that cache translations (ATS), virtual functions
    /// (SR-IOV), a pvpanic device.
    Server,
}

/// Root ports, eight to a slot. Behind each is a source of random numbers, which does DMA and asks for translations.
const ROOT_PORT_SLOTS: [u8; 3] = [0x18, 0x19, 0x1a];
const PORTS_OF_A_SLOT: u8 = 8;
/// The slots of the root ports before the disk with virtual functions, and before the switch.
const VIRTUAL_FUNCTIONS_SLOT: u8 = 0x1b;
const SWITCH_SLOT: u8 = 0x1c;
const PVPANIC_SLOT: u8 = 0x17;
/// Ports of the switch.
const SWITCH_PORTS: u8 = 4;
/// Virtual functions of the disk. Linux counts bus numbers for them when it boots.
pub(crate) const VIRTUAL_FUNCTIONS: u8 = 32;

/// The nodes' memory may grow to this many MiB, in this many slots.
const LARGEST_MIB: u64 = 256 << 10;
const MEMORY_SLOTS: u8 = 4;
const PERSISTENT_BYTES: u64 = 256 << 20;

/// A device that reaches memory through the remapping unit and caches translations.
const RANDOM: &str = "virtio-rng-pci,disable-legacy=on,iommu_platform=on,ats=on";

impl Scale {
    /// Options of QEMU's `-machine`, besides the model.
    pub(crate) fn machine_options(self) -> &'static str {
        match self {
            Self::Desk => "memory-backend=ram",
            Self::Server => "nvdimm=on",
        }
    }

    /// Options of QEMU's `-m`, besides the size.
    pub(crate) fn memory_options(self) -> String {
        match self {
            Self::Desk => String::new(),
            Self::Server => format!(",slots={MEMORY_SLOTS},maxmem={LARGEST_MIB}M"),
        }
    }

    /// Options of the remapping unit, besides its mode.
    pub(crate) fn unit_options(self) -> &'static str {
        match self {
            Self::Desk => "",
            Self::Server => ",device-iotlb=on",
        }
    }

    /// Modules of Linux for the devices of this scale.
    pub(crate) fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Desk => &[],
            Self::Server => &["virtio_rng", "pvpanic_pci", "nfit", "nd_pmem"],
        }
    }

    /// Adds what only a machine of this scale has.
    pub(crate) fn add_to(self, command: &mut Command, files: &Files, cpus: u32) -> Result<()> {
        if self == Self::Desk {
            return Ok(());
        }
        add_nodes(command, cpus);
        add_persistent_memory(command, &files.scratch("persistent"))?;
        command.args(["-device", &format!("pvpanic-pci,addr={PVPANIC_SLOT:#x}")]);
        add_root_ports(command);
        add_switch(command);
        add_virtual_functions(command);
        Ok(())
    }
}

/// All RAM is in the first node, as the witnesses expect it in one file; persistent memory is in the second.
fn add_nodes(command: &mut Command, cpus: u32) {
    let last = cpus - 1;
    command.args(["-numa", "node,nodeid=0,memdev=ram,cpus=0"]);
    let cpus = if last > 0 { format!(",cpus=1-{last}") } else { String::new() };
    command.args(["-numa", &format!("node,nodeid=1{cpus}")]);
}

fn add_persistent_memory(command: &mut Command, file: &Path) -> Result<()> {
    File::create(file)?.set_len(PERSISTENT_BYTES)?;
    let file = file.display();
    command.args([
        "-object",
        &format!("memory-backend-file,id=persistent,share=on,size={PERSISTENT_BYTES},mem-path={file}"),
    ]);
    command.args(["-device", "nvdimm,memdev=persistent,node=1"]);
    Ok(())
}

fn add_root_ports(command: &mut Command) {
    for slot in ROOT_PORT_SLOTS {
        for function in 0..PORTS_OF_A_SLOT {
            let port = format!("port{slot:x}.{function}");
            let chassis = u32::from(slot) * 8 + u32::from(function);
            let multifunction = if function == 0 { ",multifunction=on" } else { "" };
            let place = format!("addr={slot:#x}.{function},chassis={chassis}{multifunction}");
            command.args(["-device", &format!("pcie-root-port,id={port},{place}")]);
            command.args(["-device", &format!("{RANDOM},bus={port}")]);
        }
    }
}

fn add_switch(command: &mut Command) {
    let root = format!("pcie-root-port,id=before-switch,addr={SWITCH_SLOT:#x},chassis=1");
    command.args(["-device", &root, "-device", "x3130-upstream,id=switch,bus=before-switch"]);
    for port in 0..SWITCH_PORTS {
        let id = format!("switch-port{port}");
        let chassis = 2 + port;
        command.args([
            "-device",
            &format!("xio3130-downstream,id={id},bus=switch,chassis={chassis},addr={port:#x}"),
            "-device",
            &format!("{RANDOM},bus={id}"),
        ]);
    }
}

/// QEMU wants two queues and one interrupt for each virtual function, beyond those of the physical one.
fn add_virtual_functions(command: &mut Command) {
    let (functions, queues) = (VIRTUAL_FUNCTIONS, 2 * VIRTUAL_FUNCTIONS);
    let (pairs, interrupts) = (queues + 2, functions + 2);
    command.args([
        "-device",
        &format!("pcie-root-port,id=before-virtual,addr={VIRTUAL_FUNCTIONS_SLOT:#x},chassis=9"),
        "-device",
        "nvme-subsys,id=subsystem,nqn=bench",
        "-device",
        &format!(
            "nvme,serial=virtual,subsys=subsystem,bus=before-virtual,max_ioqpairs={pairs},msix_qsize={interrupts},\
             sriov_max_vfs={functions},sriov_vq_flexible={queues},sriov_vi_flexible={functions}"
        ),
    ]);
}
