//! Bars that show the progress of long work.

use std::cell::OnceCell;

use host::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, if that is a terminal.
pub(crate) struct Bar {
    /// What is shown, in indicatif's language.
    template: &'static str,
    bar: OnceCell<ProgressBar>,
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
        Self { template, bar: OnceCell::new() }
    }
}

impl Progress for Bar {
    fn begin(&self, steps: u64) {
        self.bar.get_or_init(|| {
            let bar = ProgressBar::new(steps);
            let style = ProgressStyle::with_template(self.template);
            style.map_or(bar.clone(), |style| bar.with_style(style))
        });
    }

    fn advance_to(&self, done: u64) {
        if let Some(bar) = self.bar.get() {
            bar.set_position(done);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
