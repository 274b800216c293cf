//! `holdover load`: finds the dump area and its disk, and has the capture kernel loaded.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kdump::Codec;
use pci::Function;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::areas::{self, Found};
use crate::codec;
use crate::kexec::{self, Syscall};
use crate::report::{Report, row};
use crate::sysfs::{self, Location};

/// What the command is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// The capture kernel, a bzImage
    #[arg(long, value_name = "PATH")]
    image: PathBuf,
    /// The dump area: its UUID, or its device
    #[arg(long, value_name = "UUID|DEVICE")]
    area: areas::Name,
    /// PCI function of the area's disk, if it cannot be found in /sys
    #[arg(long, value_name = "SSSS:BB:DD.F")]
    disk: Option<Function>,
    /// Which pages to leave out, in makedumpfile's numbering
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u8).range(0..=31))]
    level: u8,
    /// How to compress pages: none, zlib, lzo or zstd
    ///
    /// Every reader understands none, zlib and lzo. crash 8 and drgn (by libkdumpfile) also understand zstd, makedumpfile since
    /// Debian 13. lzo is the fastest, zstd makes the smallest dumps.
    #[arg(long, default_value = "zlib", value_parser = codec::in_capture_kernel)]
    codec: Codec,
    /// The system call that loads
    #[arg(long, value_enum, default_value_t = Syscall::File)]
    syscall: Syscall,
    /// More options for the capture kernel's command line
    #[arg(long, value_name = "OPTIONS")]
    append: Option<String>,
}

/// The capture kernel's command line.
struct CommandLine<'a> {
    uuid: Uuid,
    offset: u64,
    disk: Function,
    level: u8,
    codec: Codec,
    console: Option<&'a str>,
    append: Option<&'a str>,
}

impl CommandLine<'_> {
    fn compose(&self) -> String {
        let mut options = vec![format!("holdover.area={}@{}", self.uuid, self.offset)];
        options.push(format!("holdover.disk={}", self.disk));
        options.push(format!("holdover.level={}", self.level));
        options.push(format!("holdover.codec={}", self.codec.name()));
        options.extend(self.console.into_iter().chain(self.append).map(str::to_owned));
        options.join(" ")
    }
}

/// What was loaded.
pub struct Loaded {
    image: PathBuf,
    device: PathBuf,
    command_line: String,
    warnings: Vec<String>,
}

/// Loads the capture kernel.
pub fn run(arguments: &Arguments) -> Result<Loaded> {
    if kexec::reserved()? == 0 {
        bail!("no memory is reserved for a crash kernel; start this kernel with crashkernel=16M");
    }
    kexec::check_image(&arguments.image)?;
    let found = areas::find(&arguments.area)?;
    let location = sysfs::locate(&found.device)?;
    check_start(&found.device, location.offset)?;
    let disk = match &arguments.disk {
        Some(disk) => *disk,
        None => disk_function(&location)?,
    };
    let running =
        fs::read_to_string("/proc/cmdline").context("cannot read the command line; is /proc mounted?")?;
    let command_line = CommandLine {
        uuid: found.label.uuid,
        offset: location.offset,
        disk,
        level: arguments.level,
        codec: arguments.codec,
        console: serial_console(&running),
        append: arguments.append.as_deref(),
    };
    let loaded = Loaded::new(arguments.image.clone(), &found, command_line.compose(), &areas::all()?);
    kexec::load(&loaded.image, &loaded.command_line, arguments.syscall)?;
    Ok(loaded)
}

/// Refuses an area that the capture kernel will refuse for where it begins on its disk.
fn check_start(device: &Path, offset: u64) -> Result<()> {
    if offset.is_multiple_of(area::BLOCK) {
        return Ok(());
    }
    bail!(
        "{} begins at byte {offset} of its disk, which is not a multiple of {}; make a partition that begins at a whole \
         mebibyte",
        device.display(),
        area::BLOCK
    )
}

