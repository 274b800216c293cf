//! Stores the dead kernel's log before the first page, because it often tells why the kernel died, and takes no time.

use core::time::Duration;

use area::OpenDump;
use handoff::Event;
use machine::{BlockDevice, BlockError, Clock, OldMemory};
use screen::Stage;
use vmcore::{Kernel, LogError};

use crate::display;
use crate::platform::clock::Tsc;
use crate::platform::console::say;
use crate::watchdogs;

/// How long the dead kernel's messages are looked at: a million of them, if it says that there are as many, may take longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the log is not stored.
#[derive(Debug, thiserror::Error)]
enum NoLog {
    #[error(transparent)]
    NotFound(#[from] LogError),
    #[error("the disk failed: {0}")]
    Disk(#[from] BlockError),
}

/// Stores the log and makes it durable. If that fails, the console tells why, and the dump goes on.
pub(super) fn store(dump: &mut OpenDump<impl BlockDevice>, old: &impl OldMemory, kernel: &Kernel) {
    match try_to_store(dump, old, kernel) {
        Ok(bytes) => say!("{}", Event::LogSafe { bytes }),
        Err(error) => {
            say!("the dead kernel's log is not stored: {error}");
            display::failed(Stage::Log);
        }
    }
    watchdogs::progress();
}

/// Returns how many bytes of the log were stored.
fn try_to_store(
    dump: &mut OpenDump<impl BlockDevice>,
    old: &impl OldMemory,
    kernel: &Kernel,
) -> Result<u64, NoLog> {
    let begun = Tsc.now();
    let log = kernel.log(old, || {
        watchdogs::progress();
        Tsc.now().saturating_sub(begun) < PATIENCE
    })?;
    let mut writer = dump.log(log.len());
    log.print(|text| {
        watchdogs::progress();
        writer.write(text)
    })?;
    Ok(writer.store()?)
}
