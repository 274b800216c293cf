//! How many tables a walk may look at: corrupt tables can name each other so often that it would not end.

/// What is left of the tables that may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(u64);

/// More tables than may be looked at: what was told is not all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are more tables than are looked at")]
pub struct Spent;

impl Budget {
    /// So many tables may be looked at.
    pub const fn new(tables: u64) -> Self {
        Self(tables)
    }

    /// Sets apart up to `tables` of it for one walk, so that others are not left without; the walk's rest is
    /// [given back](Self::give_back).
    pub const fn lend(&mut self, tables: u64) -> Self {
        let lent = if tables < self.0 { tables } else { self.0 };
        self.0 -= lent;
        Self(lent)
    }

    /// Takes back what a walk left over.
    pub const fn give_back(&mut self, rest: Self) {
        self.0 = self.0.saturating_add(rest.0);
    }

    /// Takes one table.
    pub(crate) fn take(&mut self) -> Result<(), Spent> {
        self.0 = self.0.checked_sub(1).ok_or(Spent)?;
        Ok(())
    }
}
