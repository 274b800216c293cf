//! Files of real file systems as dump areas: made, used, and removed by `holdover`. Each test mounts a disk image of its own.
//!
//! What Holdover notes of them is in a folder of the test. They take root, and programs that make file systems: `cargo xtask test --only file-areas` runs them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise, as tests do")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use machine::BlockDevice;
use serde_json::Value;
use terminal::{CTRL_C, Terminal};

mod terminal;

/// The file systems, and how each is made.
const SYSTEMS: [(&str, &[&str]); 3] =
    [("ext4", &["-q", "-F"]), ("xfs", &["-q"]), ("btrfs", &["-q", "--data", "single"])];
/// More than each of them takes.
const DISK: u64 = 512 << 20;

/// A mounted disk image.
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    fn new(system: &str, make: &[&str]) -> Self {
        let mounted = Self { folder: tempfile::tempdir().unwrap() };
        File::create(mounted.image()).unwrap().set_len(DISK).unwrap();
        fs::create_dir(mounted.point()).unwrap();
        done(Command::new(format!("mkfs.{system}")).args(make).arg(mounted.image()));
        done(
            Command::new("mount").args(["-t", system, "-o", "loop"]).args([mounted.image(), mounted.point()]),
        );
        mounted
    }

    /// As after a crash: what is in memory of the file system is forgotten, and nothing is pinned.
    fn mount_again(&self) {
        self.mount_again_after(Command::new("test").arg("-e"));
    }

    /// The same, after a program has done something to the image.
    fn mount_again_after(&self, change: &mut Command) {
        let _ = Command::new("swapoff").arg(self.area()).output();
        done(Command::new("umount").arg(self.point()));
        done(change.arg(self.image()));
        done(Command::new("mount").args(["-o", "loop"]).args([self.image(), self.point()]));
    }

    fn each() -> impl Iterator<Item = Self> {
        SYSTEMS.iter().map(|(system, make)| Self::new(system, make))
    }

    fn ext4() -> Self {
        Self::new(SYSTEMS[0].0, SYSTEMS[0].1)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn point(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn area(&self) -> PathBuf {
        self.point().join("area")
    }

    /// Runs a command of a system whose root folder is the test's.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
        command.current_dir(self.point()).args(arguments).arg("--root").arg(self.folder.path());
        command.output().unwrap()
    }

    /// The files that are noted.
    fn noted(&self) -> String {
        fs::read_to_string(self.folder.path().join("var/lib/holdover/files")).unwrap_or_default()
    }

    /// Makes the area, and returns its UUID.
    fn format(&self) -> String {
        let output = self.run(&["--json", "format", "area", "--size", "16M"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let formatted: Value = serde_json::from_slice(&output.stdout).unwrap();
        formatted["uuid"].as_str().unwrap().to_owned()
    }

    /// The labels of extents that are on the disk.
    fn labels(&self) -> usize {
        done(Command::new("sync").arg("-f").arg(self.point()));
        let image = fs::read(self.image()).unwrap();
        image.chunks(4096).filter(|block| block.starts_with(b"HOLDEXT")).count()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Forgets the file too.
        self.run(&["remove", "--discard-dump", "area"]);
        let _ = Command::new("umount").arg(self.point()).output();
    }
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_swap(path: &Path) -> bool {
    fs::read_to_string("/proc/swaps").unwrap().contains(path.to_str().unwrap())
}

/// A capture kernel that was loaded for it would take the blocks for the area, and they are others' by then.
#[test]
#[ignore = "takes root: see above"]
fn a_file_that_is_made_anew_leaves_no_labels_where_it_was() {
    for mounted in Mounted::each() {
        mounted.format();
        let labels = mounted.labels();
        // The old blocks are not given again at once.
        let again = mounted.run(&["format", "--force", "area", "--size", "32M"]);
        assert!(again.status.success(), "{}", stderr(&again));
        assert_eq!(mounted.labels(), labels, "the old ones are still there");
    }
}

#[test]
#[ignore = "takes root: see above"]
fn a_file_that_is_removed_is_gone_and_so_are_its_labels_and_its_pin() {
    for mounted in Mounted::each() {
        let uuid = mounted.format();
        assert!(is_swap(&mounted.area()) && mounted.labels() >= 2);
        let removed = mounted.run(&["remove", "area"]);
        assert!(removed.status.success() && stdout(&removed).contains(&uuid), "{}", stderr(&removed));
        assert!(!mounted.area().exists() && !is_swap(&mounted.area()));
        assert_eq!(mounted.labels(), 0);
        assert!(stderr(&mounted.run(&["remove", &uuid])).contains("no disk"), "it is forgotten");
        assert_eq!(mounted.noted(), "");
    }
}

#[test]
#[ignore = "takes root: see above"]
fn a_file_is_found_by_its_uuid() {
    let mounted = Mounted::ext4();
    let uuid = mounted.format();
    let said = stderr(&mounted.run(&["collect", &uuid, "dump"]));
    assert!(said.contains("nothing was dumped"), "{said}");
}

/// It may be damaged, with a dump in it, or the user's by now.
#[test]
#[ignore = "takes root: see above"]
fn a_file_that_has_lost_its_label_is_left_and_all_others_go() {
    let mounted = Mounted::ext4();
    let uuid = mounted.format();
    assert!(mounted.noted().contains("/mounted/area"), "nothing of this machine's is changed");
    dump_to(&mounted, &uuid);
    let all_files = || mounted.run(&["--json", "remove", "--all-files"]);
    let stays = |code| {
        let output = all_files();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), told["files"][0]["code"].as_str()),
            (Some(3), Some(code)),
            "{told}"
        );
        assert!(mounted.area().exists());
    };
    stays("in-use: uncollected");
    mounted.mount_again();
    let file = File::options().write(true).open(mounted.area()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 8], 64 << 10).unwrap();
    drop(file);
    stays("area: label-gone");
    let forgotten = mounted.run(&["remove", "--discard-dump", "area"]);
    assert!(stdout(&forgotten).contains("is there as it was"), "{}", stderr(&forgotten));
    assert!(mounted.area().exists() && mounted.noted().is_empty());
    fs::remove_file(mounted.area()).unwrap();
    mounted.format();
    assert_eq!(all_files().status.code(), Some(0));
    assert!(!mounted.area().exists() && mounted.noted().is_empty());
}

