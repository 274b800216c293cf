//! Disks that machines have crashed with before: one panic after the other, on one disk.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::crashes::crash::{Crash, Evidence};
use crate::guests::tool::Collected;
use crate::machines::area;
use crate::machines::console::Line;
use crate::machines::qemu::Watch;
use crate::machines::scenario::Scenario;

/// A disk with a dump area.
pub(crate) struct UsedDisk {
    path: PathBuf,
    /// The area's UUID.
    area: String,
}

impl UsedDisk {
    /// The disk of a crash, and the area that Holdover has found there.
    pub(super) fn of(crash: &Evidence) -> Result<Self> {
        const FOUND: &str = " holds area ";
        let mut said = crash.lines.iter().filter_map(Line::holdover);
        let area = said.find_map(|line| line.split_once(FOUND)).context("a panic before found no area")?;
        Ok(Self { path: crash.files.disk(), area: area.1.to_owned() })
    }

    /// Copies the disk, and returns the area's UUID.
    pub(super) fn copy_to(&self, disk: &Path) -> Result<String> {
        fs::copy(&self.path, disk).context("cannot copy the disk of a panic before")?;
        Ok(self.area.clone())
    }
}

/// Has machines crash one after the other with one disk. Each dump must be whole, and is collected, and nothing of the disk but log, seal
/// and dump may have changed. Leaves the disk as it is then at `disk`, and returns the area's UUID.
pub(super) fn panic_often(crash: &Crash, disk: &Path) -> Result<String> {
    let scenario = Scenario { panics_before: 0, ..crash.scenario.clone() };
    let mut used: Option<UsedDisk> = None;
    for number in 1..=crash.scenario.panics_before {
        let once = Crash { scenario: &scenario, watch: Watch::Console, used: used.as_ref(), ..*crash };
        let evidence = once.run(&format!("one-of-{}-panics", crash.scenario.panics_before))?;
        let (files, out) = (&evidence.files, evidence.files.scratch("one-dump"));
        let whole = crash.tool.collect(&files.disk(), &out)? == Collected::Whole;
        ensure!(whole, "`holdover collect` says of panic {number} that something is missing");
        let unchanged = ends(&files.disk())? == ends(&files.disk_before())?;
        ensure!(unchanged, "panic {number} has changed what is no dump's");
        let now = UsedDisk::of(&evidence)?;
        let area = now.copy_to(disk)?;
        used = Some(UsedDisk { path: disk.to_owned(), area });
    }
    used.map(|used| used.area).context("no panic was asked for")
}

/// What of an area that is a whole disk no dump changes.
fn ends(disk: &Path) -> Result<Vec<u8>> {
    const HEAD: usize = area::SEAL as usize;
    let disk = File::open(disk)?;
    let mut ends = vec![0; HEAD + area::BLOCK as usize];
    disk.read_exact_at(&mut ends[..HEAD], 0)?;
    disk.read_exact_at(&mut ends[HEAD..], disk.metadata()?.len() - area::BLOCK)?;
    Ok(ends)
}
