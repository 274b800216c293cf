//! What Debian's and Ubuntu's kdump-tools would load, as their `kdump-config load` finds it.

use std::fs;
use std::path::{Path, PathBuf};

use handoff::HandOver;

use super::FallbackRequest;

/// The settings, a shell's assignments.
const SETTINGS: &str = "etc/default/kdump-tools";
/// Where dumps are written where the settings do not say.
const DUMPS: &str = "/var/crash";
/// What is appended to the running kernel's command line where the settings do not say.
const APPENDED: &str = "reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1 irqpoll usbcore.nousb";
/// What a kernel must not be told twice.
const LEFT_OUT: [&str; 4] = ["crashkernel=", "hugepages=", "hugepagesz=", "abm="];

/// The directory in which kdump-tools make a folder for each dump.
pub(super) fn dumps(root: &Path) -> PathBuf {
    let settings = read(root, SETTINGS);
    root.join(assigned(&settings, "KDUMP_COREDIR").unwrap_or(DUMPS).trim_start_matches('/'))
}

/// The kernel that kdump-tools load on the system whose root folder this is. Files that are not there are found out when they are read.
pub(super) fn request(root: &Path, when: HandOver) -> FallbackRequest {
    let settings = read(root, SETTINGS);
    let setting = |name: &str| assigned(&settings, name);
    let release = read(root, "proc/sys/kernel/osrelease");
    let named = |name: &str, otherwise: &str| {
        let path =
            setting(name).map_or_else(|| format!("/boot/{otherwise}-{}", release.trim()), str::to_owned);
        root.join(path.trim_start_matches('/'))
    };
    let own = setting("KDUMP_CMDLINE").map_or_else(|| of_running(root), str::to_owned);
    let appended = setting("KDUMP_CMDLINE_APPEND").unwrap_or(APPENDED);
    FallbackRequest {
        kernel: named("KDUMP_KERNEL", "vmlinuz"),
        initramfs: named("KDUMP_INITRD", "initrd.img"),
        command_line: format!("{own} {appended}"),
        when,
    }
}

/// The running kernel's command line, without what a crash kernel must not be told.
fn of_running(root: &Path) -> String {
    let line = read(root, "proc/cmdline");
    let is_kept = |word: &&str| !LEFT_OUT.iter().any(|option| word.starts_with(option));
    line.split_whitespace().filter(is_kept).collect::<Vec<_>>().join(" ")
}

/// The value that a shell would give a variable: the last one, without its quotes. An empty one is none.
fn assigned<'a>(settings: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.trim().strip_prefix(name)?.strip_prefix('=');
    let last = settings.lines().rev().find_map(value)?;
    Some(last.trim().trim_matches(['"', '\''])).filter(|value| !value.is_empty())
}

fn read(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join(PathBuf::from(file))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(settings: &str) -> (String, String, String) {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
            fs::write(root.path().join(file), text).unwrap();
        };
        write(SETTINGS, settings);
        write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 crashkernel=256M quiet hugepages=4\n");
        write("proc/sys/kernel/osrelease", "6.12.0-amd64\n");
        let FallbackRequest { kernel, initramfs, command_line, .. } =
            request(root.path(), HandOver::WhenNeeded);
        let below = |path: PathBuf| path.strip_prefix(root.path()).unwrap().display().to_string();
        (below(kernel), below(initramfs), command_line)
    }

    /// As Debian 12 installs them.
    #[test]
    fn the_packages_own_settings_name_the_links_that_it_keeps() {
        let settings = "USE_KDUMP=1\nKDUMP_KERNEL=/var/lib/kdump/vmlinuz\nKDUMP_INITRD=/var/lib/kdump/initrd.img\n\
                        #KDUMP_CMDLINE=\"\"\n#KDUMP_CMDLINE_APPEND=\"x\"\n";
        let line = format!("BOOT_IMAGE=/vmlinuz root=/dev/vda1 quiet {APPENDED}");
        let expected = ("var/lib/kdump/vmlinuz".into(), "var/lib/kdump/initrd.img".into(), line);
        assert_eq!(found(settings), expected);
    }

    #[test]
    fn what_an_administrator_set_counts_and_what_is_not_set_is_the_running_kernels() {
        let settings = "KDUMP_CMDLINE='root=/dev/sda'\nKDUMP_CMDLINE_APPEND=\"nr_cpus=2 irqpoll\"\n";
        let expected =
            ("boot/vmlinuz-6.12.0-amd64", "boot/initrd.img-6.12.0-amd64", "root=/dev/sda nr_cpus=2 irqpoll");
        let (kernel, initramfs, line) = found(settings);
        assert_eq!((&*kernel, &*initramfs, &*line), expected);
    }
}
