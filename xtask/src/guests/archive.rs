//! Downloads packages from Debian's archive and unpacks them under `target/bench`. It installs none of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::mirror::Mirror;
use crate::{paths, process};

/// The release that everything here is built for.
const RELEASE: &str = "bookworm";
/// The release that is in the making: for the newest kernel, and for programs that must know newer kernels than this machine's do.
const TESTING: &str = "forky";

/// Where a tree that was unpacked with everything that its programs need has their libraries, and the loader among these.
pub(crate) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
pub(crate) const LOADER: &str = "ld-linux-x86-64.so.2";

/// Whose packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Those that `apt` on this machine knows.
    Installed,
    /// Newer ones that were built for the same release; with lists of their own, of which the machine's `apt` knows nothing.
    Backports,
    /// Those of the release that is in the making, likewise.
    Testing,
}

impl Suite {
    /// Gets the lists of the suite's packages.
    pub(crate) fn update(self) -> Result<()> {
        println!("updating {} lists of packages", self.owner());
        if self != Self::Installed {
            let mirror = Mirror::of_this_machine()?;
            let sources = match self {
                Self::Testing => mirror.source(TESTING),
                _ => mirror.source(&format!("{RELEASE}-backports")) + &mirror.source(RELEASE),
            };
            for folder in ["lists/partial", "cache/archives/partial"] {
                paths::made(self.private(folder))?;
            }
            fs::write(self.private("sources.list"), sources)?;
            // Nothing is installed for this apt: it finds everything that a package needs.
            fs::write(self.private("status"), "")?;
        }
        process::run(self.apt("apt-get").args(["-q", "-q", "update"]))
    }

    /// The package that a meta package stands for.
    pub(crate) fn dependency(self, meta: &str) -> Result<String> {
        let listed = process::stdout(
            self.apt("apt-cache").args(["depends", "--no-recommends"]).arg(self.named(meta)),
        )?;
        first_dependency(&listed)
            .with_context(|| format!("{} lists of packages have no {meta}", self.owner()))
    }

    /// The folder with the unpacked files of a package: only those listed, or all of them.
    pub(crate) fn unpacked(self, package: &str, only: &[&str]) -> Result<PathBuf> {
        self.unpacked_together(&[package], only)
    }

    /// The same, unpacked once more if files are missing: an earlier version of the bench wanted fewer of them.
    pub(crate) fn unpacked_anew(self, package: &str, only: &[&str]) -> Result<PathBuf> {
        let tree = self.tree(package, package)?;
        if tree.is_dir() && !only.iter().all(|file| tree.join(file).exists()) {
            fs::remove_dir_all(&tree)?;
        }
        self.unpacked(package, only)
    }

    /// The same for packages that need each other: the folder is that of the first.
    pub(crate) fn unpacked_together(self, packages: &[&str], only: &[&str]) -> Result<PathBuf> {
        let first = packages.first().context("no package is asked for")?;
        let tree = self.tree(first, first)?;
        if tree.is_dir() {
            return Ok(tree);
        }
        let unfinished = paths::made(tree.with_extension("unfinished"))?;
        for package in packages {
            let archive = self.download(package)?;
            println!("unpacking {package}");
            unpack(&archive, &unfinished, only)?;
            fs::remove_file(&archive)?;
        }
        fs::rename(&unfinished, &tree)?;
        Ok(tree)
    }

