//! What programs and people are told of a crash.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::super::crash::FolderContent;
use super::super::folder::{CrashFolder, FolderNote};
use super::mail;
use super::program::{self, ProgramError};

/// What happened, as hooks and webhooks get it in JSON. It has nothing of the dead kernel's memory.
#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    /// Always this: other events may come.
    #[serde(rename = "event")]
    what: &'static str,
    /// Where the dump is.
    folder: &'a Path,
    /// The folder's note.
    #[serde(rename = "crash")]
    note: &'a FolderNote,
    /// How many crashes followed each other too soon, if they are so many that they are called a boot loop.
    boot_loop: Option<u32>,
}

impl<'a> Event<'a> {
    pub(super) fn new(folder: &'a CrashFolder, boot_loop: Option<u32>) -> Self {
        Self { what: "crash_collected", folder: &folder.path, note: &folder.note, boot_loop }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Runs a program with the folder as its argument, what happened in its environment, and all of it as JSON on its input.
    pub(super) fn run_hook(&self, hook: &Path, limit: Duration) -> Result<(), ProgramError> {
        let mut command = std::process::Command::new(hook);
        command.arg(self.folder).env("HOLDOVER_FOLDER", self.folder);
        command.env("HOLDOVER_HOST", &self.note.host);
        command.env("HOLDOVER_CONTENT", content(self.note.crash.content));
        command.env("HOLDOVER_KERNEL", self.note.kernel.as_deref().unwrap_or_default());
        command.env("HOLDOVER_TIME", self.note.crash.time().to_string());
        program::run(command, &self.json(), limit)
    }

    /// Gives a mail to `sendmail`.
    pub(super) fn send_mail(&self, sendmail: &Path, to: &str, limit: Duration) -> Result<(), ProgramError> {
        let mut command = std::process::Command::new(sendmail);
        command.args(["-t", "-oi"]);
        program::run(command, &mail::text(to, self.folder, self.note, self.boot_loop), limit)
    }
}

/// The name that the content has in JSON.
fn content(content: FolderContent) -> String {
    let name = serde_json::to_value(content).ok();
    name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}
