//! The units of systemd that come with the package, by their names.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::programs::Programs;

/// The units that must be enabled, so that nobody has to think of Holdover.
pub(crate) const ALWAYS: [&str; 4] =
    ["holdover.service", "holdover-collect.service", "holdover-actions.timer", "holdover-verify.timer"];

/// The unit that has a file's place checked as soon as somebody touches the file. The path is absolute.
pub(crate) fn watch_of(file: &Path) -> String {
    format!("holdover-verify@{}.path", escape(file))
}

/// Stops watching a file, now and at each boot. Where systemd does not run, nobody watches.
pub(crate) fn stop_watching(file: &Path, programs: &dyn Programs) {
    // The timer's check comes later than the watch, and finds the same: a unit that is left over does no harm.
    let _ = programs.run("systemctl", &["disable", "--now", &watch_of(file)]);
}

/// A path as a part of a unit's name, as `systemd-escape --path` has it (systemd.unit(5), "String escaping for inclusion in unit names").
fn escape(path: &Path) -> String {
    let parts = path.as_os_str().as_bytes().split(|&byte| byte == b'/').filter(|part| !part.is_empty());
    let joined = parts.collect::<Vec<_>>().join(&b'/');
    if joined.is_empty() {
        return "-".to_owned();
    }
    let mut escaped = String::new();
    for (at, &byte) in joined.iter().enumerate() {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if at == 0 => escaped.push_str("\\x2e"),
            b'.' | b':' | b'_' => escaped.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => escaped.push(byte.into()),
            // Writing to text cannot fail.
            _ => drop(write!(escaped, "\\x{byte:02x}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::tests::Noted;

    /// What `systemd-escape --path` of systemd 252 prints.
    #[test]
    fn a_files_unit_is_named_as_systemd_escapes_its_path() {
        let names = [
            ("/var/lib/holdover/area", "var-lib-holdover-area"),
            ("//var//a-b/", r"var-a\x2db"),
            ("/.a/.b_c:1", r"\x2ea-.b_c:1"),
            ("/ä b", r"\xc3\xa4\x20b"),
            ("/", "-"),
        ];
        for (path, name) in names {
            assert_eq!(watch_of(Path::new(path)), format!("holdover-verify@{name}.path"));
        }
    }

    #[test]
    fn a_watch_ends_at_once_and_at_each_boot() {
        let programs = Noted::default();
        stop_watching(Path::new("/var/area"), &programs);
        assert_eq!(*programs.lines.borrow(), ["systemctl disable --now holdover-verify@var-area.path"]);
    }
}
