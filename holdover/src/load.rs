//! `holdover load` and `holdover unload`: have the running kernel load the capture kernel, or remove it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::TypedValueParser;
use host::areas::AreaName;
use host::config::{ConfigError, Configuration, FallbackSource};
use host::fallback::FallbackRequest;
use host::image::{Image, ImageChoice};
use host::load::{self, IfTaken, IfUncollected, KexecError, KexecSyscall, LoadRequest, Loaded, Unloaded};
use host::panic_settings::PanicSettings;
use host::{Codec, Function, HandOver, Level};
use serde_json::{Value, json};

use crate::codec;
use crate::embedded;
use crate::report::{Report, row};

/// What the command is told.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration, which says what no argument says
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The capture kernel, a bzImage; by default the one inside this program, or its signed copy
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// The dump area: its UUID, its device, or its file; may be repeated. Those of the configuration do not count then
    ///
    /// The next area takes the dump where one is missing, damaged, or too small, where it holds a dump that was not collected, or
    /// where its disk fails.
    #[arg(long = "area", value_name = "UUID|DEVICE")]
    areas: Vec<AreaName>,
    /// PCI function of the first area's disk, if it cannot be found in /sys
    #[arg(long, value_name = "SSSS:BB:DD.F")]
    disk: Option<Function>,
    /// Which pages to leave out, in makedumpfile's numbering; 31 by default
    #[arg(long, value_parser = level())]
    level: Option<Level>,
    /// How to compress pages: none, zlib, lzo or zstd; zlib by default
    ///
    /// Every reader understands none, zlib and lzo. crash 8 and drgn (by libkdumpfile) also understand zstd, makedumpfile since
    /// Debian 13. lzo is the fastest, zstd makes the smallest dumps.
    #[arg(long, value_parser = codec::in_capture_kernel)]
    codec: Option<Codec>,
    /// The system call that loads
    #[arg(long, value_enum, default_value_t = Syscall::File)]
    syscall: Syscall,
    /// More options for the capture kernel's command line
    #[arg(long, value_name = "OPTIONS")]
    append: Option<String>,
    /// Let the next panic replace a dump that was not collected
    #[arg(long)]
    discard_dump: bool,
    /// The kernel to which the machine is handed over where the capture kernel cannot write the dump itself: its image, its initramfs,
    /// and its command line
    #[arg(long, num_args = 2..=3, value_names = ["KERNEL", "INITRAMFS", "OPTIONS"])]
    fallback: Vec<String>,
    /// When it is handed over; `always` as soon as the IOMMU is taken over, without a dump of Holdover's
    #[arg(long, value_enum)]
    handover: Option<When>,
    /// Replace a crash kernel that is not Holdover's, such as kdump-tools'
    #[arg(long)]
    replace_crash_kernel: bool,
}

/// The system call that loads.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Syscall {
    /// `kexec_file_load`: the running kernel takes the image apart, and checks its signature if it wants one
    #[default]
    File,
    /// `kexec_load`: the tool takes the image apart
    Load,
}

impl From<Syscall> for KexecSyscall {
    fn from(syscall: Syscall) -> Self {
        match syscall {
            Syscall::File => Self::File,
            Syscall::Load => Self::Load,
        }
    }
}

/// When the machine is handed over to the fallback kernel.
#[derive(Clone, Copy, clap::ValueEnum)]
enum When {
    /// When no area took a dump
    WhenNeeded,
    /// At once
    Always,
}

impl From<When> for HandOver {
    fn from(when: When) -> Self {
        match when {
            When::WhenNeeded => Self::WhenNeeded,
            When::Always => Self::Always,
        }
    }
}

/// Reads a level.
fn level() -> impl TypedValueParser<Value = Level> {
    let number = clap::value_parser!(u8).range(0..=i64::from(Level::ALL.number()));
    number.try_map(|number| Level::new(number).ok_or("levels go from 0 to 31"))
}

/// Loads what the configuration names, as `holdover load` without arguments does, but for another's crash kernel.
pub(crate) fn configured(replace_crash_kernel: bool) -> Result<Outcome> {
    let arguments = Arguments { replace_crash_kernel, ..Arguments::default() };
    run(&arguments)
}

