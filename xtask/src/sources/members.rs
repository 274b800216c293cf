//! The crates of the repository, as their manifests and their sources describe them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{Dependency, DependencyKind, MetadataCommand, Package, Target};

use super::imports::Sources;
use crate::paths;

/// One crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// The name of its package.
    pub(crate) package: String,
    /// The name of its library in code; empty if it has none.
    pub(crate) library: String,
    /// Its folder, such as `crates/vtd`.
    pub(crate) folder: String,
    /// The rooms that its manifest lists in `[dependencies]`.
    pub(crate) dependencies: BTreeSet<String>,
    /// Those of them that its sources use outside of tests.
    pub(crate) imports: BTreeSet<String>,
    /// Whether all its libraries and programs do without the standard library.
    pub(crate) no_std: bool,
    /// Whether all its libraries and programs forbid `unsafe`.
    pub(crate) forbids_unsafe: bool,
}

/// Every crate of the workspace, and of the fuzzer's.
pub(crate) fn all() -> Result<Vec<Member>> {
    let manifests = [paths::repository().join("Cargo.toml"), paths::repository().join("fuzz/Cargo.toml")];
    let [workspace, fuzz] = manifests.map(|manifest| packages(&manifest));
    let packages = [workspace?, fuzz?].concat();
    let names = packages.iter().map(|package| (folder(package), code_name(package))).collect();
    packages.iter().map(|package| Member::read(package, &names)).collect()
}

/// The packages of a workspace, as their manifests describe them.
pub(super) fn packages(manifest: &Path) -> Result<Vec<Package>> {
    let read = MetadataCommand::new().manifest_path(manifest).no_deps().exec();
    Ok(read.with_context(|| format!("reading {}", manifest.display()))?.packages)
}

impl Member {
    /// Reads a package; `names` are those of all packages in code, by their folders.
    fn read(package: &Package, names: &BTreeMap<PathBuf, String>) -> Result<Self> {
        let roots = package.targets.iter().filter(|target| is_root(target));
        let sources =
            roots.map(|target| Sources::read(target.src_path.as_std_path())).collect::<Result<Vec<_>>>()?;
        let normal = package.dependencies.iter().filter(|used| used.kind == DependencyKind::Normal);
        let normal: Vec<_> = normal.filter_map(|used| in_repository(used, names)).collect();
        let is_named = |name: &str| sources.iter().any(|sources| sources.names.contains(name));
        let imports = normal.iter().filter(|(_, name)| is_named(name)).map(|(room, _)| room.clone());
        let folder = folder(package);
        let folder = folder.strip_prefix(paths::repository()).unwrap_or(&folder).display().to_string();
        Ok(Self {
            imports: imports.collect(),
            dependencies: normal.into_iter().map(|(room, _)| room).collect(),
            no_std: sources.iter().all(|sources| sources.no_std),
            forbids_unsafe: sources.iter().all(|sources| sources.forbids_unsafe),
            package: package.name.to_string(),
            library: code_name(package),
            folder,
        })
    }
}

impl Member {
    /// Whether it is a library for everybody that does without an operating system.
    pub(crate) fn is_freestanding_library(&self) -> bool {
        self.no_std && self.folder.starts_with("crates/")
    }
}

/// Whether it is a library or a program: no test, no example, no benchmark, no build script.
fn is_root(target: &Target) -> bool {
    target.is_lib() || target.is_bin()
}

/// The room of a dependency and its name in code, if it is one of the repository's.
fn in_repository(used: &Dependency, names: &BTreeMap<PathBuf, String>) -> Option<(String, String)> {
    let folder = used.path.as_ref()?.as_std_path();
    let name = used.rename.clone().or_else(|| names.get(folder).cloned())?;
    Some((folder.file_name()?.to_str()?.to_owned(), name))
}

/// The folder of a package's manifest.
fn folder(package: &Package) -> PathBuf {
    let manifest = package.manifest_path.as_std_path();
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The name of a package's library in code; empty if it has none.
fn code_name(package: &Package) -> String {
    let library = package.targets.iter().find(|target| target.is_lib());
    library.map_or_else(String::new, |library| library.name.replace('-', "_"))
}
