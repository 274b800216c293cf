//! Bars that show the progress of long work.

use std::cell::RefCell;

use host::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, if that is a terminal.
pub(crate) struct Bar {
    /// What is shown, in indicatif's language.
    template: &'static str,
    bar: RefCell<Option<ProgressBar>>,
}

impl Bar {
    /// A bar for steps that are bytes.
    pub(crate) fn of_bytes() -> Self {
        Self::new("{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}")
    }

    /// A bar for steps that are pages.
    pub(crate) fn of_pages() -> Self {
        Self::new("{bar:40} {pos}/{len} pages  {per_sec}  {eta} left")
    }

    fn new(template: &'static str) -> Self {
        Self { template, bar: RefCell::new(None) }
    }
}

impl Progress for Bar {
    fn begin(&self, steps: u64) {
        let bar = ProgressBar::new(steps);
        let style = ProgressStyle::with_template(self.template);
        self.bar.replace(Some(style.map_or(bar.clone(), |style| bar.with_style(style))));
    }

    fn advance_to(&self, done: u64) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.set_position(done);
        }
    }

    fn end(&self) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.finish_and_clear();
        }
    }
}
