//! Copies dumps out of their areas, and checks them on the way: one dump into a file that a person names ([`collect`]), or, after a
//! crash and without a person, all that the areas of this host hold ([`collect_all`]), each into a folder of its own.
//!
//! | module | what it is |
//! |---|---|
//! | `dump` | copies one dump out of its area into a file |
//! | `all` | the way of an automatic collect: finds areas, copies, verifies, frees |
//! | `actions` | what happens afterwards: hook, webhook, mail, copies elsewhere, metrics |
//! | `crash` | what notes tell of a crash |
//! | `folder` | the folder of one crash: begun under another name, published whole, removed whole |
//! | `fingerprint` | the checksum by which a copy is compared with what is read back from its disk |
//! | `places` | from which areas an automatic collect takes, and which are another's |
//! | `others` | dumps that other programs wrote, such as those of a kernel to which the machine was handed over |
//! | `pages` | what is written beside the dump for people: takeover and summary, which never fail a collect |
//! | `retention` | which older folders go |
//! | `history` | the crashes that were collected, and whether this machine panics at each boot |

mod actions;
mod all;
mod crash;
mod dump;
mod fingerprint;
mod folder;
mod history;
mod others;
mod pages;
mod places;
mod retention;

pub use area::{Lack, LeftOut};
pub use delivery::{Target, TargetError};

pub use self::actions::{
    ActionNote, ActionResult, Actions, NotDone, NoteError, ProgramError, Which, note_failed_actions,
    write_metrics,
};
pub use self::all::{
    AreaOutcome, AreaReport, CollectAllError, CollectAllRequest, CollectedAll, LackingPage, Search, Skipped,
    collect_all,
};
pub use self::crash::{Crash, DumpIdentity, FolderContent};
pub(crate) use self::dump::mark;
pub use self::dump::{
    AboutDump, AreaContent, CollectError, CollectRequest, Collected, DumpDamage, Ending, MarkError, NoDump,
    collect,
};
pub use self::folder::{CrashFolder, FileNote, FolderNote};
pub use self::history::{BootLoop, CrashNote, HISTORY, History};
pub use self::others::{OthersDump, OthersDumps};
pub use self::pages::{MakeSummary, Pages};
pub use self::retention::Retention;