/// The conversation of `holdover setup` goes on after a yes, and is over where it is interrupted. (The noes before that take no root:
/// `setup_on_terminal.rs`.)
#[test]
#[ignore = "takes root: see above"]
fn setup_does_what_is_agreed_to_at_the_terminal_and_nothing_else() {
    let mounted = Mounted::ext4();
    let (root, area) = (mounted.folder.path().to_owned(), mounted.area());
    for (file, text) in [
        ("usr/sbin/update-grub", ""),
        ("etc/default/grub", ""),
        ("proc/cmdline", "quiet\n"),
        ("sys/kernel/kexec_crash_size", "0\n"),
    ] {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), text).unwrap();
    }
    let (folder, file) = (root.to_str().unwrap(), area.to_str().unwrap());
    let start =
        || Terminal::with(&["setup", "--no-units", "--root", folder, "--file", file, "--size", "16M"]);
    let grub = root.join("etc/default/grub.d/holdover.cfg");

    let mut terminal = start();
    terminal.see("a dump area of 16.00 MiB? [Y/n] ");
    assert!(!area.exists(), "before the answer");
    terminal.press("y\r");
    terminal.see("in the bootloader's configuration? [Y/n] ");
    assert!(area.exists() && mounted.noted().contains(file), "{}", terminal.shown);
    terminal.press("n\r");
    assert_eq!(terminal.end().code(), Some(3), "something is left: {}", terminal.shown);
    assert!(terminal.shown.contains("add crashkernel="), "{}", terminal.shown);
    let configured = fs::read_to_string(root.join("etc/holdover.toml")).unwrap();
    assert!(configured.contains(&format!("areas = [\"{file}\"]")) && !grub.exists(), "{configured}");

    let mut terminal = start();
    terminal.see("in the bootloader's configuration? [Y/n] ");
    assert!(!terminal.shown.contains("a dump area of"), "what is there is not asked for: {}", terminal.shown);
    terminal.press(CTRL_C);
    terminal.end();
    assert!(!grub.exists());

    let mut terminal = start();
    terminal.see("in the bootloader's configuration? [Y/n] ");
    terminal.press("\r");
    assert_eq!(terminal.end().code(), Some(3), "no program of another system is run: {}", terminal.shown);
    assert!(fs::read_to_string(&grub).unwrap().contains("crashkernel="));
}

