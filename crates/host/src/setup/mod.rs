//! Makes a host ready for a crash, in steps: a dump area, the configuration, `crashkernel=`, what is loaded now, what starts at each boot.
//!
//! Each step looks first, and changes nothing that is as it should be; so `holdover setup` can be run again at any time. Steps that change
//! a system's files take its root folder.

mod room;

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

pub use self::room::{DEFAULT_FILE, Room, RoomError};
use crate::areas::{self, AreaError, AreaName, FormatError, IfUsed};
use crate::bootloader::{self, BootloaderError, Reservation};
use crate::config::{self, ConfigError, Configuration};
use crate::fallback::FallbackRequest;
use crate::kexec::{self, KexecError};
use crate::lockdown::Lockdown;
use crate::programs::Programs;
use crate::{Bytes, Progress, reservation, state, status, units};

/// What a person wants for an area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AreaWish {
    /// What the configuration names, which is made if it is one file that is not there; a file in the default place if it names nothing.
    Any,
    /// These, which are there.
    These(Vec<AreaName>),
    /// A file, made if it is not there; `None` is a size by an estimate.
    File(PathBuf, Option<Bytes>),
}

/// What is to be done for an area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AreaPlan {
    /// The configuration names them already.
    Keep(Vec<AreaName>),
    /// They are there.
    Use(Vec<AreaName>),
    /// A file is to be made.
    Make(PathBuf, Bytes),
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing was to be done.
    Unchanged(String),
    /// It was done.
    Done(String),
    /// A person must do something.
    Left(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged(told) => write!(f, "{told} (unchanged)"),
            Self::Done(told) | Self::Left(told) => f.write_str(told),
        }
    }
}

