//! A domain's twin: the same translations in tables of its own, for a device that shares its domain with others.
//!
//! What is mapped for a driver must be reached by the driver's device alone. Where the old kernel put several devices
//! into one domain (in pass-through all of them), the device that is attached therefore gets a twin. That is legal at
//! any moment for the reason that makes the swap legal: both translate alike.

use alloc::vec::Vec;

use machine::{ENTRIES, Frames};
use vtd::paging::Level;
use vtd::stage::Stage;

use crate::copies::Copies;
use crate::domain::Domain;
use crate::growth::push;

/// A domain that translates as `domain` does, under another id, in tables of its own; `None` if there are no frames or
/// no memory for it. Tables that were kept in place stay there.
pub(crate) fn twin(domain: &Domain, id: u16, frames: &mut impl Frames) -> Option<Domain> {
    let (space, kept) = (domain.space.twin().ok()?, domain.kept.twin().ok()?);
    let root = match domain.root {
        None => None,
        Some(root) => Some(copy_tables(domain.stage, root, domain.top, frames)?),
    };
    let Domain { stage, width, top, tables, leaves, fenced, outcome, .. } = *domain;
    Some(Domain {
        id,
        stage,
        width,
        top,
        root,
        space,
        kept,
        relinked: false,
        tables,
        leaves,
        fenced,
        outcome,
    })
}

fn copy_tables(stage: Stage, root: u64, top: Level, frames: &mut impl Frames) -> Option<u64> {
    let mut copier = Copier { stage, frames, copies: Copies::default(), made: Vec::new() };
    let copy = copier.copy(root, top);
    if copy.is_none() {
        let Copier { frames, made, .. } = copier;
        for frame in made {
            frames.release(frame);
        }
    }
    copy
}

/// Copies tables of our own, shared ones once.
struct Copier<'a, F> {
    stage: Stage,
    frames: &'a mut F,
    copies: Copies,
    made: Vec<u64>,
}

impl<F: Frames> Copier<'_, F> {
    fn copy(&mut self, table: u64, level: Level) -> Option<u64> {
        if let Some(copy) = self.copies.find(table, level) {
            return Some(copy);
        }
        let copy = self.allocate()?;
        for index in 0..ENTRIES {
            let entry = self.stage.entry(self.frames.load(table, index));
            let kept = match level.below() {
                Some(below) if entry.present() && !entry.is_leaf(level) && !entry.is_marked() => {
                    entry.with_table(self.copy(entry.table(), below)?)
                }
                _ => entry,
            };
            self.frames.table_mut(copy)[index] = kept.bits;
        }
        self.frames.publish(copy, 0..ENTRIES);
        self.copies.remember(table, level, copy);
        Some(copy)
    }

    /// A frame that is given back if the whole does not come about.
    fn allocate(&mut self) -> Option<u64> {
        let frame = self.frames.allocate()?;
        if push(&mut self.made, frame).is_err() {
            self.frames.release(frame);
            return None;
        }
        Some(frame)
    }
}