impl Arguments {
    /// What is to be loaded: as the arguments say, and where they say nothing, as the configuration does.
    fn request(&self, configuration: Configuration, image: Image) -> LoadRequest {
        let fallback = self.fallback(&configuration);
        let areas = if self.areas.is_empty() { configuration.areas } else { self.areas.clone() };
        LoadRequest {
            image,
            areas,
            disk: self.disk,
            level: self.level.unwrap_or(configuration.level),
            codec: self.codec.unwrap_or(configuration.codec),
            syscall: self.syscall.into(),
            append: self.append.clone().or(configuration.append),
            if_uncollected: if self.discard_dump { IfUncollected::Discard } else { IfUncollected::Keep },
            if_taken: if self.replace_crash_kernel { IfTaken::Replace } else { IfTaken::Refuse },
            fallback,
            panic: configuration.panic,
        }
    }

    /// The fallback kernel that the arguments name, or else the configuration.
    fn fallback(&self, configuration: &Configuration) -> Option<FallbackRequest> {
        let when = self.handover.map_or(configuration.handover, HandOver::from);
        let [kernel, initramfs, command_line @ ..] = &self.fallback[..] else {
            return configuration
                .fallback
                .map(|FallbackSource::KdumpTools| FallbackRequest::of_kdump_tools(Path::new("/"), when));
        };
        let (kernel, initramfs) = (kernel.into(), initramfs.into());
        Some(FallbackRequest { kernel, initramfs, command_line: command_line.concat(), when })
    }

    /// Where the image may be.
    fn image<'a>(&'a self, configuration: &'a Configuration) -> ImageChoice<'a> {
        ImageChoice {
            named: self.image.as_deref(),
            configured: configuration.image.as_deref(),
            embedded: embedded::image(),
        }
    }
}

/// What was loaded, and what of the configuration was not understood: nothing that a load takes.
pub(crate) struct Outcome {
    loaded: Loaded,
    refused: Option<ConfigError>,
}

/// Loads the capture kernel.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let read = arguments.config.as_deref().map_or_else(Configuration::of_host, Configuration::read);
    let (configuration, refused) = Configuration::for_load(read)?;
    let image = arguments.image(&configuration).choose()?;
    Ok(Outcome { loaded: load::load(&arguments.request(configuration, image))?, refused })
}

/// What may go wrong, or will be lost.
fn warnings(outcome: &Outcome) -> impl Iterator<Item = String> {
    let Outcome { loaded, refused } = outcome;
    let refused = refused
        .iter()
        .map(|refused| format!("dumps will be collected, and no action will follow: {refused}"));
    let left_out = loaded.left_out.iter().map(ToString::to_string);
    let copies = loaded.copies.iter().map(ToString::to_string);
    let unnoted = |error| format!("`holdover doctor` will not know that this was loaded: {error}");
    let unregistered = |error| {
        format!(
            "cannot note in /var/lib/holdover that the areas are this host's ({error}): `holdover collect` takes only from those that the configuration names"
        )
    };
    let fate = match loaded.if_uncollected {
        IfUncollected::Keep => "until then no other dump goes there",
        IfUncollected::Discard => "the next panic may replace it",
    };
    let uncollected = loaded.uncollected.iter().map(move |dump| format!("{dump}; {fate}"));
    let rivals = loaded.rivals.iter().map(ToString::to_string);
    let failed = loaded.panic.failed.iter().map(told);
    refused
        .chain(left_out)
        .chain(copies)
        .chain(uncollected)
        .chain(rivals)
        .chain(loaded.unnoted.iter().map(unnoted))
        .chain(loaded.unregistered.iter().map(unregistered))
        .chain(failed)
}