/// The function behind which the capture kernel will find the disk.
fn disk_function(location: &Location) -> Result<Function> {
    let controller = location.controller.as_ref().with_context(|| {
        format!("{} has no PCI function in /sys; name the one it is behind with --disk", location.disk)
    })?;
    match controller.objection() {
        Some(objection) => bail!("{objection}; make a dump area on another disk with `holdover format`"),
        None => Ok(controller.function),
    }
}

/// The last serial console of the running kernel: the capture kernel speaks there too.
fn serial_console(command_line: &str) -> Option<&str> {
    command_line.split_ascii_whitespace().rfind(|option| option.starts_with("console=ttyS"))
}

impl Loaded {
    /// `all` are the dump areas of this host: a copy of the one that was found could get the dump.
    fn new(image: PathBuf, found: &Found, command_line: String, all: &[Found]) -> Self {
        let warnings = found.copies(all).map(|copy| found.warning(copy)).collect();
        Self { image, device: found.device.clone(), command_line, warnings }
    }
}

impl Report for Loaded {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![
            row("loaded", self.image.display().to_string()),
            row("dump area on", self.device.display().to_string()),
            row("command line", &self.command_line),
        ];
        rows.extend(self.warnings.iter().map(|warning| row("warning", warning)));
        rows
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({
            "image": self.image,
            "device": self.device,
            "command_line": self.command_line,
            "warnings": self.warnings,
        }))
    }
}

/// The capture kernel was removed.
pub struct Unloaded;

/// Removes the loaded capture kernel.
pub fn unload() -> Result<Unloaded> {
    kexec::unload()?;
    Ok(Unloaded)
}

impl Report for Unloaded {
    fn rows(&self) -> Vec<Vec<String>> {
        vec![row("unloaded", "a panic will not be dumped; `holdover load` loads again")]
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({ "loaded": false }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form is the one in ARCHITECTURE.md.
    #[test]
    fn the_command_line_has_the_documented_form() {
        let command_line = CommandLine {
            uuid: Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            offset: 1 << 20,
            disk: Function { segment: 0, bus: 0, devfn: 4 << 3 },
            level: 31,
            codec: Codec::Lzo,
            console: serial_console("quiet console=tty0 console=ttyS1,9600 console=ttyS0,115200 ro"),
            append: Some("a=b c"),
        };
        let expected = "holdover.area=01234567-89ab-cdef-0123-456789abcdef@1048576 holdover.disk=0000:00:04.0 \
             holdover.level=31 holdover.codec=lzo console=ttyS0,115200 a=b c";
        assert_eq!(command_line.compose(), expected);
    }

    #[test]
    fn an_area_that_begins_within_a_block_is_refused_before_the_crash() {
        assert!(check_start(Path::new("/dev/vda1"), 1 << 20).is_ok());
        assert!(check_start(Path::new("/dev/vda1"), 63 * 512).is_err());
    }

    #[test]
    fn a_copy_of_the_dumps_disk_is_warned_of_in_words_and_in_json() {
        let found = |device: &str, uuid| {
            let label = area::Label { uuid: Uuid::from_u128(uuid), length: 1 << 20, created: 0 };
            Found { device: device.into(), label }
        };
        let all = [found("/dev/vda", 1), found("/dev/vdb", 2), found("/dev/vdc", 1)];
        let warnings = |area| {
            let loaded = Loaded::new("image".into(), area, String::new(), &all);
            let said = loaded.rows().into_iter().filter(|row| row[0] == "warning").map(|row| row[1].clone());
            (said.collect::<Vec<_>>(), loaded.json().unwrap()["warnings"].clone())
        };
        let (said, json) = warnings(&all[0]);
        assert_eq!(json, json!(said));
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("/dev/vdc has the same label and UUID as /dev/vda"), "{}", said[0]);
        assert_eq!(warnings(&all[1]), (vec![], json!([])));
    }

    #[test]
    fn a_kernel_without_a_serial_console_names_none() {
        assert_eq!(serial_console("quiet console=tty0 ro"), None);
    }
}
