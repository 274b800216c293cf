//! How far a dump is, how fast, and how long it still takes.

use core::fmt;
use core::time::Duration;

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Before that, a rate says little.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// How many pages are stored, of how many, in what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Pages stored.
    pub done: u64,
    /// Pages chosen.
    pub pages: u64,
    /// Time since the first of them.
    pub elapsed: Duration,
}

impl Progress {
    /// Memory that is stored in a second, in MiB; `None` where it is too soon to tell.
    pub fn rate(&self) -> Option<u64> {
        let bytes = u128::from(self.done) * u128::from(PAGE) * 1000;
        let rate = (bytes >> 20) / self.elapsed.as_millis().max(1);
        u64::try_from(rate).ok().filter(|_| self.elapsed >= LONG_ENOUGH)
    }

    /// The time that the other pages take, if they go as fast as those before; `None` where it is too soon to tell.
    pub fn left(&self) -> Option<Duration> {
        let pages = u128::from(self.pages.saturating_sub(self.done));
        let millis = self.elapsed.as_millis().checked_mul(pages)?.checked_div(u128::from(self.done))?;
        let left = Duration::from_millis(u64::try_from(millis).ok()?);
        (self.elapsed >= LONG_ENOUGH).then_some(left)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, pages, .. } = *self;
        let percent = u128::from(done) * 100 / u128::from(pages.max(1));
        write!(f, "{done} of {pages} pages, {percent} %")?;
        if let (Some(rate), Some(left)) = (self.rate(), self.left()) {
            write!(f, ", {rate} MiB/s, {} left", Left(left))?;
        }
        Ok(())
    }
}

/// A time, rounded up to what a person wants to know.
struct Left(Duration);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs().saturating_add(u64::from(self.0.subsec_nanos() > 0));
        match seconds {
            0..120 => write!(f, "{seconds} s"),
            120..7200 => write!(f, "{} min", seconds.div_ceil(60)),
            _ => write!(f, "{} h", seconds.div_ceil(3600)),
        }
    }
}
