//! Why the capture kernel was not loaded.

use std::io;
use std::path::PathBuf;

use uuid::Uuid;

use super::MOST_AREAS;
use crate::areas::{AreaError, UncollectedDump};
use crate::crash_slot::OtherCrashKernel;
use crate::fallback::FallbackError;
use crate::kexec::KexecError;
use crate::root_pointer::RootPointerError;
use crate::sysfs::SysfsError;
use crate::{Bytes, config, memory_encryption};

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
