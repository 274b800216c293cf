//! Makes the guest's initial RAM file system in memory: an archive in cpio's `newc` format.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::guests::kernels::{Flavour, Kernel};
use crate::machines::scenario::Scenario;
use crate::machines::scenario::disk::Disk;
use crate::machines::scenario::memory::MemoryUse;
use crate::machines::scenario::watchdog::Watchdog;
use crate::paths;

/// The program of guests that finds a disk.
pub(crate) const FIND_DISK: &str = "bin/find-disk";

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// A cpio archive under construction.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    /// Folders that are in it already.
    folders: BTreeSet<PathBuf>,
    entries: u32,
}

impl Archive {
    /// Adds a file, and the folders above it.
    pub(crate) fn add(&mut self, path: &str, content: &[u8]) {
        let path = Path::new(path);
        self.add_folder(above(path));
        self.entry(path, PROGRAM, content);
    }

    /// Adds an empty folder, and those above it.
    pub(crate) fn add_folder(&mut self, path: &Path) {
        if path.as_os_str().is_empty() || !self.folders.insert(path.to_owned()) {
            return;
        }
        self.add_folder(above(path));
        self.entry(path, DIRECTORY, &[]);
    }

    /// Adds a file of this machine under its own path.
    pub(crate) fn copy(&mut self, file: &Path) -> Result<()> {
        let path = file.strip_prefix("/").unwrap_or(file).to_string_lossy();
        self.add(&path, &read(file)?);
        Ok(())
    }

    /// Adds every file under a folder of this machine; links become what they point to.
    pub(crate) fn copy_tree(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                self.copy_tree(&path)?;
            } else if path.is_file() {
                self.copy(&path)?;
            }
        }
        Ok(())
    }

    /// Adds a program of this machine as `/bin/NAME`, and the libraries that it needs.
    pub(crate) fn copy_program(&mut self, name: &str) -> Result<()> {
        let program = found(name)?;
        for library in libraries(&program)? {
            self.copy(&library)?;
        }
        self.add(&format!("bin/{name}"), &read(&program)?);
        Ok(())
    }

    /// Closes the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(Path::new("TRAILER!!!"), 0, &[]);
        self.bytes
    }

    /// One header, name and content, each padded to four bytes.
    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) {
        let name = path.to_string_lossy();
        self.entries += 1;
        let sizes = (content.len() as u32, name.len() as u32 + 1);
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, sizes.0, 0, 0, 0, 0, sizes.1, 0];
        self.bytes.extend(b"070701");
        self.bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Everything in the guest that depends on the kernel and on what it does with its memory.
pub(crate) fn base(scenario: &Scenario, kernel: &Kernel) -> Result<Archive> {
    let flavour = scenario.kernel;
    let mut archive = Archive::default();
    archive.add("init", &guest_file("init")?);
    archive.add(FIND_DISK, &guest_file("find-disk")?);
    for folder in ["proc", "sys", "dev", "tmp"] {
        archive.add_folder(Path::new(folder));
    }
    archive.copy_program("busybox")?;
    archive.copy_program("kexec")?;
    if flavour.is_general() {
        archive.copy_program("aplay")?;
        archive.copy_tree(Path::new("/usr/share/alsa"))?;
    }
    let mut modules = wanted_modules(flavour).to_vec();
    modules.extend(scenario.disk_model.modules());
    modules.extend(scenario.scale.modules());
    modules.extend(scenario.watchdog.map(Watchdog::modules).unwrap_or_default());
    if scenario.is_signed() {
        // UEFI's variables, which say whether Secure Boot is on.
        modules.push("efivarfs");
    }
    if let Some(system) = scenario.disk.file_system() {
        modules.push(system.name());
        for program in system.programs().iter().chain(scenario.file_fate.programs(system)) {
            archive.copy_program(program)?;
        }
    }
    scenario.target.add_before(&mut archive)?;
    modules.extend(scenario.target.modules());
    if scenario.disk == Disk::Volume {
        modules.push("dm_mod");
        archive.copy_program("dmsetup")?;
    }
    if let Some(disk) = scenario.disk_use.read(scenario.disk_model) {
        archive.add("scenario/read", disk.as_bytes());
    }
    if scenario.memory_use == MemoryUse::EveryKind {
        archive.add("scenario/memory", &guest_file("use-memory")?);
        modules.extend(MEMORY_MODULES);
    }
    add_modules(&mut archive, kernel, &modules)?;
    Ok(archive)
}

/// A program of guests.
pub(crate) fn guest_file(name: &str) -> Result<Vec<u8>> {
    read(&paths::repository().join("guest").join(name))
}

/// What `guest/use-memory` needs: a disk in memory, and the driver of the device that takes memory away.
const MEMORY_MODULES: [&str; 2] = ["brd", "virtio_balloon"];

