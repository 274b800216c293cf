//! Packages for others: checks that each library without an operating system can be published as it is.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use cargo_metadata::Package;
use tempfile::TempDir;

use super::members::{self, Member};
use crate::cargo::{cargo, target_folder};
use crate::{paths, process};

/// The files with the terms of [`LICENSE`], in the folder of each package.
const LICENSE_FILES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
const LICENSE: &str = "MIT OR Apache-2.0";

/// Finds what a package lacks that others need; makes and builds all packages if they lack nothing.
pub(crate) fn problems() -> Result<Vec<String>> {
    let members = members::all()?;
    let libraries: Vec<_> = members.iter().filter(|member| member.is_freestanding_library()).collect();
    ensure!(!libraries.is_empty(), "no library claims to be `no_std`");
    let manifests = members::packages(&paths::repository().join("Cargo.toml"))?;
    let is_library = |package: &&Package| libraries.iter().any(|member| *package.name == member.package);
    let lacking: Vec<_> = manifests.iter().filter(is_library).flat_map(lacking).collect();
    if lacking.is_empty() { Ok(package(&libraries)) } else { Ok(lacking) }
}

/// Lists what a package lacks before others can find it, and can learn its purpose and its terms.
fn lacking(package: &Package) -> Vec<String> {
    let folder = package.manifest_path.parent().map_or(Path::new(""), |folder| folder.as_std_path());
    let is_file = |name: &str| folder.join(name).is_file();
    let has_readme = package.readme.as_ref().is_some_and(|readme| is_file(readme.as_str()));
    let has_terms = package.license.as_deref() == Some(LICENSE) && LICENSE_FILES.into_iter().all(is_file);
    let wanted = [
        ("leave to be published", package.publish.is_none()),
        ("description", package.description.as_ref().is_some_and(|text| !text.is_empty())),
        ("keywords", !package.keywords.is_empty()),
        ("README", has_readme),
        ("license files", has_terms),
    ];
    let missing = wanted.into_iter().filter(|(_, there)| !there);
    missing.map(|(what, _)| format!("the package {} has no {what}", package.name)).collect()
}

/// Makes the packages, and builds each from what is in it and from the other packages.
fn package(libraries: &[&Member]) -> Vec<String> {
    let names = libraries.iter().map(|member| member.package.as_str());
    let made = package_in(paths::repository(), &target_folder().join("packages"), names);
    made.err().map(|error| format!("{error:#}")).into_iter().collect()
}

/// Makes and builds packages of the workspace in `folder`.
fn package_in<'a>(folder: &Path, target: &Path, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let home = home_without_sources()?;
    let mut package = cargo(&["package", "--quiet", "--allow-dirty", "--target-dir"]);
    package.arg(target).args(names.flat_map(|name| ["--package", name]));
    package.current_dir(folder).env("CARGO_HOME", home.path());
    process::stdout(&mut package).map(drop)
}

/// Makes a home for cargo with all that is in the user's, except for the unpacked sources of packages.
///
/// Cargo unpacks a package into its home once for each version. The packages made here keep their version while they change:
/// with the user's home the others would be built against what they were when they were made for the first time.
fn home_without_sources() -> Result<TempDir> {
    let users = env::var_os("CARGO_HOME").map(PathBuf::from);
    let users =
        users.or_else(|| Some(env::home_dir()?.join(".cargo"))).context("there is no home for cargo")?;
    let home = tempfile::tempdir()?;
    link_entries(&users, home.path(), "registry")?;
    fs::create_dir(home.path().join("registry"))?;
    link_entries(&users.join("registry"), &home.path().join("registry"), "src")?;
    Ok(home)
}

/// Makes links in `into` to what is in `from`, if there is such a folder, except for one entry.
fn link_entries(from: &Path, into: &Path, except: &str) -> Result<()> {
    let entries = if from.is_dir() { Some(from.read_dir()?) } else { None };
    for entry in entries.into_iter().flatten() {
        let entry = entry?;
        if entry.file_name() != except {
            symlink(entry.path(), into.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "\
[package]
name = \"some-layouts\"
version = \"0.1.0\"
description = \"Layouts\"
keywords = [\"iommu\"]
license = \"MIT OR Apache-2.0\"
[workspace]
";

    /// What a package with this manifest and these files lacks.
    fn found(manifest: &str, files: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        file("src/lib.rs", "");
        file("Cargo.toml", manifest);
        for name in files {
            file(name, "text");
        }
        lacking(&members::packages(&folder.path().join("Cargo.toml")).unwrap()[0])
    }

    #[test]
    fn a_package_with_all_that_others_need_lacks_nothing() {
        assert!(found(MANIFEST, &["README.md", "LICENSE-MIT", "LICENSE-APACHE"]).is_empty());
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let files = ["README.md", "LICENSE-MIT"];
        assert_eq!(found(MANIFEST, &files), ["the package some-layouts has no license files"]);
        let bare = "[package]\nname = \"bare\"\npublish = false\n[workspace]\n";
        let all = ["leave to be published", "description", "keywords", "README", "license files"];
        assert_eq!(found(bare, &[]), all.map(|what| format!("the package bare has no {what}")));
    }

    /// A package is built against the others as they are now, and not as they were at the run before.
    #[test]
    fn packages_that_change_together_fit_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let manifest = |name: &str, dependencies: &str| {
            format!(
                "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n{dependencies}\n"
            )
        };
        write("Cargo.toml", "[workspace]\nmembers = [\"lower\", \"upper\"]\nresolver = \"3\"\n");
        write("lower/Cargo.toml", &manifest("holdover-lower", ""));
        write(
            "upper/Cargo.toml",
            &manifest("holdover-upper", "holdover-lower = { path = \"../lower\", version = \"0.1\" }"),
        );
        for function in ["first", "second"] {
            write("lower/src/lib.rs", &format!("pub fn {function}() {{}}"));
            write("upper/src/lib.rs", &format!("pub use holdover_lower::{function};"));
            let names = ["holdover-lower", "holdover-upper"].into_iter();
            package_in(folder.path(), &folder.path().join("target"), names).unwrap();
        }
    }
}
