//! What happens after a crash was collected: a hook, a webhook, a mail, copies elsewhere, and metrics.
//!
//! None of them fails a collect, and each has a time. `actions.json` beside the dump tells what became of each; it is written before
//! the first one starts, so that an action that was interrupted counts as failed. What failed is tried again by
//! `holdover collect --retry-actions`, and what is done is not done twice.

mod event;
mod mail;
mod metrics;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use delivery::{Ledger, Parcel, S3Settings, Settings, SshSettings, Target, TargetError};
use serde::{Deserialize, Serialize};

use self::event::Event;
pub use self::metrics::write_metrics;
use super::folder::{self, ACTIONS, CrashFolder, NOTE, UPLOADS};
use crate::config::{ActionConfiguration, S3Configuration};
use crate::{chain, clock};

/// How long a hook may take.
const HOOK: Duration = Duration::from_secs(60);
/// How long a webhook may take.
const WEBHOOK: Duration = Duration::from_secs(30);
/// How long `sendmail` may take.
const MAIL: Duration = Duration::from_secs(60);
/// How long a copy to one target may take. The next try goes on from there.
const COPY: Duration = Duration::from_secs(3600);

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
    pub fn new(configured: &ActionConfiguration, root: &Path, to: &[Target]) -> Result<Self, TargetError> {
        let ActionConfiguration { hook, webhook, mail, metrics: _, to: named, s3 } = configured;
        let S3Configuration { endpoint, region } = s3.clone();
        let mut targets = named.iter().map(|text| text.parse()).collect::<Result<Vec<Target>, _>>()?;
        targets.extend(to.iter().filter(|target| !targets.contains(target)).cloned().collect::<Vec<_>>());
        Ok(Self {
            hook: hook.clone(),
            webhook: webhook.clone(),
            mail: mail.clone(),
            to: targets,
            settings: Settings { s3: S3Settings { endpoint, region }, ssh: SshSettings::default() },
            sendmail: root.join("usr/sbin/sendmail"),
        })
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
    /// When it was tried last, in seconds since 1970.
    pub at: u64,
    /// How often it was tried.
    pub tries: u32,
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

    fn write(&self, folder: &CrashFolder) {
        // Without it, what was done may be done twice: no more can be done about a disk that is full.
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        let _ = folder::replace(&folder.path, ACTIONS, &text);
    }
}

/// Which folders' actions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that are configured and were not done.
    Undone,
    /// Those that failed; none of a crash for which nothing was to be done.
    Failed,
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
    /// The actions in their order: those that tell people first, because copies take long.
    fn all(&self) -> impl Iterator<Item = Action<'_>> {
        let hook = self.hook.as_deref().map(Action::Hook);
        let webhook = self.webhook.as_deref().map(Action::Webhook);
        let mail = self.mail.as_deref().map(Action::Mail);
        [hook, webhook, mail].into_iter().flatten().chain(self.to.iter().map(Action::Copy))
    }

    /// Does what is to be done for a crash, and returns what became of it.
    pub fn run(&self, folder: &CrashFolder, boot_loop: Option<u32>, which: Which) -> ActionNote {
        let earlier = ActionNote::read(folder);
        if which == Which::Failed && earlier.as_ref().is_some_and(|note| note.failed() == 0) {
            return earlier.unwrap_or_default();
        }
        let known = earlier.unwrap_or_default().actions;
        let begun = |action: Action<'_>| {
            let name = action.name();
            let known = known.iter().find(|known| known.action == name).cloned();
            known.unwrap_or(ActionResult {
                action: name,
                done: false,
                told: "interrupted".into(),
                at: 0,
                tries: 0,
            })
        };
        let mut note = ActionNote { actions: self.all().map(begun).collect() };
        note.write(folder);
        let event = Event::new(folder, boot_loop);
        for (place, action) in self.all().enumerate() {
            if note.actions[place].done {
                continue;
            }
            let outcome = self.act(&action, folder, &event);
            let result = &mut note.actions[place];
            result.done = outcome.is_ok();
            result.told = outcome.unwrap_or_else(|reason| reason);
            result.at = clock::now().unwrap_or_default();
            result.tries = result.tries.saturating_add(1);
            note.write(folder);
        }
        note
    }

    /// Does one of them.
    fn act(&self, action: &Action<'_>, folder: &CrashFolder, event: &Event<'_>) -> Result<String, String> {
        match action {
            Action::Hook(hook) => event.run_hook(hook, HOOK).map(|()| "it ended with success".into()),
            Action::Webhook(address) => {
                let posted = delivery::post_json(address, event.json(), WEBHOOK);
                posted.map(|()| "it was taken".into()).map_err(|error| chain(&error))
            }
            Action::Mail(to) => event.send_mail(&self.sendmail, to, MAIL).map(|()| "sendmail took it".into()),
            Action::Copy(target) => self.copy(target, folder),
        }
    }

    fn copy(&self, target: &Target, folder: &CrashFolder) -> Result<String, String> {
        let files = folder.note.files.iter().map(|file| file.name.clone());
        // The note comes last: where it is, all is.
        let files = files.chain([NOTE.to_owned()]).collect();
        let parcel = Parcel { folder: folder.path.clone(), name: folder.name(), files };
        let mut ledger = Ledger::open(&folder.path.join(UPLOADS));
        let delivered = delivery::deliver(target, &parcel, &self.settings, &mut ledger, COPY);
        let told = |delivered: delivery::Delivered| match delivered.there {
            0 => format!("{} bytes were sent", delivered.sent),
            there => format!("{} bytes were sent, {there} were there", delivered.sent),
        };
        delivered.map(told).map_err(|error| chain(&error))
    }
}

#[cfg(test)]
mod tests;
