//! What the guest carries into the crash: the kernel that takes the dump, as files of its initramfs and the command that loads it.

use std::fs;

use anyhow::{Context, Result};

use super::{Crash, DISK_BYTES, MADE};
use crate::crashes::handover::Loss;
use crate::guests::initramfs::{self, Archive};
use crate::guests::kernels::Kernel;
use crate::guests::signed::SignedImages;
use crate::guests::stock::{self, UserSpace};
use crate::machines::files::Files;
use crate::machines::scenario::capture::Capture;
use crate::machines::scenario::{Codec, Scenario};
use crate::witnesses::Readers;

/// Runs in a stock crash kernel that has opened the target of its dumps.
const MAKE_REFERENCE: &str = "\
say_lines() { sed 's/^/bench: /' > /dev/kmsg; }
makedumpfile -c -d 31 --message-level 4 /proc/vmcore /mnt/makedumpfile
keep makedumpfile
echo 'bench: first dump complete' > /dev/kmsg
";

/// Runs there too. Holdover's command line has to share the memory with everything else: 32 MiB of addresses are all it gets.
fn make_dump(name: &str) -> String {
    let format = if name == MADE[1] { "--elf " } else { "" };
    format!(
        "(ulimit -v 32768; holdover makedump -d 31 {format}/proc/vmcore /mnt/{name}) | say_lines\nkeep {name}\n"
    )
}

impl Crash<'_> {
    /// Writes the initramfs of the kernel that crashes.
    pub(super) fn write_initramfs(&self, kernel: &Kernel, files: &Files) -> Result<()> {
        let mut archive = initramfs::base(self.scenario, kernel)?;
        self.tool.add_to(&mut archive)?;
        let load = match self.scenario.capture {
            Capture::Holdover => self.add_holdover(&mut archive, files)?,
            Capture::Stock => self.add_stock(&mut archive, files)?,
            Capture::HandedOver | Capture::Fallback => self.add_handed_over(&mut archive, files)?,
        };
        archive.add("scenario/load", load.as_bytes());
        archive.add("scenario/crash", self.crash_command().as_bytes());
        Ok(fs::write(files.initramfs(), archive.finish())?)
    }

    /// Makes Holdover and its disk ready; returns the command that loads it in the guest.
    fn add_holdover(&self, archive: &mut Archive, files: &Files) -> Result<String> {
        let image = fs::read(self.image).with_context(|| format!("no image {}", self.image.display()))?;
        if self.scenario.is_signed() {
            SignedImages::make(self.image, self.tool, files)?.add_to(archive);
        } else {
            archive.add("capture", &image);
        }
        let mut load = self.scenario.disk.map_volume() + &self.load_command(&self.make_disks(files)?);
        if self.scenario.loss == Some(Loss::Fallback) {
            load = format!("{} {} --handover always\n", load.trim_end(), self.add_fallback(archive)?);
        }
        let Some(system) = self.scenario.disk.file_system() else { return Ok(load) };
        Ok(system.prepare() + &load + &self.scenario.file_fate.after(system, &load))
    }

    /// Adds a fallback kernel that is never started; returns the options that load it.
    fn add_fallback(&self, archive: &mut Archive) -> Result<String> {
        archive.add("stock", &stock::image(&Kernel::load(self.scenario.crash_kernel())?)?);
        archive.add("initramfs", &Archive::default().finish());
        let Scenario { second_use, unit, .. } = *self.scenario;
        Ok(stock::fallback_options((second_use, unit.iommu), "/stock", "/initramfs"))
    }

    /// Makes a stock kernel and its disk ready; returns the command that loads it in the guest.
    fn add_stock(&self, archive: &mut Archive, files: &Files) -> Result<String> {
        let prepare = self.add_crash_kernel(archive, files)?;
        let Scenario { syscall, second_use, unit, .. } = *self.scenario;
        Ok(prepare + &stock::load_command(syscall, (second_use, unit.iommu), "/stock", "/initramfs"))
    }

    /// Makes a stock kernel and the target of its dumps ready; returns what the guest does before it loads it.
    fn add_crash_kernel(&self, archive: &mut Archive, files: &Files) -> Result<String> {
        let Scenario { target, disk_model, .. } = *self.scenario;
        let flavour = self.scenario.crash_kernel();
        let kernel = Kernel::load(flavour)?;
        target.prepare(files)?;
        let user_space = UserSpace::new(disk_model)?
            .with_target(target, flavour, files)?
            .with_makedumpfile(&Readers::of(self.scenario.kernel, Codec::Zlib)?)?
            .with_holdover(self.tool)?;
        let made: String = target.made().iter().map(|name| make_dump(name)).collect();
        let commands =
            ["set -e -o pipefail\n", &target.open(files), MAKE_REFERENCE, &made, "umount /mnt\n"].concat();
        archive.add("stock", &stock::image(&kernel)?);
        archive.add("initramfs", &user_space.writing(&kernel, &commands)?);
        Ok(target.commands_before(disk_model.disk_in_linux()))
    }

    /// Makes Holdover, a stock kernel and its disk ready; returns the command that loads both in the guest.
    fn add_handed_over(&self, archive: &mut Archive, files: &Files) -> Result<String> {
        let prepare = self.add_crash_kernel(archive, files)?;
        let image = fs::read(self.image).with_context(|| format!("no image {}", self.image.display()))?;
        archive.add("capture", &image);
        let Scenario { second_use, unit, .. } = *self.scenario;
        let fallback = stock::fallback_options((second_use, unit.iommu), "/stock", "/initramfs");
        let when = match self.scenario.capture {
            Capture::Fallback => format!("--area {}", self.format(&files.failing_disk(), DISK_BYTES)?),
            _ => "--handover always".to_owned(),
        };
        let (syscall, append) = (self.scenario.syscall.option(), self.append());
        Ok(format!("{prepare}holdover load --image /capture {syscall} {fallback} {when} {append}\n"))
    }
}
