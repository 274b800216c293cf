//! Debian's stock kernels: the bench downloads and unpacks them, and installs none of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::guests::archive::Suite;
use crate::{paths, process};

/// Which of Debian's kernels crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Flavour {
    /// The general kernel: every driver there is, as modules.
    Amd64,
    /// The kernel for virtual machines: NVMe and virtio, no USB, sound or physical network cards.
    Cloud,
    /// The same kernel from backports: Linux 6.12.
    Backports,
    /// The same kernel of the release that is in the making: the newest that Debian carries.
    Testing,
    /// The general kernel from backports. Those for virtual machines have no driver for IOMMUs of AMD's.
    #[value(name = "amd64-backports")]
    #[serde(rename = "amd64-backports")]
    Amd64Backports,
    /// The general kernel of the release that is in the making.
    #[value(name = "amd64-testing")]
    #[serde(rename = "amd64-testing")]
    Amd64Testing,
}

impl Flavour {
    /// Its name on the command line and in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Cloud => "cloud",
            Self::Backports => "backports",
            Self::Testing => "testing",
            Self::Amd64Backports => "amd64-backports",
            Self::Amd64Testing => "amd64-testing",
        }
    }

    /// Where it comes from.
    pub(crate) fn suite(self) -> Suite {
        match self {
            Self::Amd64 | Self::Cloud => Suite::Installed,
            Self::Backports | Self::Amd64Backports => Suite::Backports,
            Self::Testing | Self::Amd64Testing => Suite::Testing,
        }
    }

    /// Whether it has every driver there is, those of USB, sound and physical network cards among them.
    pub(crate) fn is_general(self) -> bool {
        matches!(self, Self::Amd64 | Self::Amd64Backports | Self::Amd64Testing)
    }

    /// The package that depends on the newest kernel of this flavour.
    fn meta_package(self) -> &'static str {
        if self.is_general() { "linux-image-amd64" } else { "linux-image-cloud-amd64" }
    }

    /// The packages in which the files of a release are: newer kernels are in three, on which the one that is named depends.
    fn packages(self, release: &str) -> Vec<String> {
        let parts: &[&str] =
            if self.suite() == Suite::Testing { &["binary", "base", "modules"] } else { &["image"] };
        parts.iter().map(|part| format!("linux-{part}-{release}")).collect()
    }

    /// Where its debug information is within its package.
    fn debug_file(self, release: &str) -> String {
        let place = if self.suite() == Suite::Testing { "lib/modules/{}/vmlinux" } else { "boot/vmlinux-{}" };
        format!("./usr/lib/debug/{}", place.replace("{}", release))
    }

    /// Whether its debug information is downloaded without being asked for.
    fn has_debug(self) -> bool {
        !self.is_general()
    }
}

/// The files of one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// What `uname -r` says, as `6.1.0-56-amd64`.
    pub(crate) release: String,
    /// The compressed kernel.
    pub(crate) image: PathBuf,
    /// The folder with its modules.
    pub(crate) modules: PathBuf,
    /// The kernel with debug information, where it is downloaded.
    pub(crate) debug: Option<PathBuf>,
}

impl Kernel {
    /// The kernel of this flavour that [`fetch`] has left.
    pub(crate) fn load(flavour: Flavour) -> Result<Self> {
        let record = record(flavour);
        let text = fs::read_to_string(&record).with_context(|| {
            format!("no {} kernel here: `cargo xtask setup` downloads it", flavour.name())
        })?;
        let kernel: Self = serde_json::from_str(&text).with_context(|| {
            format!("{} is damaged: `cargo xtask setup` makes it again", record.display())
        })?;
        let image = &kernel.image;
        ensure!(image.is_file(), "{} is gone: `cargo xtask setup` downloads it again", image.display());
        Ok(kernel)
    }

    fn remember(&self, flavour: Flavour) -> Result<()> {
        Ok(fs::write(record(flavour), serde_json::to_string_pretty(self)?)?)
    }
}

/// Adds an index to a kernel's debug information, unless it has one: `crash` then looks names up instead of reading everything,
/// and starts in a third of the time.
pub(crate) fn index(debug: &Path) -> Result<()> {
    let sections = process::stdout(Command::new("readelf").arg("--sections").arg("--wide").arg(debug))?;
    if !sections.contains(".gdb_index") {
        println!("indexing {}", debug.display());
        process::run(Command::new("gdb-add-index").arg(debug))?;
    }
    Ok(())
}

/// Downloads and unpacks what the archive calls the newest kernel of this flavour, unless it is here already.
pub(crate) fn fetch(flavour: Flavour) -> Result<Kernel> {
    let suite = flavour.suite();
    let package = suite.dependency(flavour.meta_package())?;
    let release =
        package.strip_prefix("linux-image-").context("a kernel package with another name")?.to_owned();
    let packages = flavour.packages(&release);
    let tree = suite.unpacked_together(&packages.iter().map(String::as_str).collect::<Vec<_>>(), &[])?;
    let debug = flavour.has_debug().then(|| fetch_debug(flavour, &release)).transpose()?;
    let modules = modules(&tree, &release);
    let image = image(&tree, &modules, &release);
    let kernel = Kernel { release, image, modules, debug };
    ensure!(kernel.image.is_file(), "{package} has no {}", kernel.image.display());
    kernel.remember(flavour)?;
    Ok(kernel)
}

/// Downloads the debug information of the kernel of this flavour that is here, unless that is here too.
pub(crate) fn add_debug(flavour: Flavour) -> Result<()> {
    let mut kernel = Kernel::load(flavour)?;
    if kernel.debug.is_none() {
        println!("debug information of kernel {}", kernel.release);
        kernel.debug = Some(fetch_debug(flavour, &kernel.release)?);
        kernel.remember(flavour)?;
    }
    Ok(())
}

/// The compressed kernel, which newer packages have beside its modules.
fn image(tree: &Path, modules: &Path, release: &str) -> PathBuf {
    let older = tree.join("boot").join(format!("vmlinuz-{release}"));
    if older.is_file() { older } else { modules.join("vmlinuz") }
}

/// The folder of modules, which newer packages have under `usr`.
fn modules(tree: &Path, release: &str) -> PathBuf {
    let places = ["lib/modules", "usr/lib/modules"].map(|place| tree.join(place).join(release));
    let [older, newer] = places;
    if older.is_dir() { older } else { newer }
}

/// The debug information of just that kernel: the meta package for it may be a release ahead, for signed kernels come later.
fn fetch_debug(flavour: Flavour, release: &str) -> Result<PathBuf> {
    let kernel = flavour.debug_file(release);
    let tree = flavour.suite().unpacked(&format!("linux-image-{release}-dbg"), &[&kernel])?;
    Ok(tree.join(kernel))
}

fn record(flavour: Flavour) -> PathBuf {
    paths::bench().join(format!("kernel-{}.json", flavour.name()))
}
