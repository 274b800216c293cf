//! `holdover generate`, which packages call: writes the man pages and the completions of shells.
//!
//! Both come from the command line's own definition, so that they say what `--help` says.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use serde_json::{Value, json};

use crate::report::{Report, row};

/// The shells for which there are completions.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder in which the folders `man` and `completions` are made
    folder: PathBuf,
}

/// The folders with what was written.
pub(crate) struct Generated {
    man: PathBuf,
    completions: PathBuf,
}

/// Writes everything into two folders.
pub(crate) fn run(arguments: &Arguments) -> Result<Generated> {
    let command = crate::Arguments::command;
    let generated =
        Generated { man: arguments.folder.join("man"), completions: arguments.folder.join("completions") };
    write(&generated.man, |folder| clap_mangen::generate_to(command(), folder))?;
    write(&generated.completions, |folder| complete(&mut command(), folder))?;
    Ok(generated)
}

/// Makes a folder and has it filled.
fn write(folder: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| fill(folder))
        .with_context(|| format!("cannot write to {}", folder.display()))
}

fn complete(command: &mut Command, folder: &Path) -> io::Result<()> {
    SHELLS.into_iter().try_for_each(|shell| {
        clap_complete::generate_to(shell, command, env!("CARGO_PKG_NAME"), folder).map(|_| ())
    })
}

impl Report for Generated {
    fn rows(&self) -> Vec<Vec<String>> {
        let path = |path: &Path| path.display().to_string();
        vec![row("man pages", path(&self.man)), row("completions", path(&self.completions))]
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({ "man": self.man, "completions": self.completions }))
    }
}
