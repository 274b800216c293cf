//! What to tell the person who stands before the machine when the dump has ended: what became of it, how to fetch what there is,
//! and what to change if something is missing.

use core::fmt;

use area::{Completeness, Lack, SealState};
use handoff::Areas;
use kdump::WriteError;
use uuid::Uuid;

use crate::CaptureError;
use crate::display;
use crate::dump::{DumpError, Dumped};
use crate::platform::console::say;

/// How the dump ended.
type Ended = Result<Dumped, CaptureError>;

/// Tells it on the display, and where something is missing on the serial console too.
pub(crate) fn give(ended: &Ended, areas: Areas) {
    let area = area_of(ended, areas);
    let (happened, fetch, change) = (Happened(ended), Fetch { ended, area }, Change(ended));
    if is_complete(ended) {
        return display::succeed(format_args!("{happened}\n{fetch}"));
    }
    for sentence in [&happened as &dyn fmt::Display, &fetch, &change] {
        say!("{sentence}");
    }
    display::fail(format_args!("{happened}\n{fetch}\n{change}"));
}

fn is_complete(ended: &Ended) -> bool {
    ended.as_ref().is_ok_and(|dumped| dumped.completeness() == Completeness::Complete)
}

/// Whether readers open what there is.
fn is_readable(ended: &Ended) -> bool {
    match ended {
        Ok(dumped) => dumped.is_readable(),
        Err(CaptureError::Dump(DumpError::Unsealed { is_readable, .. })) => *is_readable,
        Err(_) => false,
    }
}

/// The area with the dump, or the one that was to take it.
fn area_of(ended: &Ended, areas: Areas) -> Option<Uuid> {
    let first = areas.iter().next().map(|area| area.uuid);
    ended.as_ref().map_or(first, |dumped| Some(dumped.seal.uuid))
}

/// What became of the dump.
struct Happened<'a>(&'a Ended);

impl fmt::Display for Happened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(dumped) if dumped.completeness() == Completeness::Complete => {
                write!(f, "The dump is complete, and this machine restarts now.")
            }
            Ok(dumped) => {
                let (saved, pages) = (dumped.written.done - dumped.written.missing, dumped.written.pages);
                write!(f, "Only a part of the dump was saved, {saved} of {pages} pages")?;
                match dumped.error {
                    Some(error) => write!(f, ": {error}."),
                    None => write!(f, "."),
                }
            }
            Err(CaptureError::NoDestination) => {
                write!(f, "NOTHING WAS SAVED: no disk with a dump area was found that can be used.")
            }
            Err(CaptureError::Dump(DumpError::Unsealed { error, is_readable: true })) => {
                write!(f, "Only a part of the dump was saved: the disk failed before the end ({error}).")
            }
            Err(CaptureError::Dump(DumpError::Disk(error) | DumpError::Unsealed { error, .. })) => {
                write!(f, "THE DUMP WAS NOT SAVED: the disk failed ({error}).")
            }
            Err(error) => write!(f, "NOTHING WAS SAVED: {error}."),
        }
    }
}

/// How to fetch what there is.
struct Fetch<'a> {
    ended: &'a Ended,
    area: Option<Uuid>,
}

impl fmt::Display for Fetch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let area = self.area.unwrap_or_default();
        match self.ended {
            _ if is_readable(self.ended) => write!(f, "Fetch it later: `holdover collect {area} FILE`"),
            Ok(_) | Err(CaptureError::Dump(_)) => {
                write!(f, "The kernel's log may be there, for later: `holdover collect --dmesg {area} FILE`")
            }
            Err(_) => write!(
                f,
                "There is nothing to fetch. The last lines that Linux wrote to its console are all there is."
            ),
        }
    }
}

/// What to change, so that the next crash leaves more.
struct Change<'a>(&'a Ended);

/// What was not good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Disk,
    Room,
    Memory,
    Setting,
    Unreadable,
}

impl Cause {
    fn of(ended: &Ended) -> Self {
        match ended {
            Ok(dumped) => match (dumped.error, dumped.seal.state) {
                (Some(WriteError::Full), _) => Self::Room,
                (Some(WriteError::OutOfMemory), _) => Self::Memory,
                (Some(_), _) | (_, SealState::Partial(Lack::Write)) => Self::Disk,
                _ => Self::Unreadable,
            },
            Err(CaptureError::Dump(DumpError::Disk(_) | DumpError::Unsealed { .. })) => Self::Disk,
            Err(CaptureError::NoDestination | CaptureError::Discover(_)) => Self::Setting,
            Err(_) => Self::Memory,
        }
    }
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match Cause::of(self.0) {
            Cause::Disk => {
                "What to do: check the disk and its cable. Name a second area, on another disk, too: \
                 `holdover load --area A --area B`"
            }
            Cause::Room => {
                "What to do: give the dump a larger area (`holdover format`), or load with `--level 31`."
            }
            Cause::Memory => {
                "What to do: reserve more memory with `crashkernel=`; `holdover doctor` says how much."
            }
            Cause::Setting => {
                "What to do: run `holdover doctor`, which says what is wrong; then `holdover load` again."
            }
            Cause::Unreadable => {
                "What to do: some memory could not be read. If this comes again, have the memory tested."
            }
        })
    }
}
