//! What is written beside a dump for people: what `inspect` tells of the takeover, and the summary. Nothing here fails a collect.
//!
//! A dump is hostile input. Reading it for a page may take for ever, or end this program; the dump's copy is durable by then. A page that
//! takes too long is left out, and one that ended the program is not tried again: the unfinished folder tells that it was begun.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::folder::DUMP;
use crate::inspect::{InspectRequest, Inspected, inspect};

/// How long the pages of one dump may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Makes the summary of a dump, or tells why there is none.
pub type MakeSummary = fn(&Path) -> Result<String, String>;

/// How values are made pages: a program gives these, because the library knows no layouts.
#[derive(Clone, Copy)]
pub struct Pages {
    /// What `inspect` tells, as text.
    pub takeover: fn(&Inspected) -> String,
    /// The summary of a dump as one HTML file, or why there is none; `None` makes none.
    pub summary: Option<MakeSummary>,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

/// A page: the name of its file, and its content or why there is none.
pub(super) struct Page {
    pub(super) name: &'static str,
    pub(super) content: Result<String, String>,
}

/// The names of all pages.
pub(super) const NAMES: [&str; 3] = ["takeover.txt", "takeover.json", "summary.html"];

impl Pages {
    /// Makes the pages of a dump, each of them within a time that is limited for all.
    pub(super) fn of(self, dump: &Path) -> Vec<Page> {
        self.within(dump, PATIENCE)
    }

    fn within(self, dump: &Path, patience: Duration) -> Vec<Page> {
        let (send, receive) = mpsc::channel();
        let dump = dump.to_owned();
        // A thread that never ends goes with the program.
        thread::spawn(move || self.make(&dump, &send));
        let deadline = std::time::Instant::now() + patience;
        let next = || receive.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now()));
        let mut pages: Vec<Page> = std::iter::from_fn(|| next().ok()).collect();
        let wanted = if self.summary.is_some() { NAMES.len() } else { NAMES.len() - 1 };
        for name in NAMES.into_iter().take(wanted).skip(pages.len()) {
            pages.push(Page { name, content: Err("it was not made in time".into()) });
        }
        pages
    }

    fn make(self, dump: &Path, send: &mpsc::Sender<Page>) {
        let [text, json, summary] = NAMES;
        let inspected = takeover_of(dump);
        let pages: [(&'static str, Result<String, String>); 2] = [
            (text, inspected.as_ref().map(self.takeover).map_err(Clone::clone)),
            (json, inspected.as_ref().map_err(Clone::clone).and_then(to_json)),
        ];
        for (name, content) in pages {
            // Nobody waits any more: it took too long.
            let _ = send.send(Page { name, content });
        }
        if let Some(make) = self.summary {
            let _ = send.send(Page { name: summary, content: make(dump) });
        }
    }
}

fn takeover_of(dump: &Path) -> Result<Inspected, String> {
    let request = InspectRequest { dump: PathBuf::from(dump), unit: None, device: None, address: None };
    let inspected = inspect(&request).map_err(|error| crate::chain(&error))?;
    // The folder is to have another name.
    Ok(Inspected { dump: DUMP.into(), ..inspected })
}

fn to_json(inspected: &Inspected) -> Result<String, String> {
    serde_json::to_string_pretty(inspected).map(|text| text + "\n").map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_never_ends_is_left_out_and_the_others_are_there() {
        fn never(_: &Path) -> Result<String, String> {
            loop {
                thread::park();
            }
        }
        let pages = Pages { takeover: |_| String::new(), summary: Some(never) };
        let pages = pages.within(Path::new("/no-such-dump"), Duration::from_millis(200));
        let told: Vec<_> = pages.iter().map(|page| (page.name, page.content.as_ref().unwrap_err())).collect();
        assert_eq!(told.len(), 3);
        assert!(told[0].1.contains("cannot read"), "{}", told[0].1);
        assert_eq!(told[2], ("summary.html", &"it was not made in time".to_owned()));
    }
}
