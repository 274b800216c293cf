//! The scripts that dpkg runs when the package comes and goes: on a copy of a system in a folder (`DPKG_ROOT`), with stand-ins for the programs
//! that they call.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Notes how it was called. `holdover unload` unloads, unless the kernel refuses.
const STAND_IN: &str = r#"#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
case "${0##*/} $1" in
"holdover unload") [ -z "$REFUSES" ] && echo 0 >"$DPKG_ROOT/sys/kernel/kexec_crash_loaded" ;;
"holdover remove") [ -n "$KEEPS" ] || rm "$DPKG_ROOT"/var/lib/holdover/files "$DPKG_ROOT"/var/crash/area ;;
"holdover sign") [ -z "$UNSIGNED" ] || { echo "holdover: $UNSIGNED" >&2; exit 1; } ;;
"rm -rf") [ -z "$MOUNTED" ] ;;
esac
"#;
const PROGRAMS: [&str; 5] =
    ["holdover", "deb-systemd-invoke", "deb-systemd-helper", "update-grub", "systemctl"];
/// The file that was made a dump area.
const AREA: &str = "var/crash/area";

/// A system on which the package was used.
struct System {
    root: TempDir,
    variables: Vec<(&'static str, &'static str)>,
}

impl System {
    /// Nobody knows what is loaded if `loaded` is 1: there is no `/run/holdover/loaded.json`.
    fn new(loaded: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let system = Self { root, variables: Vec::new() };
        system.write("sys/kernel/kexec_crash_loaded", loaded.as_bytes());
        system.write(AREA, b"an area");
        let files = format!("/{AREA}\n/var/crash/gone\n");
        system.write("var/lib/holdover/files", files.as_bytes());
        system.write("run/systemd/system/x", b"");
        for program in PROGRAMS {
            system.stand_in(program);
        }
        system
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn stand_in(&self, program: &str) {
        let name = format!("stand-ins/{program}");
        self.write(&name, STAND_IN.as_bytes());
        fs::set_permissions(self.path(&name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, script: &str, argument: &str) -> Output {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/debian/scripts");
        let path = format!("{}:{}", self.path("stand-ins").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.arg(scripts.join(script)).arg(argument).env("PATH", path);
        shell.env("DPKG_ROOT", self.root.path()).env("CALLS", self.path("calls"));
        shell.envs(self.variables.iter().copied()).output().unwrap()
    }

    /// Runs a script, which must not fail, and returns what it said to a person.
    fn told(&self, script: &str, argument: &str) -> String {
        let output = self.run(script, argument);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{script} {argument}: {told}");
        told
    }

    /// The calls of programs so far.
    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }
}

#[test]
fn a_removal_has_the_program_delete_the_areas_and_a_purge_leaves_nothing() {
    let system = System::new("1");
    system.told("prerm", "remove");
    let calls = system.calls();
    let at = |call: &str| calls.find(call).unwrap_or_else(|| panic!("no {call} in\n{calls}"));
    assert!(at("holdover unload") < at("holdover collect"), "nothing is noted of what is loaded: {calls}");
    assert!(at("holdover collect") < at("holdover remove --all-files"));
    assert_eq!(system.told("postrm", "purge"), "");
    assert!(!system.has(AREA) && !system.has("var/lib/holdover"));
}

/// It may hold a dump, be dumped to, or have lost its label: the program knows, and has told.
#[test]
fn what_the_program_does_not_delete_stays_in_a_purge_and_is_named() {
    let mut system = System::new("0");
    system.variables.push(("KEEPS", "1"));
    system.write("var/lib/holdover/area", b"damaged");
    system.told("prerm", "remove");
    let told = system.told("postrm", "purge");
    for file in [AREA, "var/lib/holdover/area"] {
        assert!(system.has(file) && told.contains(file), "{told}");
    }
    assert!(!told.contains("gone") && told.contains("not collected"), "{told}");
    assert!(system.has("var/lib/holdover/files"), "a new installation knows of it");
}

#[test]
fn what_cannot_be_removed_does_not_make_a_purge_fail() {
    let mut system = System::new("0");
    fs::remove_file(system.path(AREA)).unwrap();
    system.stand_in("rm");
    system.variables.push(("MOUNTED", "1"));
    let told = system.told("postrm", "purge");
    assert!(told.contains("/var/lib/holdover stays"), "{told}");
}

#[test]
fn dpkg_waits_for_no_network_and_every_unit_is_stopped() {
    let system = System::new("0");
    system.told("prerm", "remove");
    let calls = system.calls();
    assert!(calls.contains("holdover collect --without-actions\n"), "{calls}");
    assert!(!calls.contains("holdover collect\n"), "{calls}");
    let units = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd")).unwrap();
    for unit in units {
        let name = unit.unwrap().file_name().into_string().unwrap().replace("@.", "@*.");
        let stopped = calls.lines().any(|line| line.contains("invoke stop") && line.contains(&name));
        assert!(stopped, "{name} is not stopped:\n{calls}");
    }
}

#[test]
fn memory_is_given_back_by_a_removal_and_kept_by_an_upgrade() {
    let system = System::new("0");
    system.told("prerm", "upgrade");
    assert_eq!(system.calls(), "");
    system.told("prerm", "remove");
    assert!(system.calls().contains("holdover setup --remove-crashkernel"), "{}", system.calls());
}

#[test]
fn an_installation_signs_where_there_is_a_key_and_tells_why_it_cannot_only_there() {
    let mut system = System::new("0");
    assert_eq!(system.told("postinst", "configure"), "");
    assert!(system.calls().contains("holdover sign\n"), "{}", system.calls());
    system.variables =
        vec![("UNSIGNED", "no key is named, and neither DKMS nor shim has one for this machine")];
    assert_eq!(system.told("postinst", "configure"), "");
    system.variables = vec![("UNSIGNED", "cannot run sbsign; the package sbsigntool has it")];
    let told = system.told("postinst", "configure");
    assert!(
        told.contains("the package sbsigntool has it") && told.contains("`holdover sign` tries again"),
        "{told}"
    );
    assert!(!told.contains("refuses"), "whether this machine wants a signature is not known: {told}");
}
