//! The row `package-contents`: what is in the package, and what is left of it after a purge.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::rows::Stage;
use crate::{paths, process};

/// What must be in the package, with its rights, as `dpkg-deb --contents` shows them.
const CONTENTS: [(&str, &str); 12] = [
    ("-rwxr-xr-x", "./usr/bin/holdover"),
    ("-rw-r--r--", "./etc/holdover.toml"),
    ("-rw-r--r--", "./usr/lib/systemd/system/holdover-verify.service"),
    ("-rw-r--r--", "./usr/lib/systemd/system/holdover-verify.timer"),
    ("-rw-r--r--", "./usr/share/bash-completion/completions/holdover"),
    ("-rw-r--r--", "./usr/share/zsh/vendor-completions/_holdover"),
    ("-rw-r--r--", "./usr/share/fish/vendor_completions.d/holdover.fish"),
    ("-rw-r--r--", "./usr/share/man/man1/holdover.1.gz"),
    ("-rw-r--r--", "./usr/share/man/man1/holdover-load.1.gz"),
    ("-rw-r--r--", "./usr/share/doc/holdover/changelog.Debian.gz"),
    ("-rw-r--r--", "./usr/share/doc/holdover/copyright"),
    ("-rw-r--r--", "./usr/share/lintian/overrides/holdover"),
];

/// Completions, and the command that reads such a file without doing it.
const COMPLETIONS: [(&str, [&str; 2]); 3] = [
    ("usr/share/bash-completion/completions/holdover", ["bash", "-n"]),
    ("usr/share/zsh/vendor-completions/_holdover", ["zsh", "-n"]),
    ("usr/share/fish/vendor_completions.d/holdover.fish", ["fish", "--no-execute"]),
];

/// Compares the package with what it must be.
pub(super) fn problems(stage: &Stage) -> Result<Vec<String>> {
    let deb = &stage.deb.path;
    let folder = tempfile::tempdir()?;
    let files = folder.path().join("files");
    process::stdout(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(&files))?;
    let mut problems = missing(deb)?;
    problems.extend(complaints(deb)?);
    problems.extend(dependencies_of_program(&files.join("usr/bin/holdover"))?);
    problems.extend(unreadable_pages(&files)?);
    for (completion, reader) in COMPLETIONS {
        let mut read = Command::new(reader[0]);
        problems.extend(failure(read.arg(reader[1]).arg(files.join(completion))));
    }
    problems.extend(left_by_purge(stage, folder.path())?);
    Ok(problems)
}

/// Names what is not in the package, or has other rights.
fn missing(deb: &Path) -> Result<Vec<String>> {
    let listed = process::stdout(Command::new("dpkg-deb").arg("--contents").arg(deb))?;
    let is_listed = |rights: &str, path: &str| {
        listed.lines().any(|line| line.starts_with(rights) && line.split_whitespace().last() == Some(path))
    };
    let lacking = CONTENTS.iter().filter(|(rights, path)| !is_listed(rights, path));
    Ok(lacking.map(|(rights, path)| format!("the package has no {path} with {rights}")).collect())
}

/// What Debian's checker of packages complains of.
fn complaints(deb: &Path) -> Result<Vec<String>> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "none"]).arg(deb);
    Ok(process::stdout(&mut lintian)?.lines().map(|line| format!("lintian: {line}")).collect())
}

/// Checks that the program needs no library, and that the capture kernel is inside.
fn dependencies_of_program(program: &Path) -> Result<Vec<String>> {
    let dynamic = process::stdout(Command::new("readelf").arg("--dynamic").arg("--wide").arg(program))?;
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let version = process::stdout(Command::new(program).arg("--version"))?;
    let lacks_image = (!version.contains("bytes inside")).then(|| format!("the program says `{version}`"));
    Ok(needed.map(|line| format!("the program needs a library: {line}")).chain(lacks_image).collect())
}

