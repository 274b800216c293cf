//! What happens after a crash was collected: a hook, a webhook, a mail, copies elsewhere, and metrics.
//!
//! None of them fails a collect, and each has a time. `actions.json` beside the dump tells what became of each; it is written before
//! the first one starts, so that an action that was interrupted counts as failed. What failed is tried again by
//! `holdover collect --retry-actions`, by the timer (`--when-due`) less and less often and twelve times at most, and what is done is
//! not done twice. One program at a time does the actions of a folder.

mod event;
mod mail;
mod metrics;
mod program;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use delivery::{DeliveryError, Ledger, Parcel, S3Settings, Settings, SshSettings, Target};
use serde::{Deserialize, Serialize};

use self::event::Event;
pub use self::metrics::write_metrics;
pub use self::program::ProgramError;
use super::all::{self, CollectAllError};
use super::folder::{self, ACTIONS, CrashFolder, NOTE, UPLOADS};
use super::history::History;
use crate::config::{ActionConfiguration, S3Configuration};
use crate::lock::Lock;
use crate::{Progress, chain, clock, codes};

/// How long a hook may take.
const HOOK: Duration = Duration::from_secs(60);
/// How long a webhook may take.
const WEBHOOK: Duration = Duration::from_secs(30);
/// How long `sendmail` may take.
const MAIL: Duration = Duration::from_secs(60);
/// How long a copy to one target may take. The next try goes on from there.
const COPY: Duration = Duration::from_secs(3600);

/// After the first try that failed, the next is due so much later, and each one after twice as long, at most [`MOST_DELAY`].
const DELAY: Duration = Duration::from_secs(15 * 60);
/// The longest time between two tries.
const MOST_DELAY: Duration = Duration::from_secs(24 * 3600);
/// Most tries by the timer: they take about six days. A person may try more often.
const MOST_TRIES: u32 = 12;

/// What is to happen.
#[derive(Clone, Debug, Default)]
pub struct Actions {
    /// A program.
    pub hook: Option<PathBuf>,
    /// A web address.
    pub webhook: Option<String>,
    /// Whom to mail.
    pub mail: Option<String>,
    /// Where copies go.
    pub to: Vec<Target>,
    /// How these are reached.
    pub settings: Settings,
    /// The program that sends mail.
    pub sendmail: PathBuf,
}

impl Actions {
    /// The actions that the configuration names, of a system with this root folder, and more targets.
    pub fn new(configured: &ActionConfiguration, root: &Path, to: &[Target]) -> Self {
        let ActionConfiguration { hook, webhook, mail, metrics: _, to: named, s3 } = configured;
        let S3Configuration { endpoint, region } = s3.clone();
        let more = to.iter().filter(|target| !named.contains(target));
        Self {
            hook: hook.clone(),
            webhook: webhook.clone(),
            mail: mail.clone(),
            to: named.iter().chain(more).cloned().collect(),
            settings: Settings { s3: S3Settings { endpoint, region }, ssh: SshSettings::default() },
            sendmail: root.join("usr/sbin/sendmail"),
        }
    }
}

/// What became of the actions for one crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionNote {
    /// Each of them.
    pub actions: Vec<ActionResult>,
}

/// What became of one action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionResult {
    /// Which one: `hook`, `webhook`, `mail`, or where a copy goes.
    pub action: String,
    /// Whether it was done.
    pub done: bool,
    /// What happened, in words.
    pub told: String,
    /// The code of the error, if there was one: `docs/messages.md` explains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When it was tried last, in seconds since 1970.
    pub at: u64,
    /// How often it was tried.
    pub tries: u32,
}

impl ActionResult {
    /// One that was not tried yet.
    fn untried(action: String) -> Self {
        Self { action, done: false, told: "it was not tried yet".into(), code: None, at: 0, tries: 0 }
    }

    /// Counts a try before it begins: one that is interrupted, by a hook that restarts the host for instance, counts too.
    fn begin(&mut self) {
        self.told = "interrupted".into();
        self.code = None;
        self.at = clock::now().unwrap_or_default();
        self.tries = self.tries.saturating_add(1);
    }

