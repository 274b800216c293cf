//! The configuration, `/etc/holdover.toml`: what is loaded at boot, which events panic the kernel, and what becomes of a dump.
//!
//! Every key is optional, and a host without the file has the same configuration as one with an empty file: it does nothing
//! that a person did not ask for. A key that nobody knows is an error, because a misspelt key would change nothing, silently.
//! `packaging/holdover.toml` has every key with its default and what it is for.

mod edit;
mod error;
mod form;

use std::io;
use std::path::{Path, PathBuf};

use delivery::Target;
use handoff::HandOver;
use kdump::Codec;
use serde::{Deserialize, Serialize};
use vmcore::Level;

pub use self::edit::with_areas;
pub use self::error::ConfigError;
use crate::Bytes;
use crate::areas::AreaName;
use crate::small_file;

/// Where the configuration is.
pub const FILE: &str = "/etc/holdover.toml";
/// The file that the package installs: every key, commented out, with its default.
pub const EXAMPLE: &str = include_str!("../../../../packaging/holdover.toml");

/// The configuration of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Configuration {
    /// Where dumps go: the areas in the order in which they are tried, at most [`MOST_AREAS`](crate::load::MOST_AREAS). With none,
    /// nothing is loaded at boot.
    #[serde(with = "form::areas")]
    pub areas: Vec<AreaName>,
    /// Which pages a dump leaves out.
    #[serde(with = "form::level")]
    pub level: Level,
    /// How pages are compressed: one of [`Codec::EVERYWHERE`].
    #[serde(with = "form::codec")]
    pub codec: Codec,
    /// More options for the capture kernel's command line.
    pub append: Option<String>,
    /// The capture kernel; `None` is the one that the program carries, or its signed copy.
    #[serde(deserialize_with = "form::absolute_path")]
    pub image: Option<PathBuf>,
    /// The kernel to which the machine is handed over where the capture kernel cannot write the dump itself; `None` is none.
    pub fallback: Option<FallbackSource>,
    /// When it is handed over.
    #[serde(with = "form::hand_over")]
    pub handover: HandOver,
    /// Which events panic the kernel.
    pub panic: PanicConfiguration,
    /// Where dumps are collected to, and how many stay there.
    pub collect: CollectConfiguration,
    /// What happens after a dump was collected.
    pub actions: ActionConfiguration,
}

/// Whose kernel it is to which the machine is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FallbackSource {
    /// That of Debian's and Ubuntu's kdump-tools.
    KdumpTools,
}

/// Which events panic the kernel, and so are dumped. What is `None` is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PanicConfiguration {
    /// An oops: `kernel.panic_on_oops`.
    pub on_oops: Option<bool>,
    /// A processor that takes no interrupts any more: `kernel.hardlockup_panic`.
    pub hard_lockup: Option<bool>,
    /// A processor that schedules no tasks any more: `kernel.softlockup_panic`.
    pub soft_lockup: Option<bool>,
    /// A non-maskable interrupt of unknown origin, such as a button's or a management controller's: `kernel.unknown_nmi_panic`.
    pub unknown_nmi: Option<bool>,
    /// A task that waits uninterruptibly for longer than `kernel.hung_task_timeout_secs`: `kernel.hung_task_panic`.
    pub hung_task: Option<bool>,
    /// Seconds after which the kernel restarts by itself if a panic starts no capture kernel, 0 for never: `kernel.panic`.
    pub reboot_after_seconds: Option<u32>,
}

/// Where dumps are collected to, and how many stay there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectConfiguration {
    /// The folder in which each dump gets a folder of its own.
    #[serde(deserialize_with = "form::folder")]
    pub directory: PathBuf,
    /// How many dumps stay there, at least one: the newest. `None` keeps all.
    #[serde(deserialize_with = "form::count")]
    pub keep: Option<u32>,
    /// How many bytes of dumps stay there; the newest dump stays even if it is larger. `None` keeps all.
    #[serde(deserialize_with = "form::size")]
    pub keep_bytes: Option<Bytes>,
    /// After how many panics in a row, at least one, only the newest dump is kept: a host that panics at each boot must not fill
    /// its disk.
    #[serde(deserialize_with = "form::some_count")]
    pub boot_loop_after: u32,
}

