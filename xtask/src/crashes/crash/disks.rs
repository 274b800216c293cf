//! The disks for the dump, made before the machine starts.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Crash, DISK_BYTES};
use crate::crashes::used::{self, UsedDisk};
use crate::machines::files::Files;
use crate::machines::qemu::Watch;
use crate::machines::scenario::Scenario;
use crate::machines::scenario::disk::Disk;
use crate::machines::scenario::file_system::FileSystem;
use crate::process;

/// The disk of a file system: the least that each of them takes, and more.
const FILE_SYSTEM_BYTES: u64 = 512 << 20;

/// The label of no disk.
const OTHER_AREA: &str = "00000000-1111-4222-8333-444444444444";

impl Crash<'_> {
    /// Makes the disks for the dump, and returns the areas that are named when Holdover is loaded.
    pub(super) fn make_disks(&self, files: &Files) -> Result<Vec<String>> {
        let disk = files.disk();
        let areas = match self.scenario.disk {
            Disk::Labelled => vec![self.labelled(&disk)?],
            Disk::Tight => vec![self.format(&disk, 29 << 20)?],
            Disk::TooSmallForLevel => vec![self.format(&disk, 40 << 20)?],
            Disk::TooSmall => vec![self.format(&disk, 7 << 20)?],
            Disk::OtherLabel => {
                self.format(&disk, DISK_BYTES)?;
                vec![OTHER_AREA.to_owned()]
            }
            Disk::AfterMissing => vec![OTHER_AREA.to_owned(), self.format(&disk, DISK_BYTES)?],
            Disk::AfterFailing => {
                vec![self.format(&files.failing_disk(), DISK_BYTES)?, self.format(&disk, DISK_BYTES)?]
            }
            Disk::FileExt4 | Disk::FileXfs | Disk::FileBtrfs => {
                self.make_file_system(&disk)?;
                vec![FileSystem::AREA.to_owned()]
            }
            Disk::Partition => vec![self.format_part(&disk)?],
            Disk::Volume => {
                self.format_part(&disk)?;
                vec![Disk::VOLUME.to_owned()]
            }
            Disk::HoldsDump => vec![self.dump_once(&disk)?],
        };
        files.remember_disk()?;
        Ok(areas)
    }

    /// Makes a disk with an area that is free, and returns its UUID: a fresh one, or the one of panics before.
    fn labelled(&self, disk: &Path) -> Result<String> {
        if self.scenario.panics_before > 0 {
            return used::panic_often(self, disk);
        }
        match self.used {
            Some(used) => used.copy_to(disk),
            None => self.format(disk, DISK_BYTES),
        }
    }

    /// Makes a disk a dump area, and returns its UUID.
    pub(super) fn format(&self, disk: &Path, bytes: u64) -> Result<String> {
        File::create(disk)?.set_len(bytes)?;
        self.tool.format(disk).with_context(|| format!("cannot label {}", disk.display()))
    }

    /// Makes a part of a disk a dump area, names it in a partition table, and returns the area's UUID.
    fn format_part(&self, disk: &Path) -> Result<String> {
        let area = self.format(disk, DISK_BYTES - Disk::PART)?;
        let (mut content, part) = (mbr(), fs::read(disk)?);
        content.resize(Disk::PART as usize, 0);
        content.extend(part);
        fs::write(disk, content)?;
        Ok(area)
    }

    /// Makes the file system in which the guest makes the area.
    fn make_file_system(&self, disk: &Path) -> Result<()> {
        File::create(disk)?.set_len(FILE_SYSTEM_BYTES)?;
        let Some([program, options @ ..]) = self.scenario.disk.file_system().map(FileSystem::make) else {
            return Ok(());
        };
        process::run(Command::new(program).args(options).arg(disk))
    }

    /// Crashes a machine, and takes the disk with its dump; returns the area's UUID.
    fn dump_once(&self, disk: &Path) -> Result<String> {
        let scenario = Scenario { disk: Disk::Labelled, ..self.scenario.clone() };
        let first =
            Crash { scenario: &scenario, watch: Watch::Console, ..*self }.run("first-of-two-panics")?;
        UsedDisk::of(&first)?.copy_to(disk)
    }
}

/// A partition table of one partition, from [`Disk::PART`] to the end (the classic one, of type 0x83).
fn mbr() -> Vec<u8> {
    const SECTOR: u64 = 512;
    let [first, count] =
        [Disk::PART, DISK_BYTES - Disk::PART].map(|bytes| ((bytes / SECTOR) as u32).to_le_bytes());
    let mut mbr = vec![0; SECTOR as usize];
    mbr[450] = 0x83;
    mbr[454..458].copy_from_slice(&first);
    mbr[458..462].copy_from_slice(&count);
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}