/// The journal is written again after a crash, over the dump.
#[test]
#[ignore = "takes root: see above"]
fn a_file_whose_content_goes_through_ext4s_journal_is_refused() {
    let mounted = Mounted::ext4();
    let formatted = || mounted.run(&["--json", "format", "area", "--size", "16M"]);
    // Files inherit the attribute of their folder. `chattr +j` takes more rights than root has everywhere.
    mounted.mount_again_after(Command::new("debugfs").args(["-w", "-R", "sif <2> flags 0x84000"]));
    assert!(stderr(&formatted()).contains("chattr -j"), "{}", stdout(&formatted()));
    mounted.mount_again_after(Command::new("debugfs").args(["-w", "-R", "sif <2> flags 0x80000"]));
    mounted.mount_again_after(Command::new("tune2fs").args(["-o", "journal_data"]));
    assert!(stderr(&formatted()).contains("without data=journal"), "{}", stdout(&formatted()));
    assert!(!mounted.area().exists());
}

/// A copy has the labels, and is not where they say: the file is another, at another place.
#[test]
#[ignore = "takes root: see above"]
fn the_dump_in_a_file_that_moved_is_kept_and_collected() {
    for mounted in Mounted::each() {
        let uuid = mounted.format();
        dump_to(&mounted, &uuid);
        let said = stderr(&mounted.run(&["format", "--force", "area", "--size", "16M"]));
        assert!(said.contains("was not collected") && said.contains("--discard-dump"), "{said}");
        let area = mounted.area();
        mounted.mount_again();
        done(Command::new("cp").arg("--reflink=never").arg(&area).arg(mounted.point().join("copy")));
        done(Command::new("mv").arg(mounted.point().join("copy")).arg(&area));
        let said = stderr(&mounted.run(&["remove", "area"]));
        assert!(said.contains("was not collected"), "{said}");
        let collected = mounted.run(&["collect", "area", "dump"]);
        let dump = fs::read(mounted.point().join("dump")).unwrap_or_default();
        assert_eq!(dump, [5; 4 * 4096], "{}", stderr(&collected));
        let said = stderr(&mounted.run(&["collect", "area", "again"]));
        assert!(mounted.run(&["remove", "area"]).status.success(), "it was marked: {said}");
    }
}

/// Dumps four blocks to the area, as the capture kernel does: to the disk.
fn dump_to(mounted: &Mounted, uuid: &str) {
    let mut area = dumpfile::BlockFile::open(&mounted.area()).unwrap();
    let first = area::FirstExtent::read(&mut area, 64 << 10).unwrap().unwrap();
    done(Command::new("sync").arg("-f").arg(mounted.point()));
    let disk = dumpfile::BlockFile::open_exclusive(&mounted.image()).unwrap();
    let mut dump = area::Area::open(disk, first.disk, uuid.parse().unwrap()).unwrap().begin().unwrap();
    dump.write(0, &[5; 4 * 4096]).unwrap();
    dump.seal(area::Completeness::Complete, 4 * 4096).unwrap();
}