/// What happens after a dump was collected. Nothing does by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActionConfiguration {
    /// A program that is run with the dump's folder as its argument.
    #[serde(deserialize_with = "form::absolute_path")]
    pub hook: Option<PathBuf>,
    /// The address, `https://`, or `http://` on this host, to which what happened is posted as JSON.
    #[serde(deserialize_with = "form::web_address")]
    pub webhook: Option<String>,
    /// Who gets a mail, through `sendmail`.
    pub mail: Option<String>,
    /// A file of metrics for the node exporter of Prometheus.
    #[serde(deserialize_with = "form::absolute_path")]
    pub metrics: Option<PathBuf>,
    /// Where copies of the dump go, in this order: `s3://BUCKET/PREFIX` or `ssh://USER@HOST/PATH`.
    #[serde(with = "form::targets")]
    pub to: Vec<Target>,
    /// How the object store of `s3://` is reached.
    pub s3: S3Configuration,
}

/// How an object store is reached. Its keys are no part of the configuration, which everybody may read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Configuration {
    /// Its address, `https://`, or `http://` on this host; `None` is that of Amazon's in the region.
    #[serde(deserialize_with = "form::web_address")]
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            areas: Vec::new(),
            level: Level::ALL,
            codec: Codec::Zlib,
            append: None,
            image: None,
            fallback: None,
            handover: HandOver::default(),
            panic: PanicConfiguration::default(),
            collect: CollectConfiguration::default(),
            actions: ActionConfiguration::default(),
        }
    }
}

impl Default for CollectConfiguration {
    fn default() -> Self {
        Self { directory: "/var/crash".into(), keep: None, keep_bytes: None, boot_loop_after: 3 }
    }
}

impl Configuration {
    /// Reads this host's configuration: [`FILE`], or the default where there is no such file.
    pub fn of_host() -> Result<Self, ConfigError> {
        Self::at_root(Path::new("/"))
    }

    /// Reads the configuration of the system whose root folder this is.
    pub fn at_root(root: &Path) -> Result<Self, ConfigError> {
        match Self::read(&at_root(root)) {
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            read => read,
        }
    }

    /// Reads a file that must be there.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read { file: file.to_owned(), source };
        let text = small_file::read_text(file).map_err(unreadable)?;
        Self::parse(&text, file)
    }

    /// Makes do, where what was read is refused, with what a collect takes; the refusal comes with it. A dump must be fetched at
    /// boot even where somebody misspelt where copies of it go: the areas and `[collect]` are read only, and the rest is the default.
    pub fn for_collect(read: Result<Self, ConfigError>) -> Result<(Self, Option<ConfigError>), ConfigError> {
        Self::make_do(read, |text| Self::of_keys(text, |key| ["areas", "collect"].contains(&key)))
    }

    /// Makes do, where what was read is refused, with what a load takes; the refusal comes with it. A machine must not be without a
    /// capture kernel because somebody misspelt what happens after a collect: `[actions]`, `[collect]` or both are the default then.
    pub fn for_load(read: Result<Self, ConfigError>) -> Result<(Self, Option<ConfigError>), ConfigError> {
        let without: [&[&str]; 3] = [&["actions"], &["collect"], &["actions", "collect"]];
        Self::make_do(read, |text| {
            without.iter().find_map(|out| Self::of_keys(text, |key| !out.contains(&key)))
        })
    }

    /// What was read, or what `rest` makes of the text that was refused, with the refusal.
    fn make_do(
        read: Result<Self, ConfigError>,
        rest: impl FnOnce(&str) -> Option<Self>,
    ) -> Result<(Self, Option<ConfigError>), ConfigError> {
        match read {
            Err(ConfigError::Invalid { file, line, what }) => {
                let rest = small_file::read_text(&file).ok().and_then(|text| rest(&text));
                let refused = ConfigError::Invalid { file, line, what };
                match rest {
                    Some(rest) => Ok((rest, Some(refused))),
                    None => Err(refused),
                }
            }
            read => Ok((read?, None)),
        }
    }

    /// Reads these keys of the first level only. `None` if they are refused too.
    fn of_keys(text: &str, is_read: impl Fn(&str) -> bool) -> Option<Self> {
        let mut keys: toml::Table = toml::from_str(text).ok()?;
        keys.retain(|key, _| is_read(key));
        keys.try_into().ok()
    }

    /// Reads the text of `file`, which errors name.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::invalid(&error, text, file))
    }
}

/// The configuration's file of the system whose root folder this is.
pub(crate) fn at_root(root: &Path) -> PathBuf {
    root.join(FILE.trim_start_matches('/'))
}

#[cfg(test)]
mod tests;
