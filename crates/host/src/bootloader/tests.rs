use tempfile::TempDir;

use super::*;
use crate::programs::tests::Noted;

const NEEDED: u64 = 20 << 20;
const MEMORY: u64 = 8 << 30;

/// A system with these files.
fn system(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn debian() -> TempDir {
    system(&[("usr/sbin/update-grub", ""), (GRUB, "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n")])
}

fn text(root: &TempDir, file: &str) -> String {
    fs::read_to_string(root.path().join(file)).unwrap()
}

#[test]
fn debian_gets_a_part_of_its_own_and_update_grub_runs_once() {
    let (root, programs) = (debian(), Noted::default());
    let set = reserve(root.path(), NEEDED, MEMORY, &programs).unwrap();
    assert_eq!(set.to_string(), "crashkernel=20M from the next boot on");
    assert!(text(&root, DROP_IN).ends_with("$GRUB_CMDLINE_LINUX_DEFAULT crashkernel=20M\"\n"));
    assert_eq!(text(&root, GRUB), "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n", "nobody else's file is changed");
    start_with(&root, "crashkernel=20M");
    let again = reserve(root.path(), NEEDED, MEMORY, &programs).unwrap();
    assert!(matches!(again, Reservation::Asked { .. }), "{again:?}");
    assert_eq!(*programs.lines.borrow(), ["update-grub"]);
    // A machine that has grown needs more.
    reserve(root.path(), 2 * NEEDED, MEMORY, &programs).unwrap();
    assert_eq!(asked(root.path()), [(root.path().join(DROP_IN), "40M".to_owned())]);
    assert!(release(root.path(), &programs).unwrap() && !root.path().join(DROP_IN).exists());
    assert!(!release(root.path(), &programs).unwrap(), "nothing is asked for any more");
    assert_eq!(programs.lines.borrow().len(), 3);
}

/// The running kernel was started with this.
fn start_with(root: &TempDir, options: &str) {
    fs::create_dir_all(root.path().join("proc")).unwrap();
    fs::write(root.path().join("proc/cmdline"), format!("quiet {options}\n")).unwrap();
}

/// Programs that fail.
struct Failing;

impl Programs for Failing {
    fn run(&self, _: &str, _: &[&str]) -> io::Result<String> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_bootloader_that_was_not_told_is_told_by_the_next_run() {
    let (root, programs) = (debian(), Noted::default());
    start_with(&root, "ro");
    reserve(root.path(), NEEDED, MEMORY, &Failing).unwrap_err();
    let again = reserve(root.path(), NEEDED, MEMORY, &programs).unwrap();
    assert!(matches!(again, Reservation::Set { .. }), "{again:?}");
    assert_eq!(*programs.lines.borrow(), ["update-grub"]);
}

/// A shell reads the part as GRUB's script does.
#[test]
fn a_shell_adds_the_option_to_those_that_are_there() {
    let root = debian();
    reserve(root.path(), NEEDED, MEMORY, &Noted::default()).unwrap();
    let script =
        ". ./etc/default/grub; . ./etc/default/grub.d/holdover.cfg; echo \"$GRUB_CMDLINE_LINUX_DEFAULT\"";
    let shell = std::process::Command::new("sh").args(["-c", script]).current_dir(&root).output().unwrap();
    assert_eq!(String::from_utf8(shell.stdout).unwrap(), "quiet crashkernel=20M\n");
}

#[test]
fn what_kdump_tools_asks_for_is_enough_or_is_told() {
    let part = "etc/default/grub.d/kdump-tools.cfg";
    let line = "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT crashkernel=384M-:128M\"\n";
    let (root, programs) = (debian(), Noted::default());
    fs::create_dir_all(root.path().join(GRUB_PARTS)).unwrap();
    fs::write(root.path().join(part), line).unwrap();
    let enough = reserve(root.path(), NEEDED, MEMORY, &programs).unwrap().to_string();
    assert!(enough.contains("kdump-tools.cfg has crashkernel=384M-:128M"), "{enough}");
    let refused = reserve(root.path(), 200 << 20, MEMORY, &programs).unwrap_err().to_string();
    assert!(refused.contains("needs 200M") && refused.contains("apt purge kdump-tools"), "{refused}");
    assert!(programs.lines.borrow().is_empty() && !root.path().join(DROP_IN).exists());
    assert_eq!(text(&root, part), line);
}

#[test]
fn fedora_is_asked_through_grubby_and_gives_back_what_was_added() {
    let (root, programs) = (system(&[("usr/sbin/grubby", ""), (GRUB, "")]), Noted::default());
    reserve(root.path(), NEEDED, MEMORY, &programs).unwrap();
    assert!(release(root.path(), &programs).unwrap() && !release(root.path(), &programs).unwrap());
    let lines = ["--args=crashkernel=20M", "--remove-args=crashkernel=20M"];
    assert_eq!(*programs.lines.borrow(), lines.map(|line| format!("grubby --update-kernel=ALL {line}")));
}

#[test]
fn systemd_boot_gets_a_word_more_and_the_command_is_named_that_makes_it_count() {
    let (root, programs) = (system(&[(KERNEL_INSTALL, "root=UUID=1  ro\n")]), Noted::default());
    let set = reserve(root.path(), NEEDED, MEMORY, &programs).unwrap();
    assert!(set.to_string().contains("`kernel-install add"), "{set}");
    assert_eq!(text(&root, KERNEL_INSTALL), "root=UUID=1 ro crashkernel=20M\n");
    reserve(root.path(), 2 * NEEDED, MEMORY, &programs).unwrap();
    assert_eq!(text(&root, KERNEL_INSTALL), "root=UUID=1 ro crashkernel=40M\n");
    assert!(release(root.path(), &programs).unwrap());
    assert_eq!(text(&root, KERNEL_INSTALL), "root=UUID=1 ro\n");
}

#[test]
fn what_a_person_has_written_stays_and_is_told() {
    let root = system(&[(KERNEL_INSTALL, "ro crashkernel=8M\n")]);
    let refused = reserve(root.path(), NEEDED, MEMORY, &Noted::default()).unwrap_err().to_string();
    assert!(refused.contains("has crashkernel=8M, and this machine needs 20M"), "{refused}");
    assert_eq!(text(&root, KERNEL_INSTALL), "ro crashkernel=8M\n");
    assert!(!release(root.path(), &Noted::default()).unwrap());
}

#[test]
fn an_unknown_bootloader_is_told_with_what_to_write() {
    let refused = reserve(system(&[]).path(), NEEDED, MEMORY, &Noted::default()).unwrap_err().to_string();
    assert!(refused.contains("add crashkernel=20M to it by hand"), "{refused}");
}

#[test]
fn the_memory_of_a_machine_is_read() {
    assert_eq!(
        memory(system(&[("proc/meminfo", "MemTotal:        8145032 kB\nMemFree: 1 kB\n")]).path()),
        8_145_032 << 10
    );
    assert_eq!(memory(system(&[]).path()), 0);
}
