//! The capture kernel's command line: what was asked for, and what the running kernel, firmware and watchdogs say of this host.

use std::path::Path;

use handoff::{Areas, HandOver, Options, SerialConsole, Uncollected};

use super::{LoadError, LoadRequest};
use crate::areas::IfUncollected;
use crate::{root_pointer, sysfs, watchdogs};

/// Composes the capture kernel's command line; `running` is that of the running kernel.
pub(super) fn compose(request: &LoadRequest, areas: Areas, running: &str) -> Result<String, LoadError> {
    let options = Options {
        acpi_rsdp: acpi_root(Path::new(sysfs::SYS), request.append.as_deref(), running)?,
        areas,
        uncollected: request.if_uncollected.told(),
        level: Some(request.level),
        codec: Some(request.codec),
        hand_over: request.fallback.as_ref().map_or_else(HandOver::default, |fallback| fallback.when),
        console: serial_console(running),
        ..Options::default()
    };
    let options = watchdogs::find().tell(options);
    Ok(with_appended(&options, request.append.as_deref()))
}

impl IfUncollected {
    /// As the capture kernel is told.
    fn told(self) -> Uncollected {
        match self {
            Self::Keep => Uncollected::Keep,
            Self::Discard => Uncollected::Discard,
        }
    }
}

/// Appends the user's options; where both set an option, the user's counts.
fn with_appended(options: &Options, append: Option<&str>) -> String {
    append.map_or_else(|| options.to_string(), |append| format!("{options} {append}"))
}

/// The root pointer that the capture kernel must be told, because UEFI has started this host. What a user appends counts
/// instead. (`kexec -c` appends the same address once more.)
fn acpi_root(sys: &Path, append: Option<&str>, running: &str) -> Result<Option<u64>, LoadError> {
    let is_named = append.is_some_and(|append| Options::parse(append).acpi_rsdp.is_some());
    if is_named || !root_pointer::is_uefi(sys) {
        return Ok(None);
    }
    let named = root_pointer::of_efi(sys)?.or_else(|| root_pointer::of_running_kernel(sys, running));
    named.map(Some).ok_or(LoadError::NoRootPointer)
}

/// The last serial console of the running kernel: the capture kernel speaks there too.
fn serial_console(command_line: &str) -> Option<SerialConsole> {
    Options::parse(command_line).console
}

#[cfg(test)]
mod tests {
    use std::fs;

    use vmcore::Level;

    use super::*;

    #[test]
    fn what_a_user_appends_follows_the_options() {
        let options = Options { level: Some(Level::ALL), ..Options::default() };
        assert_eq!(with_appended(&options, None), "holdover.level=31");
        assert_eq!(with_appended(&options, Some("a=b c")), "holdover.level=31 a=b c");
        assert_eq!(
            Options::parse(&with_appended(&options, Some("holdover.level=0"))).level,
            Some(Level::NOTHING)
        );
    }

    #[test]
    fn the_root_pointer_is_passed_where_uefi_has_started_the_host_and_only_once() {
        let sys = tempfile::tempdir().unwrap();
        let root = |append, running| acpi_root(sys.path(), append, running);
        assert_eq!(root(None, "acpi_rsdp=0x5000").unwrap(), None, "a BIOS");
        fs::create_dir_all(sys.path().join("firmware/efi")).unwrap();
        assert!(matches!(root(None, "quiet"), Err(LoadError::NoRootPointer)));
        assert_eq!(root(None, "acpi_rsdp=0x5000").unwrap(), Some(0x5000));
        fs::write(sys.path().join("firmware/efi/systab"), "ACPI20=0x7f77e014\n").unwrap();
        assert_eq!(root(None, "acpi_rsdp=0x5000").unwrap(), Some(0x7f77_e014));
        assert_eq!(root(Some("acpi_rsdp=0x6000"), "quiet").unwrap(), None, "the user's counts");
        fs::write(sys.path().join("firmware/efi/systab"), "ACPI20=everywhere\n").unwrap();
        assert!(matches!(root(None, "quiet"), Err(LoadError::RootPointer(_))));
    }

    #[test]
    fn the_capture_kernel_speaks_on_the_running_kernels_last_serial_console() {
        let running = "quiet console=tty0 console=ttyS1,9600 console=ttyS0,115200n8 ro";
        assert_eq!(serial_console(running), SerialConsole::new(0, Some(115_200)));
    }

    #[test]
    fn a_kernel_without_a_serial_console_names_none() {
        assert_eq!(serial_console("quiet console=tty0 ro"), None);
    }
}