    /// Notes what came of the try.
    fn end(&mut self, outcome: Result<String, ActionError>) {
        self.done = outcome.is_ok();
        self.code = outcome.as_ref().err().and_then(ActionError::code);
        self.told = outcome.unwrap_or_else(|error| chain(&error));
    }

    /// Whether the next try is due.
    fn is_due(&self, now: u64) -> bool {
        let Some(failures) = self.tries.checked_sub(1) else { return true };
        let delay = DELAY.as_secs().saturating_mul(1 << failures.min(MOST_TRIES)).min(MOST_DELAY.as_secs());
        // A clock that was set back must not hold the next try up for years.
        let waited = now.checked_sub(self.at).is_none_or(|waited| waited >= delay);
        self.tries < MOST_TRIES && waited
    }
}

impl ActionNote {
    /// What `actions.json` of a folder tells; `None` if there is none that can be read.
    pub fn read(folder: &CrashFolder) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.path.join(ACTIONS)).ok()?).ok()
    }

    /// How many failed.
    pub fn failed(&self) -> u64 {
        self.actions.iter().filter(|action| !action.done).count() as u64
    }

    /// Whether copies are not where they are to be.
    pub(super) fn is_undelivered(&self) -> bool {
        self.actions.iter().any(|action| !action.done && action.action.parse::<Target>().is_ok())
    }

    fn write(&self, folder: &CrashFolder) {
        // Without it, what was done may be done twice: no more can be done about a disk that is full.
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        let _ = folder::replace(&folder.path, ACTIONS, &text);
    }
}

/// Which actions of a folder are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that are configured and were not done.
    Undone,
    /// Those that failed; none of a crash for which nothing was to be done.
    Failed,
    /// Of these, those the next try of which is due: what always fails is tried less and less often, and not for ever.
    Due,
}

impl Which {
    /// Whether an action is to be tried now, in seconds since 1970.
    fn has(self, action: &ActionResult, now: u64) -> bool {
        !action.done && (self != Self::Due || action.is_due(now))
    }
}

