//! The codes of errors: a name for each that stays, by which people look it up in `docs/messages.md` and programs tell them apart.
//!
//! A code is `FAMILY: NAME`. The name is that of the error's variant; an error that passes another one on has the other's code. A new
//! kind of error is a line in the list below, a new variant one in the document: a test compares the two.

use std::error::Error;

use delivery::DeliveryError;
use strum::VariantNames;

use crate::areas::{AreaError, FileError, FormatError, InUse, RemoveError};
use crate::bootloader::BootloaderError;
use crate::collect::{CollectAllError, CollectError, MarkError, NoteError, ProgramError};
use crate::config::ConfigError;
use crate::crash_test::TestError;
use crate::dmesg::DmesgError;
use crate::fallback::FallbackError;
use crate::image::ImageError;
use crate::inspect::{FirmwareTableError, InspectError};
use crate::kexec::{KexecError, Refused};
use crate::load::LoadError;
use crate::makedump::MakedumpError;
use crate::mapped::MappedError;
use crate::panic_settings::PanicSettingError;
use crate::root_pointer::RootPointerError;
use crate::setup::{RoomError, SetupError};
use crate::sign::SignError;
use crate::summary::SummaryError;
use crate::sysfs::SysfsError;
use crate::unfinished::OutputError;

/// An error that has a code.
trait Coded {
    fn code(&self) -> String;
}

/// Defines what is coded: the family, the error's type, and the variants that pass another error on.
macro_rules! families {
    ($($family:literal $error:ident $([$($variant:ident $fields:tt $inner:ident),*])?;)*) => {
        $(impl Coded for $error {
            fn code(&self) -> String {
                match self {
                    $($(Self::$variant $fields => $inner.code(),)*)?
                    own => format!("{}: {}", $family, <&str>::from(own)),
                }
            }
        })*

        /// The code of an error, if it is one that `docs/messages.md` explains.
        pub fn of(error: &(dyn Error + 'static)) -> Option<String> {
            None$(.or_else(|| error.downcast_ref::<$error>().map(Coded::code)))*
        }

        /// All codes.
        pub fn all() -> Vec<String> {
            let mut all = Vec::new();
            $(all.extend(own($family, $error::VARIANTS, &[$($(stringify!($variant)),*)?]));)*
            all
        }
    };
}

families! {
    "load" LoadError [
        Kexec(passed) passed, Area(passed) passed, Disk(passed) passed, RootPointer(passed) passed, Fallback(passed) passed
    ];
    "fallback" FallbackError;
    "kexec" KexecError [Refused { why, .. } why];
    "kernel" Refused;
    "root-pointer" RootPointerError;
    "image" ImageError;
    "panic-setting" PanicSettingError;
    "sign" SignError [Output(passed) passed];
    "test" TestError [Area(passed) passed];
    "area" AreaError [File(passed) passed, Disks(passed) passed];
    "file" FileError [Disk(passed) passed];
    "disk" SysfsError [Mapped(passed) passed];
    "mapped" MappedError;
    "format" FormatError [InUse(passed) passed, File(passed) passed];
    "remove" RemoveError [Area(passed) passed, File(passed) passed, InUse(passed) passed];
    "in-use" InUse;
    "collect" CollectError [Area(passed) passed, Output(passed) passed];
    "collect" CollectAllError;
    "mark" MarkError [Area(passed) passed];
    "history" NoteError [Directory(passed) passed];
    "program" ProgramError;
    "delivery" DeliveryError;
    "output" OutputError;
    "dmesg" DmesgError [Area(passed) passed, Output(passed) passed];
    "makedump" MakedumpError [Output(passed) passed];
    "inspect" InspectError;
    "firmware-table" FirmwareTableError;
    "summary" SummaryError [Output(passed) passed];
    "setup" SetupError [
        Config(passed) passed, Area(passed) passed, Room(passed) passed, Format(passed) passed, Bootloader(passed) passed,
        Kexec(passed) passed
    ];
    "room" RoomError;
    "bootloader" BootloaderError;
    "config" ConfigError;
}

/// The codes of a family, without variants that have another's.
fn own(family: &str, variants: &[&str], passing_on: &[&str]) -> Vec<String> {
    let passes_on = |name: &str| {
        let plain = name.replace('-', "");
        passing_on.iter().any(|variant| variant.eq_ignore_ascii_case(&plain))
    };
    let own = variants.iter().filter(|name| !passes_on(name));
    own.map(|name| format!("{family}: {name}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io;

    use super::*;

    #[test]
    fn an_error_that_passes_another_on_has_the_others_code() {
        let area = || AreaError::NoArea { device: "/a".into() };
        assert_eq!(of(&LoadError::Area(area())).as_deref(), Some("area: no-area"));
        assert_eq!(of(&RemoveError::Area(area())).as_deref(), Some("area: no-area"));
        let disk = FileError::Disk(SysfsError::MadeOfOthers { disk: "md0".into() });
        assert_eq!(of(&AreaError::File(disk)).as_deref(), Some("disk: made-of-others"));
        let refused =
            KexecError::Refused { why: Refused::Unsigned, said: crate::kexec::KernelLog::default() };
        assert_eq!(of(&LoadError::Kexec(refused)).as_deref(), Some("kernel: unsigned"));
        assert_eq!(of(&LoadError::NoArea).as_deref(), Some("load: no-area"));
        assert_eq!(of(&io::Error::from(io::ErrorKind::NotFound)), None);
    }

    #[test]
    fn no_code_is_there_twice_and_none_of_an_error_that_passes_another_on() {
        let all = all();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.contains(&"area: no-area".into()) && !all.contains(&"load: root-pointer".into()));
    }
}