/// An error with its cause.
fn told(error: &(impl std::error::Error + 'static)) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// The settings that were changed.
fn settings(panic: &PanicSettings) -> Vec<String> {
    panic.set.iter().map(ToString::to_string).collect()
}

impl Report for Outcome {
    fn rows(&self) -> Vec<Vec<String>> {
        let Loaded { image, devices, command_line, panic, .. } = &self.loaded;
        let mut rows = vec![row("loaded", image.to_string()), row("command line", command_line)];
        let areas = devices.iter().map(|device| row("dump area on", device.display().to_string()));
        rows.splice(1..1, areas);
        rows.extend(settings(panic).into_iter().map(|setting| row("set", setting)));
        rows.extend(warnings(self).map(|warning| row("warning", warning)));
        rows
    }

    fn json(&self) -> Result<Value> {
        let warnings: Vec<_> = warnings(self).collect();
        let Loaded { image, devices, command_line, panic, .. } = &self.loaded;
        Ok(json!({
            "image": image.to_string(),
            "devices": devices,
            "command_line": command_line,
            "set": settings(panic),
            "warnings": warnings,
        }))
    }
}

/// Removes the loaded capture kernel.
pub(crate) fn unload() -> Result<Unloaded, KexecError> {
    load::unload()
}

/// What is left to do after an unload.
fn left(unloaded: &Unloaded) -> impl Iterator<Item = String> {
    let holding = unloaded.holding.iter().map(|dump| format!("{dump}; it stays where it is until then"));
    let pinned = unloaded.pinned.iter().map(ToString::to_string);
    holding.chain(pinned).chain(unloaded.panic.failed.iter().map(told))
}

impl Report for Unloaded {
    fn rows(&self) -> Vec<Vec<String>> {
        let unloaded = match &self.other {
            None => row("unloaded", "a panic will not be dumped; `holdover load` loads again"),
            Some(other) => row("left as it is", other.to_string()),
        };
        let settings = settings(&self.panic).into_iter().map(|setting| row("set back", setting));
        [unloaded].into_iter().chain(settings).chain(left(self).map(|left| row("warning", left))).collect()
    }

    fn json(&self) -> Result<Value> {
        let other = self.other.as_ref().map(ToString::to_string);
        Ok(json!({
            "loaded": false,
            "other": other,
            "set": settings(&self.panic),
            "warnings": left(self).collect::<Vec<_>>(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use host::areas::{FoundArea, Label};
    use host::image::Origin;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_copy_of_the_dumps_disk_is_warned_of_in_words_and_in_json() {
        let found = |device: &str, uuid| {
            let label = Label { uuid: Uuid::from_u128(uuid), length: 1 << 20, created: 0 };
            FoundArea::on_device(device.into(), label)
        };
        let all = [found("/dev/vda", 1), found("/dev/vdb", 2), found("/dev/vdc", 1)];
        let warnings = |area: &FoundArea| {
            let (copies, devices) = (area.copies(&all).collect(), vec![area.device.clone()]);
            let loaded = Loaded {
                image: Origin::Program,
                devices,
                command_line: String::new(),
                left_out: vec![],
                copies,
                uncollected: vec![],
                if_uncollected: IfUncollected::Keep,
                unnoted: None,
                unregistered: None,
                panic: PanicSettings::default(),
                rivals: vec![],
            };
            let loaded = Outcome { loaded, refused: None };
            let said = loaded.rows().into_iter().filter(|row| row[0] == "warning").map(|row| row[1].clone());
            (said.collect::<Vec<_>>(), loaded.json().unwrap()["warnings"].clone())
        };
        let (said, json) = warnings(&all[0]);
        assert_eq!(json, json!(said));
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("/dev/vdc has the same label and UUID as /dev/vda"), "{}", said[0]);
        assert_eq!(warnings(&all[1]), (vec![], json!([])));
    }

    fn arguments(words: &[&str]) -> Arguments {
        #[derive(clap::Parser)]
        struct Load {
            #[command(flatten)]
            arguments: Arguments,
        }
        <Load as clap::Parser>::parse_from([&["load"], words].concat()).arguments
    }

    fn configuration() -> Configuration {
        let text = "areas = ['/a', '/b']\nlevel = 1\ncodec = 'lzo'\nimage = '/i'\nappend = 'x'\n[panic]\non_oops = true\n";
        Configuration::parse(text, "f".as_ref()).unwrap()
    }

    /// What these arguments ask for, and the file of the image that they and the configuration name.
    fn asked(words: &[&str]) -> (LoadRequest, PathBuf) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [&[0; 0x202], &b"HdrS"[..]].concat()).unwrap();
        let arguments = arguments(words);
        let configuration = configuration();
        let image = arguments.image(&configuration);
        let named = image.named.or(image.configured).unwrap().to_owned();
        (arguments.request(configuration.clone(), Image::read(file.path()).unwrap()), named)
    }

    #[test]
    fn without_arguments_the_configuration_says_what_is_loaded() {
        let (request, image) = asked(&[]);
        assert_eq!(request.areas, configuration().areas);
        assert_eq!(
            (request.level.number(), request.codec, request.append),
            (1, Codec::Lzo, Some("x".into()))
        );
        assert_eq!((image, request.if_taken), ("/i".into(), IfTaken::Refuse));
        assert_eq!(request.panic.on_oops, Some(true));
    }

    #[test]
    fn an_argument_wins_over_the_configuration() {
        let words =
            ["--image=/j", "--area=/c", "--level=3", "--codec=zstd", "--append=y", "--replace-crash-kernel"];
        let (request, image) = asked(&words);
        assert_eq!(request.areas, ["/c".parse().unwrap()]);
        assert_eq!(
            (request.level.number(), request.codec, request.append),
            (3, Codec::Zstd, Some("y".into()))
        );
        assert_eq!((image, request.if_taken), ("/j".into(), IfTaken::Replace));
    }
}
