//! `cargo xtask build`: builds what a host needs of Holdover.

use anyhow::Result;
use clap::Args;

use crate::guests::image::{self, Variant};
use crate::guests::tool::Tool;

/// Builds what a host needs: the capture kernel's image and the holdover tool
#[derive(Args)]
pub(crate) struct Build {}

impl Build {
    /// Builds both and says where they are.
    #[expect(clippy::unused_self, reason = "every task is run in the same way")]
    pub(crate) fn run(&self) -> Result<()> {
        let image = image::build(Variant::Release)?;
        println!("image  {} ({} bytes)", image.path.display(), image.bytes);
        println!("tool   {}", Tool::build()?.program().display());
        Ok(())
    }
}