/// Has `man` show each page; a warning is a problem.
fn unreadable_pages(files: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for page in fs::read_dir(files.join("usr/share/man/man1"))? {
        let page = page?.path();
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file"]).arg(&page).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        let output = man.output().context("cannot start man")?;
        let complaints = String::from_utf8_lossy(&output.stderr);
        problems.extend(complaints.lines().map(|line| format!("man {}: {line}", page.display())));
        if output.stdout.is_empty() {
            problems.push(format!("man shows nothing of {}", page.display()));
        }
    }
    Ok(problems)
}

/// What is wrong if a command fails.
fn failure(command: &mut Command) -> Option<String> {
    process::stdout(command).err().map(|error| format!("{error:#}"))
}

/// Installs and purges the package in a copy of the system that has a key for its kernel modules, but neither a `/proc` nor, at first, a
/// program that signs; names what a purge leaves.
fn left_by_purge(stage: &Stage, folder: &Path) -> Result<Vec<String>> {
    let root = folder.join("root");
    process::stdout(Command::new("cp").arg("-a").arg(&stage.system.tree).arg(&root))?;
    make_key(&paths::made(root.join("var/lib/dkms"))?)?;
    fs::copy(&stage.deb.path, root.join("holdover.deb"))?;
    let before = files_below(&root)?;
    let mut problems = Vec::new();
    let told = dpkg(&root, &["--install", "/holdover.deb"])?;
    if !told.contains("the package sbsigntool") || root.join(SIGNED_COPY).exists() {
        problems.push(format!("without a program that signs, dpkg says {told}"));
    }
    let signer = stage.system.packages_of("sbsigntool")?;
    process::stdout(Command::new("cp").arg("-r").arg(&signer).arg(root.join("signer")))?;
    dpkg(&root, &["--install", "--recursive", "/signer"])?;
    let before: Vec<_> = before.into_iter().chain(files_of(&root, "sbsigntool")?).collect();
    let told = dpkg(&root, &["--install", "/holdover.deb"])?;
    if told.contains("not signed") || !root.join(SIGNED_COPY).exists() {
        problems.push(format!("with a key and a program that signs, dpkg says {told}"));
    }
    let installed = files_below(&root)?;
    if !installed.iter().any(|path| path == "./usr/bin/holdover") {
        problems.push("dpkg installs no /usr/bin/holdover".to_owned());
    }
    dpkg(&root, &["--purge", "holdover"])?;
    let purged = files_below(&root)?;
    let left = purged.iter().filter(|path| !before.contains(path) && !is_dpkgs(path));
    problems.extend(left.map(|path| format!("a purge leaves {path}")));
    Ok(problems)
}

/// Where `holdover load` looks for the signed image.
const SIGNED_COPY: &str = "var/lib/holdover/capture.bzImage";

/// Makes a key for kernel modules, and its certificate, with the names that DKMS gives them.
pub(super) fn make_key(folder: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=DKMS module signing key",
    ]);
    openssl.args(["-outform", "DER", "-keyout"]).arg(folder.join("mok.key"));
    process::stdout(openssl.arg("-out").arg(folder.join("mok.pub"))).map(drop)
}

/// Runs dpkg in a system, and returns what it and the scripts of packages say.
fn dpkg(root: &Path, arguments: &[&str]) -> Result<String> {
    let mut chroot = Command::new("chroot");
    chroot.arg(root).args(["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]);
    process::stdout(chroot.args(["sh", "-c", "dpkg \"$@\" 2>&1", "dpkg"]).args(arguments))
}

/// The files of a package that is installed.
fn files_of(root: &Path, package: &str) -> Result<Vec<String>> {
    let listed = dpkg(root, &["--listfiles", package])?;
    Ok(listed.lines().map(|path| format!(".{path}")).collect())
}

/// Whether dpkg keeps this file for itself, or the row brought it.
fn is_dpkgs(path: &str) -> bool {
    ["./signer", "./var/lib/dpkg/", "./var/log/"].iter().any(|place| path.starts_with(place))
}

/// The paths of everything below a folder.
fn files_below(root: &Path) -> Result<Vec<String>> {
    let mut find = Command::new("find");
    let found = process::stdout(find.current_dir(root).args([".", "-xdev"]))?;
    Ok(found.lines().map(str::to_owned).collect())
}
