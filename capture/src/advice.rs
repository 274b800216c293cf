//! What to tell the person who stands before the machine when the dump has ended: what became of it, how to fetch what there is,
//! and what to change if something is missing.

use core::fmt;

use area::{Completeness, Lack, SealState};
use kdump::WriteError;

use crate::disk::Kept;
use crate::display;
use crate::dump::DumpError;
use crate::platform::console::say;
use crate::{CaptureError, Ended};

/// Tells it on the display, and where something is missing on the serial console too.
pub(crate) fn give(ended: &Ended) {
    let (happened, fetch, change) = (Happened(ended), Fetch(ended), Change(ended));
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
            Err(CaptureError::NoDestination { kept: None }) => {
                write!(f, "NOTHING WAS SAVED: no disk with a dump area was found that can be used.")
            }
            Err(CaptureError::NoDestination { kept: Some(Kept { area, held }) }) => write!(
                f,
                "NOTHING OF THIS CRASH WAS SAVED: area {area} keeps {held} of an earlier crash, which nobody has collected."
            ),
            Err(CaptureError::Dump { error: DumpError::Unsealed { error, is_readable: true }, .. }) => {
                write!(f, "Only a part of the dump was saved: the disk failed before the end ({error}).")
            }
            Err(CaptureError::Dump {
                error: DumpError::Disk(error) | DumpError::Unsealed { error, .. },
                ..
            }) => {
                write!(f, "THE DUMP WAS NOT SAVED: the disk failed ({error}).")
            }
            Err(error) => write!(f, "NOTHING WAS SAVED: {error}."),
        }
    }
}

/// How to fetch what there is.
struct Fetch<'a>(&'a Ended);

impl fmt::Display for Fetch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (area, is_readable) = match self.0 {
            Ok(dumped) => (dumped.seal.uuid, dumped.is_readable()),
            Err(CaptureError::Dump { area, error }) => {
                (*area, matches!(error, DumpError::Unsealed { is_readable: true, .. }))
            }
            Err(CaptureError::NoDestination { kept: Some(kept) }) => {
                return write!(f, "Fetch the earlier one: `{}`", kept.fetch());
            }
            Err(_) => {
                return write!(
                    f,
                    "There is nothing to fetch. The last lines that Linux wrote to its console are all there is."
                );
            }
        };
        if is_readable {
            write!(f, "Fetch it later: `holdover collect {area} FILE`")
        } else {
            write!(f, "The kernel's log may be there, for later: `holdover collect --dmesg {area} FILE`")
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
    Uncollected,
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
            Err(CaptureError::Dump { error: DumpError::Disk(_) | DumpError::Unsealed { .. }, .. }) => {
                Self::Disk
            }
            Err(CaptureError::NoDestination { kept: Some(_) }) => Self::Uncollected,
            Err(CaptureError::NoDestination { kept: None } | CaptureError::Discover(_)) => Self::Setting,
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
            Cause::Uncollected => {
                "What to do: `holdover load` dumps again once the earlier one was fetched. A second area would take the next \
                 crash meanwhile: `holdover load --area A --area B`"
            }
            Cause::Unreadable => {
                "What to do: some memory could not be read. If this comes again, have the memory tested."
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};

    use area::Held;
    use machine::BlockError;
    use uuid::Uuid;

    use super::*;

    const AREA: Uuid = Uuid::from_u128(0xA);
    const FETCH: &str = "`holdover collect 00000000-0000-0000-0000-00000000000a FILE`";

    fn advice(error: CaptureError) -> [String; 3] {
        let ended = Err(error);
        [Happened(&ended).to_string(), Fetch(&ended).to_string(), Change(&ended).to_string()]
    }

    fn of_dump(error: DumpError) -> [String; 3] {
        advice(CaptureError::Dump { area: AREA, error })
    }

    #[test]
    fn an_earlier_dump_that_is_kept_is_what_there_is_to_fetch() {
        let kept = |held| advice(CaptureError::NoDestination { kept: Some(Kept { area: AREA, held }) });
        let [happened, fetch, change] = kept(Held::Dump(2048));
        assert!(happened.contains("keeps a dump of 2 KiB of an earlier crash"), "{happened}");
        assert!(fetch.contains("earlier") && fetch.contains(FETCH), "{fetch}");
        assert!(kept(Held::Log(5))[1].contains("collect --dmesg"));
        assert!(change.contains("second area"), "{change}");
    }

    #[test]
    fn without_an_area_doctor_is_asked() {
        let [happened, fetch, change] = advice(CaptureError::NoDestination { kept: None });
        assert!(happened.contains("no disk with a dump area"), "{happened}");
        assert!(fetch.contains("nothing to fetch"), "{fetch}");
        assert!(change.contains("holdover doctor"), "{change}");
    }

    #[test]
    fn a_part_that_opens_is_fetched_where_it_is_although_the_seal_failed() {
        let failed = |is_readable| DumpError::Unsealed { error: BlockError::TimedOut, is_readable };
        let [happened, fetch, change] = of_dump(failed(true));
        assert!(happened.starts_with("Only a part"), "{happened}");
        assert!(fetch.contains(FETCH), "{fetch}");
        assert!(change.contains("check the disk"), "{change}");
        let [happened, fetch, _] = of_dump(failed(false));
        assert!(happened.contains("NOT SAVED"), "{happened}");
        assert!(fetch.contains("--dmesg"), "{fetch}");
    }
}