/// Why nothing is done for a crash.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// Somebody else does it.
    #[error("another `holdover collect` does what is to be done for {folder} now")]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// Its folder is gone.
    #[error(
        "{folder} was removed meanwhile, by another `holdover collect` or by hand: nothing is done for it any more"
    )]
    Removed {
        /// The folder.
        folder: PathBuf,
    },
    /// Its folder cannot be opened.
    #[error("cannot open {folder}, so that nothing is done for it")]
    Open {
        /// The folder.
        folder: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

/// Makes sure that a folder is there, and that nobody else does its actions or removes it meanwhile.
pub(super) fn lock(folder: &CrashFolder) -> Result<Lock, NotDone> {
    let path = || folder.path.clone();
    Lock::take(&folder.path).map_err(|source| match source.kind() {
        ErrorKind::WouldBlock => NotDone::Busy { folder: path() },
        ErrorKind::NotFound => NotDone::Removed { folder: path() },
        _ => NotDone::Open { folder: path(), source },
    })
}

/// Why it is not noted how many actions failed.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum NoteError {
    /// Somebody else collects there now, and notes it at the end.
    #[error(transparent)]
    Directory(#[from] CollectAllError),
    /// The history cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The history.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// Counts the actions that failed of all crashes in a directory, and notes them in the history at `path`, which is returned.
pub fn note_failed_actions(directory: &Path, path: &Path) -> (History, Result<(), NoteError>) {
    let at_work = all::lock(directory);
    let mut history = History::read(path);
    let notes = CrashFolder::list(directory).into_iter().filter_map(|folder| ActionNote::read(&folder));
    history.actions_failed = notes.map(|note| note.failed()).sum();
    let written = at_work.map_err(NoteError::from).and_then(|_at_work| {
        history.write(path).map_err(|source| NoteError::Write { path: path.to_owned(), source })
    });
    (history, written)
}

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
enum ActionError {
    /// Its program failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// It was not delivered.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

impl ActionError {
    fn code(&self) -> Option<String> {
        match self {
            Self::Program(error) => codes::of(error),
            Self::Delivery(error) => codes::of(error),
        }
    }
}

/// One action.
enum Action<'a> {
    Hook(&'a Path),
    Webhook(&'a str),
    Mail(&'a str),
    Copy(&'a Target),
}

impl Action<'_> {
    fn name(&self) -> String {
        match self {
            Self::Hook(_) => "hook".into(),
            Self::Webhook(_) => "webhook".into(),
            Self::Mail(_) => "mail".into(),
            Self::Copy(target) => target.to_string(),
        }
    }
}

impl Actions {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// The actions in their order: those that tell people first, because copies take long.
    fn all(&self) -> impl Iterator<Item = Action<'_>> {
        let hook = self.hook.as_deref().map(Action::Hook);
        let webhook = self.webhook.as_deref().map(Action::Webhook);
        let mail = self.mail.as_deref().map(Action::Mail);
        [hook, webhook, mail].into_iter().flatten().chain(self.to.iter().map(Action::Copy))
    }

    /// Does what is to be done for a crash, and returns what became of it. The steps of `progress` are bytes, of one copy after the other.
    pub fn run(
        &self,
        folder: &CrashFolder,
        boot_loop: Option<u32>,
        which: Which,
        progress: &dyn Progress,
    ) -> Result<ActionNote, NotDone> {
        let _at_work = lock(folder)?;
        let earlier = ActionNote::read(folder);
        if which != Which::Undone && earlier.as_ref().is_some_and(|note| note.failed() == 0) {
            return Ok(earlier.unwrap_or_default());
        }
        let mut note = self.begun(&earlier.unwrap_or_default());
        note.write(folder);
        let event = Event::new(folder, boot_loop);
        let now = clock::now().unwrap_or_default();
        for (place, action) in self.all().enumerate() {
            if !which.has(&note.actions[place], now) {
                continue;
            }
            note.actions[place].begin();
            note.write(folder);
            let outcome = self.act(&action, folder, &event, progress);
            note.actions[place].end(outcome);
            note.write(folder);
        }
        Ok(note)
    }

    /// What is known of the actions that are wanted.
    fn begun(&self, earlier: &ActionNote) -> ActionNote {
        let begun = |action: Action<'_>| {
            let name = action.name();
            let known = earlier.actions.iter().find(|known| known.action == name).cloned();
            known.unwrap_or_else(|| ActionResult::untried(name))
        };
        ActionNote { actions: self.all().map(begun).collect() }
    }

    /// Does one of them.
    fn act(
        &self,
        action: &Action<'_>,
        folder: &CrashFolder,
        event: &Event<'_>,
        progress: &dyn Progress,
    ) -> Result<String, ActionError> {
        let told = match action {
            Action::Hook(hook) => event.run_hook(hook, HOOK).map(|()| "it ended with success")?,
            Action::Webhook(address) => {
                delivery::post_json(address, event.json(), WEBHOOK).map(|()| "it was taken")?
            }
            Action::Mail(to) => event.send_mail(&self.sendmail, to, MAIL).map(|()| "sendmail took it")?,
            Action::Copy(target) => return Ok(self.copy(target, folder, progress)?),
        };
        Ok(told.into())
    }

    fn copy(
        &self,
        target: &Target,
        folder: &CrashFolder,
        progress: &dyn Progress,
    ) -> Result<String, DeliveryError> {
        let files = folder.note.files.iter().map(|file| file.name.clone());
        // The note comes last: where it is, all is.
        let files = files.chain([NOTE.to_owned()]).collect();
        let parcel = Parcel { folder: folder.path.clone(), name: folder.name(), files };
        let mut ledger = Ledger::open(&folder.path.join(UPLOADS));
        progress.begin(folder.note.bytes());
        let there = |bytes: u64| progress.advance_to(bytes.min(folder.note.bytes()));
        let delivered = delivery::deliver(target, &parcel, &self.settings, &mut ledger, COPY, &there);
        progress.end();
        let told = |delivered: delivery::Delivered| match delivered.there {
            0 => format!("{} bytes were sent", delivered.sent),
            there => format!("{} bytes were sent, {there} were there", delivered.sent),
        };
        delivered.map(told)
    }
}

#[cfg(test)]
mod tests;
