//! Boots the guest: from power-on until it has loaded a capture kernel and waits for the bench.
//!
//! In this phase nothing of Holdover's capture kernel runs. Once in some hundred boots, emulated Linux stops making
//! progress and prints nothing more, or dies in a way that no real processor allows (a fault at an instruction that
//! cannot fault, with flags that do not exist). The bench repeats such a boot, and says so.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::machines::console::{Ended, Line, Silence};
use crate::machines::files::Files;
use crate::machines::qemu::Machine;

/// The line with which the guest's init tells that the capture kernel is loaded, and that it waits for the bench.
const LOADED: &str = "bench: loaded";

/// Time limit of a boot, on a machine that runs two boots at once.
const LIMIT: Duration = Duration::from_secs(240);
/// Longest silence of a booting Linux.
const SILENCE: Duration = Duration::from_secs(60);

/// A machine that waits for the bench.
pub(crate) struct Booted {
    /// Its files.
    pub(crate) files: Files,
    /// It itself.
    pub(crate) machine: Machine,
    /// What it said of loading the capture kernel.
    pub(crate) loaded: Line,
}

/// Boots the machine that `start` makes of a fresh set of files, which are kept under `name`.
pub(crate) fn boot(name: &str, start: impl Fn(&Files) -> Result<Machine>) -> Result<Booted> {
    unless_failed_twice(name, || {
        let files = Files::new(name)?;
        let machine = start(&files)?;
        let loaded = machine.console().wait_for_talker(LOADED, LIMIT, SILENCE)?;
        Ok(Booted { files, machine, loaded })
    })
}

fn unless_failed_twice<T>(name: &str, boot: impl Fn() -> Result<T>) -> Result<T> {
    boot().or_else(|error| {
        ensure!(error.is::<Silence>() || error.is::<Ended>(), error);
        eprintln!(
            "note  {name}: Linux did not come to load the capture kernel, and boots once more: {error}"
        );
        boot()
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::bail;

    use super::*;

    /// Runs a boot that ends in `error` for the first `failures` times; returns the number of tries, and the result.
    fn tried(failures: u32, error: impl Fn() -> anyhow::Error) -> (u32, Result<()>) {
        let count = Cell::new(0);
        let result = unless_failed_twice("test", || {
            count.set(count.get() + 1);
            if count.get() <= failures {
                bail!(error())
            }
            Ok(())
        });
        (count.get(), result)
    }

    fn silence() -> anyhow::Error {
        Silence { silence: SILENCE, tail: String::new() }.into()
    }

    fn end() -> anyhow::Error {
        Ended { wanted: LOADED.to_owned(), tail: String::new() }.into()
    }

    #[test]
    fn a_boot_that_stalled_or_died_is_done_once_more_but_no_third_time() {
        for error in [silence, end] {
            assert!(matches!(tried(1, error), (2, Ok(()))));
            assert!(matches!(tried(2, error), (2, Err(_))));
        }
    }

    #[test]
    fn a_boot_that_failed_in_another_way_is_not_done_again() {
        assert!(matches!(tried(1, || anyhow::anyhow!("QEMU did not start")), (1, Err(_))));
    }
}
