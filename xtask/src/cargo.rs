//! Runs Cargo for the tasks: the same Cargo that runs them, with its target and its folder.

use std::path::PathBuf;
use std::process::Command;

use crate::paths;

/// The target of programs that need flags of their own: this toolchain has its precompiled libraries, and everybody has
/// this toolchain.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A call of cargo in the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(paths::repository());
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| paths::repository().join("target"), PathBuf::from)
}
