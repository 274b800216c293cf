//! A Debian of its own: what debootstrap makes of the archive, with the bench's kernel, and a disk with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

use crate::guests::kernels::{Flavour, Kernel};
use crate::guests::mirror::Mirror;
use crate::{paths, process};

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Debian 12, of which this machine's apt has the lists of packages.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Release {
    /// As the archive calls it.
    const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// What a server has besides the packages that every Debian has.
const PACKAGES: &str = "e2fsprogs,init-system-helpers,kexec-tools,kmod,mount,systemd-sysv,udev";

/// Bytes of the root disk: the system, a dump area of 256 MiB, collected dumps.
const DISK_BYTES: u64 = 2 << 30;

/// A system that was made.
#[derive(Clone, Debug)]
pub(crate) struct System {
    /// The folder with its files.
    pub(crate) tree: PathBuf,
    /// A raw disk with an ext4 file system of them, which nobody writes to.
    pub(crate) disk: PathBuf,
    /// The kernel that it boots, whose modules it has.
    pub(crate) kernel: Kernel,
}

impl System {
    /// The system that [`fetch`](Self::fetch) has left.
    fn load(folder: &Path, kernel: Kernel) -> Result<Self> {
        let system = Self { tree: folder.join("tree"), disk: folder.join("disk"), kernel };
        ensure!(system.disk.is_file(), "{} is not here", system.disk.display());
        Ok(system)
    }

    /// Makes the system of a release unless it is here. All have the same kernel, which has its debug information here.
    pub(crate) fn fetch(release: Release) -> Result<Self> {
        Self::fetch_with(release, &[])
    }

    /// The same, with more packages.
    pub(crate) fn fetch_with(release: Release, packages: &[&str]) -> Result<Self> {
        let kernel = Kernel::load(Flavour::Cloud)?;
        let name = [&["debian", release.name(), &kernel.release], packages].concat().join("-");
        let folder = paths::bench().join(&name);
        if Self::load(&folder, kernel.clone()).is_err() {
            let unfinished = paths::bench().join(name + "-unfinished");
            if unfinished.exists() {
                fs::remove_dir_all(&unfinished)?;
            }
            let tree = paths::made(unfinished.join("tree"))?;
            bootstrap(release, packages, &tree)?;
            settle(&tree, &kernel)?;
            make_disk(&tree, &unfinished.join("disk"))?;
            fs::rename(&unfinished, &folder)?;
        }
        Self::load(&folder, kernel)
    }

    /// A folder with a package of Debian's and those of its dependencies that the system, of the release of this machine, lacks;
    /// downloaded unless it is here.
    pub(crate) fn packages_of(&self, package: &str) -> Result<PathBuf> {
        // Rows that run beside each other may want the same one; a thread that panicked has left at worst an unfinished folder.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _downloading = ONE_AT_A_TIME.lock();
        let folder = paths::bench().join(format!("debian-{}-{package}", Release::Bookworm.name()));
        if !folder.is_dir() {
            println!("downloading {package} and what it needs");
            let unfinished = folder.with_extension("unfinished");
            paths::made(unfinished.join("partial"))?;
            let status = self.tree.join("var/lib/dpkg/status");
            let options = [
                format!("Dir::State::status={}", status.display()),
                format!("Dir::Cache::archives={}", unfinished.display()),
                "Debug::NoLocking=1".to_owned(),
                "APT::Sandbox::User=root".to_owned(),
            ];
            let mut apt = Command::new("apt-get");
            apt.args(["-q", "-q", "-y"]).args(options.iter().flat_map(|option| ["-o", option]));
            process::run(apt.args(["--no-install-recommends", "--download-only", "install", package]))?;
            fs::remove_dir(unfinished.join("partial"))?;
            fs::rename(&unfinished, &folder)?;
        }
        Ok(folder)
    }
}

/// Fills a folder with a system.
fn bootstrap(release: Release, packages: &[&str], tree: &Path) -> Result<()> {
    println!("making a Debian {}", release.name());
    let mut debootstrap = Command::new("debootstrap");
    let packages = [&[PACKAGES], packages].concat().join(",");
    debootstrap.args(["--variant=minbase", &format!("--include={packages}"), release.name()]);
    debootstrap.arg(tree).arg(Mirror::of_this_machine()?.uri());
    process::stdout(&mut debootstrap).context("debootstrap takes root, and Debian's archive").map(|_| ())
}

/// Gives the system a name, a root disk, a way in, and a kernel.
fn settle(tree: &Path, kernel: &Kernel) -> Result<()> {
    fs::write(tree.join("etc/hostname"), "server\n")?;
    fs::write(tree.join("etc/fstab"), "/dev/vda / ext4 defaults 0 1\n")?;
    let archives = tree.join("var/cache/apt/archives");
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            fs::remove_file(path)?;
        }
    }
    let modules = paths::made(tree.join("usr/lib/modules"))?;
    process::stdout(Command::new("cp").arg("-r").arg(&kernel.modules).arg(&modules))?;
    process::stdout(Command::new("depmod").arg("-b").arg(tree).arg(&kernel.release))?;
    fs::copy(&kernel.image, tree.join(format!("boot/vmlinuz-{}", kernel.release)))?;
    Ok(())
}

/// Makes a disk with everything that is in a folder.
fn make_disk(tree: &Path, disk: &Path) -> Result<()> {
    fs::File::create(disk)?.set_len(DISK_BYTES)?;
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-E", "lazy_itable_init=0,nodiscard", "-d"]).arg(tree).arg(disk);
    process::stdout(&mut mkfs).map(|_| ())
}
