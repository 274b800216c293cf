//! Reports the progress of long work.

/// Shows how far a function of this library is. `()` shows nothing.
pub trait Progress {
    /// Begins, with so many steps to do: bytes or pages, as the function says.
    fn begin(&self, steps: u64);

    /// So many steps are done.
    fn advance_to(&self, done: u64);

    /// Ends, whether all steps are done or something failed.
    fn end(&self);
}

impl Progress for () {
    fn begin(&self, _: u64) {}

    fn advance_to(&self, _: u64) {}

    fn end(&self) {}
}
