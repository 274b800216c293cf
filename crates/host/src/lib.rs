//! What a host does with Holdover: it makes dump areas, loads the capture kernel, fetches dumps, and looks into them.
//!
//! The program `holdover` is a command line over these functions. Each of its commands has a module here:
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | reads the configuration of a host |
//! | [`areas`] | makes dump areas, and finds them on the disks of this host |
//! | [`image`] | chooses the capture kernel's image, and tells who signed it |
//! | [`load`] | has the running kernel load the capture kernel, or remove it |
//! | [`fallback`] | packs the kernel to which the capture kernel hands the machine over |
//! | [`setup`] | makes this host ready for a crash, in steps that change nothing twice |
//! | [`status`] | tells in few lines whether the next panic will be dumped |
//! | [`bootloader`] | asks for the crash reservation through the distribution's configuration |
//! | [`crash_slot`] | tells whose crash kernel is loaded |
//! | [`panic_settings`] | sets which events panic the kernel, and gives back what was before |
//! | [`sign`] | signs the image for Secure Boot |
//! | [`secure_boot`] | tells whether the running kernel would load the image |
//! | [`verify`] | checks that the loaded capture kernel would still find its dump areas |
//! | [`doctor`] | checks whether this host is ready for a crash |
//! | [`estimate`] | tells how large a dump would be now |
//! | [`crash_test`] | crashes this host on request, and tells after the boot whether the dump came |
//! | [`watchdogs`] | finds the watchdogs that are armed |
//! | [`collect`] | copies a dump out of its area into a file, and checks it; after a crash, all dumps into folders of their own |
//! | [`dmesg`] | reads the dead kernel's log out of a dump area |
//! | [`makedump`] | makes a small dump of an ELF core or of a larger dump |
//! | [`inspect`] | shows what the capture kernel found, and which memory devices could reach |
//! | [`summary`] | makes a page of a dump that says what happened |
//! | [`codes`] | names each error, for `docs/messages.md` and for programs |
//!
//! A function takes paths and choices, changes only what its name says, prints nothing, and returns a value. Each
//! module has one enum of errors. The text of an error says what is missing and how to get it, and names commands and
//! options of `holdover` where these help. If one error causes another, it is the other's
//! [`source`](std::error::Error::source). Long work reports to a [`Progress`]; `&()` ignores the reports.
//!
//! # Examples
//!
//! Make a file a dump area, and find it again as the capture kernel will:
//!
//! ```
//! use std::path::Path;
//!
//! use host::areas::{self, AreaName, IfUsed};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let disk = folder.path().join("disk");
//! std::fs::File::create(&disk)?.set_len(8 << 20)?;
//! let formatted = areas::format(&disk, IfUsed::Refuse, Path::new("/"))?;
//! let found = areas::find(&AreaName::Device(disk))?;
//! assert_eq!(found.label.uuid, formatted.uuid);
//! # Ok(())
//! # }
//! ```
//!
//! Make a dump of a core, without what is rarely missed:
//!
//! ```no_run
//! use host::makedump::{DumpForm, MakedumpRequest, makedump};
//! use host::{Codec, IfExists, Level};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let request = MakedumpRequest {
//!     input: "/proc/vmcore".into(),
//!     out: "/var/crash/vmcore".into(),
//!     if_exists: IfExists::Refuse,
//!     level: Level::ALL,
//!     form: DumpForm::Compressed(Codec::Lzo),
//!     threads: None,
//! };
//! let made = makedump(&request, &())?;
//! println!("{} pages in {} bytes", made.written.pages, made.written.file_bytes);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod areas;
pub mod bootloader;
mod bytes;
mod chain;
mod clock;
pub mod codes;
pub mod collect;
pub mod config;
pub mod crash_slot;
pub mod crash_test;
pub mod dmesg;
pub mod doctor;
pub mod estimate;
pub mod fallback;
pub mod image;
pub mod inspect;
mod iomem;
mod iommu;
mod kcore;
mod kexec;
pub mod load;
mod loaded;
mod lock;
pub mod lockdown;
pub mod makedump;
mod mapped;
mod memory_encryption;
pub mod panic_settings;
pub mod programs;
mod progress;
mod reservation;
mod root_pointer;
pub mod secure_boot;
pub mod setup;
pub mod sign;
mod small_file;
mod state;
pub mod status;
pub mod summary;
mod sysfs;
mod unfinished;
mod units;
pub mod verify;
pub mod watchdogs;

pub use bytes::{Bytes, NoSize};
pub use chain::chain;
pub use handoff::HandOver;
pub use kdump::Codec;
pub use mapped::MappedError;
pub use pci::Function;
pub use progress::Progress;
pub use root_pointer::RootPointerError;
pub use sysfs::SysfsError;
pub use unfinished::{IfExists, OutputError};
pub use vmcore::Level;
