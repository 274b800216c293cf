//! Whose crash kernel is loaded, and whether it is still what was loaded, for the machine as it is.

use super::finding::{Code, Finding, Subject};
use super::rights::Rights;
use crate::areas::FoundArea;
use crate::kexec;
use crate::loaded::{self, Standing};

/// Finds out whose crash kernel is loaded.
pub(super) fn check(rights: Rights, areas: &[FoundArea]) -> Finding {
    let standing = match kexec::is_loaded() {
        Ok(true) => loaded::standing(areas),
        _ => Standing::Nothing,
    };
    judge(rights, &standing)
}

fn judge(rights: Rights, standing: &Standing) -> Finding {
    const AGAIN: &str = "run `holdover load` again";
    const REPLACE: &str = "remove what loads it (see other crash kernels), or `holdover load --replace-crash-kernel` until the next boot";
    match standing {
        Standing::Nothing => Finding::missing(
            Code::NotLoaded,
            "not loaded",
            "`holdover load`, or `holdover setup` where nothing was set up",
        ),
        Standing::Foreign => {
            let found = "one is loaded, not by `holdover load` since this boot";
            Finding::missing(Code::LoadedForeign, found, REPLACE)
        }
        Standing::Replaced(ago) => {
            let found = format!("loaded {ago}; another was loaded since then");
            Finding::missing(Code::LoadedReplaced, found, REPLACE)
        }
        Standing::Stale(ago, changes) => {
            let found = format!("loaded {ago}; since then: {}", changes.join("; "));
            Finding::missing(Code::LoadedStale, found, AGAIN)
        }
        Standing::Ours(ago) => {
            Finding::ok(Subject::CaptureKernel, format!("loaded by Holdover {ago}, and still there"))
        }
        Standing::Unseen(ago) => unseen(rights, &format!("loaded by Holdover {ago}")),
    }
}

/// What was loaded is known, and the kernel does not show what there is now.
fn unseen(rights: Rights, loaded: &str) -> Finding {
    match rights {
        Rights::Root => {
            let found = format!("{loaded}; this kernel does not show whether it is still there");
            Finding::ok(Subject::CaptureKernel, found)
        }
        Rights::User => {
            let found = format!("{loaded}; only root sees whether it is still there");
            Finding::unknown(Code::LoadedUnseen, found)
        }
    }
}