/// Modules for the devices of the bench, in an order that works: the sound codec before its controller.
fn wanted_modules(flavour: Flavour) -> &'static [&'static str] {
    if !flavour.is_general() {
        return &["virtio_pci", "virtio_net"];
    }
    &[
        "virtio_pci",
        "nvme",
        "e1000e",
        "uhci_hcd",
        "usbhid",
        "hid_generic",
        "evdev",
        "snd_hda_codec_generic",
        "snd_hda_intel",
    ]
}

/// The driver of the bench's network card, which a kernel for clouds has of virtio's only.
pub(crate) fn network_driver(flavour: Flavour) -> &'static str {
    if flavour.is_general() { "e1000e" } else { "virtio_net" }
}

/// Adds kernel modules, those they depend on, and the list of them in the order in which they are loaded.
pub(crate) fn add_modules(archive: &mut Archive, kernel: &Kernel, wanted: &[&str]) -> Result<()> {
    let mut order = Vec::new();
    for module in wanted {
        resolve(&kernel.modules, module, archive, &mut order)?;
    }
    archive.add("scenario/modules", (order.join("\n") + "\n").as_bytes());
    Ok(())
}

/// Whether a kernel has such a module, or what is one elsewhere.
pub(crate) fn has_module(kernel: &Kernel, name: &str) -> Result<bool> {
    Ok(module_file(&kernel.modules, name)?.is_some() || is_built_in(&kernel.modules, name)?)
}

/// Adds a module after those it depends on.
fn resolve(modules: &Path, name: &str, archive: &mut Archive, order: &mut Vec<String>) -> Result<()> {
    if order.iter().any(|have| have == name) {
        return Ok(());
    }
    let Some(file) = module_file(modules, name)? else {
        ensure!(is_built_in(modules, name)?, "this kernel has no module {name}");
        return Ok(());
    };
    let code = read_module(&file)?;
    for dependency in dependencies(&code) {
        resolve(modules, &dependency, archive, order)?;
    }
    archive.add(&format!("modules/{name}.ko"), &code);
    order.push(name.to_owned());
    Ok(())
}

/// Finds a module's file; in file names a hyphen may stand for the underscore.
fn module_file(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = module_file(&path, name)? {
                return Ok(Some(found));
            }
        } else if module_name(&path) == name {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whether what is a module elsewhere is a part of this kernel.
fn is_built_in(modules: &Path, name: &str) -> Result<bool> {
    let listed = fs::read_to_string(modules.join("modules.builtin"))?;
    Ok(listed.lines().any(|line| module_name(Path::new(line)) == name))
}

/// The name of the module in a file, which ends in `.ko` or `.ko.xz`.
fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().replace('-', "_")
}

/// A module as `insmod` takes it: newer kernels come with compressed ones.
fn read_module(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return read(file);
    }
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(file).output();
    let output = output.context("cannot start xz")?;
    ensure!(output.status.success(), "cannot decompress {}", file.display());
    Ok(output.stdout)
}

/// The modules that a module names in its `depends=` record.
fn dependencies(module: &[u8]) -> Vec<String> {
    const RECORD: &[u8] = b"\0depends=";
    let Some(at) = module.windows(RECORD.len()).position(|window| window == RECORD) else {
        return Vec::new();
    };
    let names = module[at + RECORD.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(names).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The shared libraries that a program loads, its loader included; none if it is linked statically.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    Ok(library_paths(&String::from_utf8_lossy(&output.stdout)))
}

/// The files in what a loader lists for a program.
pub(crate) fn library_paths(ldd: &str) -> Vec<PathBuf> {
    let words = ldd.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

fn found(program: &str) -> Result<PathBuf> {
    let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    let mut candidates = places.iter().map(|place| Path::new(place).join(program));
    match candidates.find(|candidate| candidate.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{program} is not installed: `cargo xtask setup` installs it"),
    }
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn cpio_lists_what_was_added_with_the_folders_above_it() {
        let mut archive = Archive::default();
        archive.add("a/b/file", b"12345");
        archive.add("a/other", b"");
        let mut cpio = Command::new("busybox");
        cpio.args(["cpio", "-i", "-t"]);
        let bytes = archive.finish();
        let text = String::from_utf8(bytes).unwrap();
        let listed = process::stdout_within(&mut cpio, &text, std::time::Duration::from_secs(10)).unwrap();
        assert_eq!(listed, "a\na/b\na/b/file\na/other\n");
    }

    #[test]
    fn a_module_names_its_dependencies() {
        let module = b"\x7fELF\0alias=x\0depends=snd-hda-core,snd-pcm\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["snd_hda_core", "snd_pcm"]);
        assert!(dependencies(b"license=GPL\0depends=\0").is_empty());
    }

    #[test]
    fn a_modules_file_may_be_compressed_and_have_hyphens() {
        assert_eq!(module_name(Path::new("kernel/sound/snd-hda-intel.ko")), "snd_hda_intel");
        assert_eq!(module_name(Path::new("virtio_blk.ko.xz")), "virtio_blk");
    }

    #[test]
    fn ldd_names_libraries_and_the_loader_but_not_the_vdso() {
        let ldd = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let paths = ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(library_paths(ldd), paths.map(PathBuf::from));
    }
}
