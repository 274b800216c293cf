//! Debian's stock kernels, as the bench keeps them: downloaded and unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{paths, process};

/// Which of Debian's kernels crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Flavour {
    /// The general kernel: every driver there is, as modules.
    Amd64,
    /// The kernel for virtual machines: NVMe and virtio, no USB, sound or physical network cards.
    Cloud,
}

impl Flavour {
    /// Its name on the command line and in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Cloud => "cloud",
        }
    }

    /// The package that depends on the newest kernel of this flavour.
    fn meta_package(self) -> &'static str {
        match self {
            Self::Amd64 => "linux-image-amd64",
            Self::Cloud => "linux-image-cloud-amd64",
        }
    }

    /// The same for its debug information. The other flavour's is three times as large and shows nothing more.
    fn debug_meta_package(self) -> Option<&'static str> {
        (self == Self::Cloud).then_some("linux-image-cloud-amd64-dbg")
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
}

/// Downloads and unpacks what the archive calls the newest kernel of this flavour, unless it is here already.
pub(crate) fn fetch(flavour: Flavour) -> Result<Kernel> {
    let package = dependency(flavour.meta_package())?;
    let release =
        package.strip_prefix("linux-image-").context("a kernel package with another name")?.to_owned();
    let tree = unpacked(&package, &[])?;
    let debug = flavour.debug_meta_package().map(|meta| fetch_debug(meta, &release)).transpose()?;
    let kernel = Kernel {
        image: tree.join("boot").join(format!("vmlinuz-{release}")),
        modules: tree.join("lib/modules").join(&release),
        release,
        debug,
    };
    ensure!(kernel.image.is_file(), "{package} has no {}", kernel.image.display());
    fs::write(record(flavour), serde_json::to_string_pretty(&kernel)?)?;
    Ok(kernel)
}

fn fetch_debug(meta: &str, release: &str) -> Result<PathBuf> {
    let kernel = format!("./usr/lib/debug/boot/vmlinux-{release}");
    let tree = unpacked(&dependency(meta)?, &[&kernel])?;
    Ok(tree.join(kernel))
}

fn record(flavour: Flavour) -> PathBuf {
    paths::bench().join(format!("kernel-{}.json", flavour.name()))
}

/// The package that a meta package stands for.
fn dependency(meta: &str) -> Result<String> {
    let listed = process::stdout(Command::new("apt-cache").args(["depends", "--no-recommends", meta]))?;
    first_dependency(&listed)
        .with_context(|| format!("apt-cache knows no {meta}; this gets the lists:\n  sudo apt-get update"))
}

fn first_dependency(listed: &str) -> Option<String> {
    let mut named = listed.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    named.find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

/// The folder with the unpacked files of a package: only those listed, or all of them.
fn unpacked(package: &str, only: &[&str]) -> Result<PathBuf> {
    let tree = paths::bench().join("packages").join(format!("{package}_{}", candidate(package)?));
    if tree.is_dir() {
        return Ok(tree);
    }
    let archive = download(package)?;
    println!("unpacking {package}");
    let unfinished = paths::made(tree.with_extension("unfinished"))?;
    unpack(&archive, &unfinished, only)?;
    fs::rename(&unfinished, &tree)?;
    fs::remove_file(&archive)?;
    Ok(tree)
}

/// The version of a package that apt would install.
fn candidate(package: &str) -> Result<String> {
    let shown = process::stdout(Command::new("apt-cache").args(["show", "--no-all-versions", package]))?;
    let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
    Ok(version.with_context(|| format!("apt-cache knows no version of {package}"))?.to_owned())
}

/// Downloads a package into an empty folder and returns the one file that is there then.
fn download(package: &str) -> Result<PathBuf> {
    println!("downloading {package}");
    let dir = paths::bench().join("download").join(package);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let dir = paths::made(dir)?;
    // As root, apt drops its rights for downloads, and then cannot write to a folder that is not its own.
    let as_self = ["-o", "APT::Sandbox::User=root"];
    process::run(
        Command::new("apt-get")
            .args(["-q", "-q"])
            .args(as_self)
            .args(["download", package])
            .current_dir(&dir),
    )?;
    let file = fs::read_dir(&dir)?.next().with_context(|| format!("apt-get downloaded no {package}"))??;
    Ok(file.path())
}

/// Unpacks through `tar`, which can pick files out: the debug package is 3 GB, the one file needed 400 MB.
fn unpack(archive: &Path, into: &Path, only: &[&str]) -> Result<()> {
    let mut source =
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(archive).stdout(Stdio::piped()).spawn()?;
    let tar = source.stdout.take().context("dpkg-deb has no output")?;
    process::run(Command::new("tar").args(["-x", "-C"]).arg(into).args(only).stdin(tar))?;
    let status = source.wait()?;
    ensure!(status.success(), "dpkg-deb could not read {}: {status}", archive.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_behind_a_meta_package_is_found() {
        let listed = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";
        assert_eq!(first_dependency(listed).as_deref(), Some("linux-image-6.1.0-56-amd64"));
    }

    #[test]
    fn a_meta_package_that_is_not_in_the_lists_has_no_kernel() {
        assert_eq!(first_dependency("linux-image-amd64\n"), None);
    }
}