    /// The folder with packages and everything that they need, down to the loader of programs.
    pub(crate) fn unpacked_whole(self, packages: &[&str]) -> Result<PathBuf> {
        let first = packages.first().context("no package is asked for")?;
        let tree = self.tree(first, &format!("{first}-whole"))?;
        if tree.is_dir() {
            return Ok(tree);
        }
        println!("downloading {} and what they need", packages.join(", "));
        let status = format!("Dir::State::status={}", self.private("status").display());
        let mut apt = self.apt("apt-get");
        apt.args(["-q", "-q", "-y", "-o", &status, "-o", "Debug::NoLocking=1", "--no-install-recommends"]);
        process::run(apt.args(["--download-only", "install"]).args(packages))?;
        let unfinished = paths::made(tree.with_extension("unfinished"))?;
        for archive in fs::read_dir(self.private("cache/archives"))? {
            let archive = archive?.path();
            if archive.extension().is_some_and(|extension| extension == "deb") {
                unpack(&archive, &unfinished, &[])?;
                fs::remove_file(&archive)?;
            }
        }
        fs::rename(&unfinished, &tree)?;
        Ok(tree)
    }

    /// The folder of this name for the present version of a package. A colon, which versions may have, would part a list of
    /// folders in two.
    fn tree(self, package: &str, name: &str) -> Result<PathBuf> {
        let version = self.version(package)?.replace(':', "%3a");
        Ok(paths::bench().join("packages").join(format!("{name}_{version}")))
    }

    /// The version of a package that would be downloaded.
    fn version(self, package: &str) -> Result<String> {
        let shown = process::stdout(
            self.apt("apt-cache").args(["show", "--no-all-versions"]).arg(self.named(package)),
        )?;
        let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
        Ok(version
            .with_context(|| format!("{} lists of packages have no {package}", self.owner()))?
            .to_owned())
    }

    /// Downloads a package into an empty folder and returns the one file that is there then.
    fn download(self, package: &str) -> Result<PathBuf> {
        println!("downloading {package}");
        let dir = paths::bench().join("download").join(package);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        let dir = paths::made(dir)?;
        let mut apt = self.apt("apt-get");
        process::run(apt.args(["-q", "-q", "download"]).arg(self.named(package)).current_dir(&dir))?;
        let file =
            fs::read_dir(&dir)?.next().with_context(|| format!("apt-get downloaded no {package}"))??;
        Ok(file.path())
    }

    /// A package as `apt` is asked for it: where it knows several releases, with the one that is meant.
    fn named(self, package: &str) -> String {
        match self {
            Self::Installed | Self::Testing => package.to_owned(),
            Self::Backports => format!("{package}/{RELEASE}-backports"),
        }
    }

    /// One of apt's programs, told which lists to use.
    fn apt(self, program: &str) -> Command {
        let mut command = Command::new(program);
        // As root, apt drops its rights for downloads, and then cannot write to a folder that is not its own.
        command.args(["-o", "APT::Sandbox::User=root"]);
        if self != Self::Installed {
            let own = |option: &str, path: &Path| format!("{option}={}", path.display());
            command.args(["-o", &own("Dir::Etc::sourcelist", &self.private("sources.list"))]);
            command.args(["-o", "Dir::Etc::sourceparts=-"]);
            command.args(["-o", &own("Dir::State::lists", &self.private("lists"))]);
            command.args(["-o", &own("Dir::Cache", &self.private("cache"))]);
        }
        command
    }

    fn owner(self) -> &'static str {
        match self {
            Self::Installed => "this machine's",
            Self::Backports => "backports'",
            Self::Testing => "testing's",
        }
    }

    /// A file or folder of the lists that only the bench uses.
    fn private(self, path: &str) -> PathBuf {
        paths::bench().join(format!("apt-{self:?}").to_lowercase()).join(path)
    }
}

/// An unpacked program runs by its own loader, with its own libraries.
pub(crate) fn unpacked_program(tree: &Path, name: &str) -> Command {
    let libraries = tree.join(LIBRARIES);
    let mut command = Command::new(libraries.join(LOADER));
    command.arg("--library-path").arg(libraries).arg(tree.join("usr/bin").join(name));
    command
}

fn first_dependency(listed: &str) -> Option<String> {
    let mut named = listed.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    named.find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

/// Unpacks through `tar`, which can pick files out: a debug package is 3 GB, the one file needed 400 MB.
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
