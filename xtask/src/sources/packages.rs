//! Packages for others: checks that each library without an operating system can be published as it is.

use std::path::Path;

use anyhow::{Result, ensure};
use cargo_metadata::Package;

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
    let mut package = cargo(&["package", "--quiet", "--allow-dirty", "--target-dir"]);
    package.arg(target_folder().join("packages"));
    package.args(libraries.iter().flat_map(|member| ["--package", &member.package]));
    process::stdout(&mut package).err().map(|error| format!("{error:#}")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

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
}
