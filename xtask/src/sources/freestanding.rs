//! A program without an operating system, into which every library that claims `no_std` is linked whole.
//!
//! If such a library used `std`, itself or through another crate, it would bring a second panic handler, which the
//! compiler refuses. If it called a C library, it would leave names undefined, which the linker refuses.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::members::{self, Member};
use crate::cargo::{TARGET, cargo, target_folder};
use crate::{paths, process};

const PROGRAM: &str = include_str!("freestanding/program.rs");

/// Builds and links the program; returns what is wrong.
pub(crate) fn problems() -> Result<Vec<String>> {
    let members = members::all()?;
    let libraries: Vec<_> = members.iter().filter(|member| member.is_freestanding_library()).collect();
    ensure!(!libraries.is_empty(), "no library claims to be `no_std`");
    let folder = paths::made(target_folder().join("freestanding"))?;
    write_package(&folder, &libraries)?;
    Ok(compile(&folder)
        .and_then(|()| link(&folder))
        .err()
        .map(|error| format!("{error:#}"))
        .into_iter()
        .collect())
}

/// Makes a package of the program, with the versions of other crates that the workspace has.
fn write_package(folder: &Path, libraries: &[&Member]) -> Result<()> {
    let repository = paths::repository();
    fs::write(folder.join("Cargo.toml"), manifest(repository, libraries))?;
    fs::write(folder.join("program.rs"), program(libraries))?;
    fs::copy(repository.join("Cargo.lock"), folder.join("Cargo.lock")).context("copying Cargo.lock")?;
    Ok(())
}

/// The program's manifest, in which no feature of another package is turned on.
fn manifest(repository: &Path, libraries: &[&Member]) -> String {
    let mut text = "\
[package]
name = \"freestanding\"
edition = \"2024\"

[workspace]

[lib]
path = \"program.rs\"
crate-type = [\"staticlib\"]

[profile.dev]
panic = \"abort\"
debug = false

[dependencies]
"
    .to_owned();
    for Member { library, package, folder, .. } in libraries {
        let path = repository.join(folder).display().to_string();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{library} = {{ package = {package:?}, path = {path:?} }}");
    }
    text
}

/// The program's source, which names all libraries.
fn program(libraries: &[&Member]) -> String {
    let names = libraries.iter().map(|member| format!("extern crate {} as _;\n", member.library));
    std::iter::once(PROGRAM.to_owned()).chain(names).collect()
}

fn compile(folder: &Path) -> Result<()> {
    let mut build = cargo(&["build", "--quiet", "--target", TARGET, "--target-dir", "target"]);
    process::stdout(build.current_dir(folder)).map(|_| ())
}

/// Links everything that was compiled, not only what `_start` reaches.
fn link(folder: &Path) -> Result<()> {
    let archive = Path::new("target").join(TARGET).join("debug/libfreestanding.a");
    let mut link = Command::new("cc");
    link.args([
        "-nostdlib",
        "-nostartfiles",
        "-static-pie",
        "-Wl,--no-dynamic-linker",
        "-Wl,--whole-archive",
    ]);
    process::stdout(link.arg(archive).args(["-o", "program"]).current_dir(folder)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_is_in_the_manifest_and_in_the_program() {
        let members = members::all().unwrap();
        let libraries: Vec<_> = members.iter().filter(|member| member.is_freestanding_library()).collect();
        let (manifest, program) = (manifest(paths::repository(), &libraries), program(&libraries));
        assert!(libraries.iter().any(|member| member.folder == "crates/vtd"));
        for Member { library, folder, .. } in libraries {
            assert!(manifest.contains(&format!("/{folder}\"")), "{manifest}");
            assert!(program.contains(&format!("extern crate {library} as _;")), "{program}");
        }
    }
}
