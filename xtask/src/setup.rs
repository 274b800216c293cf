//! `cargo xtask setup`: everything that the bench needs and the repository does not have.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::kernels::{self, Flavour};
use crate::process;

/// Debian packages of the programs that the bench calls.
const PACKAGES: [&str; 8] = [
    "alsa-utils",      // plays a sound in the guest: DMA that no panic ends
    "busybox-static",  // the guest's user space
    "crash",           // reader of dumps
    "kexec-tools",     // loads the capture kernel
    "makedumpfile",    // reader of dumps, and the reference for which pages belong in one
    "python3-drgn",    // reader of dumps
    "qemu-system-x86", // the machine
    "seabios",         // its firmware
];

/// Installs (as root) or names what is missing, and downloads Debian's kernels.
#[derive(Args, Default)]
pub(crate) struct Setup {}

impl Setup {
    /// Makes this machine ready for `demo` and `test`; quick when it is already.
    #[expect(clippy::unused_self, reason = "every task is run in the same way")]
    pub(crate) fn run(&self) -> Result<()> {
        install(&missing())?;
        if !lists_know("linux-image-amd64") {
            update_lists()?;
        }
        for flavour in [Flavour::Amd64, Flavour::Cloud] {
            let kernel = kernels::fetch(flavour)?;
            println!("{} kernel: {}", flavour.name(), kernel.release);
        }
        Ok(())
    }
}

fn missing() -> Vec<&'static str> {
    PACKAGES.into_iter().filter(|package| !installed(package)).collect()
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
    if !is_root()? {
        bail!(
            "missing: {0}\ninstall with: sudo apt-get install --no-install-recommends {0}",
            packages.join(" ")
        );
    }
    println!("installing {}", packages.join(" "));
    if !packages.iter().all(|package| lists_know(package)) {
        update_lists()?;
    }
    let quietly = ["-q", "-q", "-y", "--no-install-recommends"];
    let mut apt = Command::new("apt-get");
    process::run(apt.env("DEBIAN_FRONTEND", "noninteractive").arg("install").args(quietly).args(packages))
}

fn lists_know(package: &str) -> bool {
    process::stdout(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
        .is_ok_and(|s| !s.is_empty())
}

fn update_lists() -> Result<()> {
    if !is_root()? {
        bail!("apt's lists of packages are missing\nget them with: sudo apt-get update");
    }
    println!("updating apt's lists of packages");
    process::run(Command::new("apt-get").args(["-q", "-q", "update"]))
}

fn is_root() -> Result<bool> {
    Ok(process::stdout(Command::new("id").arg("-u"))?.trim() == "0")
}
