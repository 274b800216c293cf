//! The object store to which the test delivers: moto's server, which speaks S3, in a Python environment of its own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{paths, process};

/// What is installed.
const PACKAGES: [&str; 2] = ["moto[server]>=5,<6", "boto3"];
/// Both the server and the client that asks it.
const IMPORTS: &str = "import moto.server, boto3";

fn folder() -> PathBuf {
    paths::bench().join("store")
}

/// The Python that has the server.
pub(crate) fn python() -> PathBuf {
    folder().join("bin/python3")
}

/// Whether the server can be started.
pub(crate) fn is_here() -> bool {
    python().is_file() && process::stdout(Command::new(python()).args(["-c", IMPORTS])).is_ok()
}

/// Makes the environment; what this machine's Python has already is not fetched.
pub(crate) fn fetch() -> Result<()> {
    let mut make = Command::new("python3");
    process::run(make.args(["-m", "venv", "--system-site-packages"]).arg(folder()))?;
    if is_here() {
        return Ok(());
    }
    let mut install = Command::new(python());
    process::run(install.args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))
}