/// Why a host was not made ready.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum SetupError {
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A named area is not there.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// There is no room for an area.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// A file was not made an area.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The configuration cannot be written.
    #[error("cannot write {file}; run `holdover setup` as root")]
    Write {
        /// The file.
        file: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The kernel's command line was not set.
    #[error(transparent)]
    Bootloader(#[from] BootloaderError),
    /// The kernel does not say what is reserved.
    #[error(transparent)]
    Kexec(#[from] KexecError),
    /// Units were not enabled, or not started.
    #[error("systemd did not {verb} {units}; `systemctl status` may say why")]
    Units {
        /// What it was to do.
        verb: String,
        /// Their names.
        units: String,
        /// What it said.
        source: io::Error,
    },
}

impl AreaPlan {
    /// Decides what is to be done; changes nothing. The steps of `progress` are pages of memory, which are counted for an estimate.
    pub fn of(
        wish: &AreaWish,
        configuration: &Configuration,
        progress: &dyn Progress,
    ) -> Result<Self, SetupError> {
        match wish {
            AreaWish::Any => match &configuration.areas[..] {
                [] => Self::file(Path::new(DEFAULT_FILE), None, configuration, progress),
                // As after a removal of the package, or of the file.
                [AreaName::Device(path)] if is_missing_file(path) => {
                    Self::file(path, None, configuration, progress)
                }
                names => Ok(Self::Keep(names.to_vec())),
            },
            AreaWish::These(names) => {
                names.iter().try_for_each(|name| areas::find(name).map(drop))?;
                Ok(Self::given(names.clone(), configuration))
            }
            AreaWish::File(path, size) => Self::file(path, *size, configuration, progress),
        }
    }

    fn given(names: Vec<AreaName>, configuration: &Configuration) -> Self {
        if names == configuration.areas { Self::Keep(names) } else { Self::Use(names) }
    }

    fn file(
        path: &Path,
        size: Option<Bytes>,
        configuration: &Configuration,
        progress: &dyn Progress,
    ) -> Result<Self, SetupError> {
        if path.exists() {
            let name = AreaName::Device(path.to_owned());
            areas::find(&name)?;
            return Ok(Self::given(vec![name], configuration));
        }
        let room = Room::of(path)?;
        let room = if size.is_some() { room } else { room.estimate(configuration, progress)? };
        Ok(Self::Make(path.to_owned(), room.size(size)?))
    }

    /// The areas that the configuration will name.
    pub fn names(&self) -> Vec<AreaName> {
        match self {
            Self::Keep(names) | Self::Use(names) => names.clone(),
            Self::Make(path, _) => vec![AreaName::Device(path.clone())],
        }
    }

    /// Makes the file, if one is to be made, which the system whose root folder is `root` notes. The steps of `progress` are bytes.
    pub fn carry_out(&self, root: &Path, progress: &dyn Progress) -> Result<Step, SetupError> {
        let names = || self.names().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let AreaPlan::Make(path, Bytes(bytes)) = self else { return Ok(Step::Unchanged(names())) };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let failed = |source| SetupError::Write { file: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let formatted = areas::format_file(path, *bytes, IfUsed::Refuse, root, progress)?;
        let told = format!(
            "{}, {}, room for a dump of {}",
            path.display(),
            Bytes(*bytes),
            Bytes(formatted.capacity)
        );
        Ok(match formatted.objection {
            None => Step::Done(told),
            Some(objection) => Step::Left(format!("{told}; {objection}: name another disk with --area")),
        })
    }
}

/// Whether the path is not a device's, and nothing is there.
fn is_missing_file(path: &Path) -> bool {
    !path.starts_with("/dev") && matches!(path.try_exists(), Ok(false))
}

/// Has the configuration of a system name these areas. The file is the package's example where there is none.
pub fn configure(root: &Path, areas: &[AreaName]) -> Result<Step, SetupError> {
    let file = config::at_root(root);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => config::EXAMPLE.to_owned(),
        Err(source) => return Err(ConfigError::Read { file, source }.into()),
    };
    let changed = config::with_areas(&text, &file, areas)?;
    let told = format!("/{} names the area", file.strip_prefix(root).unwrap_or(&file).display());
    if changed == text {
        return Ok(Step::Unchanged(told));
    }
    state::write(&file, changed.as_bytes()).map_err(|source| SetupError::Write { file, source })?;
    Ok(Step::Done(told))
}

/// Memory for the capture kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that are reserved.
    pub reserved: Bytes,
    /// Bytes that this machine needs.
    pub needed: Bytes,
}

impl Memory {
    /// As it is on the system whose root folder this is, for what its configuration asks for.
    pub fn now(root: &Path, configuration: &Configuration) -> Result<Self, SetupError> {
        let needed = needed(root, configuration);
        Ok(Self { reserved: Bytes(kexec::reserved_below(root)?), needed: Bytes(needed) })
    }

    /// Whether the capture kernel can be loaded now.
    pub fn is_enough(self) -> bool {
        self.reserved >= self.needed
    }

    /// Asks for what is needed from the next boot on, on the system whose root folder this is.
    pub fn reserve(self, root: &Path, programs: &dyn Programs) -> Result<Step, SetupError> {
        let needed = self.needed.0;
        let reservation = bootloader::reserve(root, needed, bootloader::memory(root), programs)?;
        Ok(match &reservation {
            Reservation::Asked { value, .. } if bootloader::is_running(root, value) => Step::Left(format!(
                "this kernel was started with crashkernel={value}, and has reserved {} of the {} that are needed; \
                 `dmesg | grep -i crashkernel` says why",
                self.reserved, self.needed
            )),
            Reservation::Asked { .. } => Step::Unchanged(reservation.to_string()),
            Reservation::Set { left: None, .. } => Step::Done(reservation.to_string()),
            Reservation::Set { left: Some(_), .. } => Step::Left(reservation.to_string()),
        })
    }
}

/// Bytes that must be reserved on the system whose root folder this is: for the capture kernel, and for a fallback kernel that the
/// configuration names. One that is refused adds nothing; the load says why.
fn needed(root: &Path, configuration: &Configuration) -> u64 {
    let request = FallbackRequest::configured(root, configuration);
    let processors = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let weighed = request.and_then(|request| request.weigh(Lockdown::below(root), &processors).ok());
    reservation::needed(&root.join("sys")).saturating_add(weighed.map_or(0, |weighed| weighed.needed))
}

/// Has systemd start Holdover at each boot, and watch these areas, of which those that are files can be touched by anybody.
pub fn enable(areas: &[AreaName], programs: &dyn Programs) -> Result<Step, SetupError> {
    let watches = watches(areas);
    let units = [&units::ALWAYS[..], &texts(&watches)].concat();
    let told = format!("systemd starts {} at each boot", units.join(", "));
    match status::disabled(&units, programs) {
        None => Ok(Step::Left(
            "systemd does not run here: run `holdover collect` and `holdover load` after each boot".into(),
        )),
        Some(units) if units.is_empty() => Ok(Step::Unchanged(told)),
        Some(units) => {
            systemctl("enable", &texts(&units), programs)?;
            Ok(Step::Done(told))
        }
    }
}

/// Has systemd take over what was loaded, which dumps to these areas: its unit is active from then on.
pub fn start(areas: &[AreaName], programs: &dyn Programs) -> Result<Step, SetupError> {
    let watches = watches(areas);
    let units = [&["holdover.service", "holdover-verify.timer"][..], &texts(&watches)].concat();
    // Too many tries before count no more.
    let _ = programs.run("systemctl", &["reset-failed", units[0]]);
    systemctl("start", &units, programs)?;
    Ok(Step::Done(format!("{} started", units.join(", "))))
}

/// The units that watch the areas that are files.
fn watches(areas: &[AreaName]) -> Vec<String> {
    let path = |name: &AreaName| match name {
        AreaName::Device(path) => Some(path.clone()),
        AreaName::Uuid(_) => areas::find(name).ok().map(|found| found.device),
    };
    let paths = areas.iter().filter_map(path).filter_map(|path| path.canonicalize().ok());
    paths.filter(|path| path.is_file()).map(|file| units::watch_of(&file)).collect()
}

fn texts(units: &[String]) -> Vec<&str> {
    units.iter().map(String::as_str).collect()
}

fn systemctl(verb: &str, units: &[&str], programs: &dyn Programs) -> Result<(), SetupError> {
    let arguments = [&[verb][..], units].concat();
    let failed = |source| SetupError::Units { verb: verb.to_owned(), units: units.join(", "), source };
    programs.run("systemctl", &arguments).map(drop).map_err(failed)
}

#[cfg(test)]
mod tests;
