//! `cargo xtask setup`: prepares everything that the bench needs and the repository does not have.

use std::process::Command;

use anyhow::{Result, ensure};
use clap::Args;

use crate::guests::archive::Suite;
use crate::guests::kernels::{self, Flavour, Kernel};
use crate::machines::emulator::Emulator;
use crate::machines::firmware;
use crate::process;
use crate::witnesses::{reader, store};

/// Debian packages of the programs that the bench calls.
const PACKAGES: [&str; 31] = [
    "alsa-utils",           // plays a sound in the guest: DMA that no panic ends
    "binutils",             // looks into kernels
    "btrfs-progs",          // a file system of which a file takes the dump
    "busybox-static",       // the guest's user space
    "crash",                // reader of dumps
    "cryptsetup-bin",       // opens an encrypted disk in the guest
    "debootstrap",          // makes the Debian on which the package is installed
    "dmsetup",              // gives a part of a disk a device of its own, as LVM does
    "e2fsprogs", // the file system to which stock kdump's kernel writes, and one of which a file takes the dump
    "fish",      // reads its completions
    "g++",       // compiles libFuzzer
    "gdb",       // indexes kernels for `crash`
    "kexec-tools", // loads the capture kernel
    "lintian",   // checks the package
    "lvm2",      // makes a volume in the guest, and finds it again
    "makedumpfile", // reader of dumps, and the reference for which pages belong in one
    "man-db",    // shows man pages
    "openssh-client", // sends dumps out of the guest
    "openssh-server", // takes deliveries, and dumps out of the guest
    "openssl",   // makes a key that no firmware trusts
    "python3-drgn", // reader of dumps
    "python3-html5lib", // reads the page of a crash as a browser does
    "python3-libkdumpfile", // reader of dumps
    "python3-venv", // has the object store that takes deliveries
    "qemu-system-x86", // the machine
    "qemu-utils", // decrypts a disk
    "sbsigntool", // signs the capture kernel
    "seabios",   // its firmware
    "xfsprogs",  // a file system of which a file takes the dump
    "xz-utils",  // unpacks the modules of newer kernels
    "zsh",       // reads its completions
];

const FLAVOURS: [Flavour; 6] = [
    Flavour::Amd64,
    Flavour::Cloud,
    Flavour::Backports,
    Flavour::Testing,
    Flavour::Amd64Backports,
    Flavour::Amd64Testing,
];

/// Installs (as root) or names what is missing, and downloads Debian's kernels, newer QEMUs, UEFI and newer readers.
#[derive(Args, Default)]
pub(crate) struct Setup {
    /// Also debug information of these kernels, if it is left out otherwise; `crash` and drgn then read the dumps of their rows too
    #[arg(long, value_name = "KERNEL", value_delimiter = ',')]
    debug: Vec<Flavour>,
}

impl Setup {
    /// Makes this machine ready for `demo` and `test`; asks nothing of the network if it is already.
    pub(crate) fn run(&self) -> Result<()> {
        let packages: Vec<_> = PACKAGES.into_iter().filter(|package| !installed(package)).collect();
        let kernels: Vec<_> =
            FLAVOURS.into_iter().filter(|flavour| Kernel::load(*flavour).is_err()).collect();
        let emulators: Vec<_> = Emulator::ALL.into_iter().filter(|emulator| !emulator.is_here()).collect();
        let from = |suite| {
            kernels.iter().any(|flavour| flavour.suite() == suite)
                || emulators.iter().any(|emulator| emulator.suite() == suite)
        };
        // Old lists name packages that the archive has replaced since.
        let lacks_installed = from(Suite::Installed) || !packages.is_empty() || !firmware::is_here();
        if lacks_installed && is_root()? {
            Suite::Installed.update()?;
        }
        if from(Suite::Backports) {
            Suite::Backports.update()?;
        }
        if from(Suite::Testing) || !reader::are_here() {
            Suite::Testing.update()?;
        }
        install(&packages)?;
        kernels.into_iter().try_for_each(fetch)?;
        self.debug.iter().try_for_each(|flavour| kernels::add_debug(*flavour))?;
        // Those that `crash` opens.
        for flavour in [Flavour::Cloud, Flavour::Backports].iter().chain(&self.debug).copied() {
            Kernel::load(flavour)?.debug.iter().try_for_each(|debug| kernels::index(debug))?;
        }
        for emulator in emulators {
            emulator.fetch()?;
            println!("{}", emulator.version()?);
        }
        if !firmware::is_here() {
            firmware::fetch()?;
        }
        if !reader::are_here() {
            reader::fetch()?;
        }
        if !store::is_here() {
            store::fetch()?;
        }
        Ok(())
    }
}

/// Downloads a kernel. Without that of a release in the making, whose packages change, all but its own rows of the test works.
fn fetch(flavour: Flavour) -> Result<()> {
    match kernels::fetch(flavour) {
        Err(error) if flavour.suite() == Suite::Testing => println!("kernel of testing: {error:#}"),
        fetched => println!("kernel {}", fetched?.release),
    }
    Ok(())
}

fn installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    process::stdout(&mut query).is_ok_and(|status| status == "installed")
}

fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    ensure!(is_root()?, "programs are missing; this installs them:\n  sudo {command}");
    println!("installing {}", packages.join(" "));
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args([
        "-q",
        "-q",
        "-y",
        "install",
        "--no-install-recommends",
    ]);
    process::run(apt.args(packages))
}

fn is_root() -> Result<bool> {
    Ok(process::stdout(Command::new("id").arg("-u"))?.trim() == "0")
}
