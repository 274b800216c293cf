//! Limits how many tables a walk may read: corrupt tables can name each other so often that a walk would not end.

/// How many more tables may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(u64);

/// The budget ran out: the listing is incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are more tables than are looked at")]
pub struct Spent;

impl Budget {
    /// Makes a budget of this many tables.
    pub const fn new(tables: u64) -> Self {
        Self(tables)
    }

    /// Moves up to `tables` of this budget into one for a single walk, so that others keep a share; the caller [gives
    /// back](Self::give_back) the walk's rest.
    pub const fn lend(&mut self, tables: u64) -> Self {
        let lent = if tables < self.0 { tables } else { self.0 };
        self.0 -= lent;
        Self(lent)
    }

    /// Takes back the rest of a walk's budget.
    pub const fn give_back(&mut self, rest: Self) {
        self.0 = self.0.saturating_add(rest.0);
    }

    /// Spends one table.
    pub(crate) fn take(&mut self) -> Result<(), Spent> {
        self.0 = self.0.checked_sub(1).ok_or(Spent)?;
        Ok(())
    }
}
