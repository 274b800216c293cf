//! `cargo xtask package`: makes the Debian package.

use anyhow::Result;
use clap::Args;

use crate::debian::deb;

/// Makes the Debian package: the tool with the capture kernel inside, man pages, completions, units
#[derive(Args)]
pub(crate) struct Package {}

impl Package {
    /// Makes it and says where it is.
    #[expect(clippy::unused_self, reason = "every task is run in the same way")]
    pub(crate) fn run(&self) -> Result<()> {
        let deb = deb::build()?;
        println!("package  {} ({} bytes)", deb.path.display(), deb.bytes);
        Ok(())
    }
}
