//! The order in which the pages of a dump are written: the most telling first, for the dump may be cut short.

use alloc::vec::Vec;

use kdump::{Pages, WriteError};
use machine::{BlockDevice, OldMemory};
use vmcore::{Level, Selection, Vital};

use crate::{CHUNK, Source, zeros};

/// Tells by a page frame number whether a pass writes that page.
pub type Wanted<'w> = &'w mut dyn FnMut(u64) -> bool;

/// What is durable when a pass begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// What precedes the pages.
    Headers,
    /// The vital pages too, as far as the disk took them.
    VitalPages,
}

/// What levels leave out, from all kinds of pages to one kind only: each keeps a kind that tells less than those which the level
/// before keeps. The order is: what no level leaves out, user pages, private cache, cache; free pages tell least.
const TELLING: [u8; 4] = [30, 22, 18, 16];

/// A dump in which not all pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutShort {
    /// Why it ended.
    pub error: WriteError,
    /// The level of a smaller dump of which it has all pages, if there is one.
    pub reached: Option<Level>,
}

impl From<WriteError> for CutShort {
    fn from(error: WriteError) -> Self {
        Self { error, reached: None }
    }
}

/// Has all pages written: first the vital ones, then the others. If the vital ones are not known, all pages in ascending
/// order.
///
/// What precedes the pages is made durable first: a machine that is reset soon afterwards leaves at least its notes.
/// `write` writes, in one pass, the pages whose page frame numbers are wanted. The first error ends the dump.
pub fn in_passes<D: BlockDevice + ?Sized>(
    pages: &mut Pages<'_, D>,
    vital: Option<Vital<'_, impl OldMemory>>,
    mut write: impl FnMut(&mut Pages<'_, D>, Wanted<'_>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    write_vital(pages, vital, &mut |pages, wanted, _| write(pages, wanted))?;
    write(pages, &mut |_| true)
}

/// Does the same, but if there may be no room for all pages, those that a higher level keeps come before the others: the dump
/// is then what that level would have given, and some more.
///
/// For a dump that is sure to fit, and for one of level 31, there are no more passes than with [`in_passes`].
pub fn in_telling_order<D: BlockDevice + ?Sized>(
    pages: &mut Pages<'_, D>,
    source: &Source<'_, impl OldMemory>,
    mut write: impl FnMut(&mut Pages<'_, D>, Wanted<'_>, Durable) -> Result<(), WriteError>,
) -> Result<(), CutShort> {
    let durable = write_vital(pages, source.vital(), &mut write)?;
    let mut reached = None;
    let levels = if pages.are_sure_to_fit() { [None; TELLING.len()] } else { higher_levels(source.level) };
    for level in levels.into_iter().flatten() {
        // Without memory for a selection, the pages follow in ascending order.
        let Ok(mut kept) = Kept::new(source, level) else { break };
        let written = write(pages, &mut |pfn| kept.contains(pfn), durable).and_then(|()| pages.next_pass());
        written.map_err(|error| CutShort { error, reached })?;
        reached = Some(level);
    }
    write(pages, &mut |_| true, durable).map_err(|error| CutShort { error, reached })
}

/// Makes what precedes the pages durable, and has the vital pages written, if they are known. Returns what is durable then.
fn write_vital<D: BlockDevice + ?Sized>(
    pages: &mut Pages<'_, D>,
    vital: Option<Vital<'_, impl OldMemory>>,
    write: &mut impl FnMut(&mut Pages<'_, D>, Wanted<'_>, Durable) -> Result<(), WriteError>,
) -> Result<Durable, WriteError> {
    pages.save()?;
    let Some(mut vital) = vital else { return Ok(Durable::Headers) };
    write(pages, &mut |pfn| vital.contains(pfn), Durable::Headers)?;
    pages.next_pass()?;
    Ok(Durable::VitalPages)
}

/// The levels that leave out more than this one, from the highest on, each of which keeps more than the one before.
fn higher_levels(level: Level) -> [Option<Level>; TELLING.len()] {
    let mut last = None;
    TELLING.map(|number| {
        let higher = Level::new(number).map(|higher| higher | level);
        let higher = higher.filter(|higher| *higher != level && last != Some(*higher));
        last = higher.or(last);
        higher
    })
}

/// Tells which pages a level keeps; cheap for page frames that ascend.
struct Kept<'a, M> {
    selection: Selection<'a, M>,
    /// The first page frame that `bits` stands for, once there is one.
    first: Option<u64>,
    bits: Vec<u8>,
}

impl<'a, M: OldMemory> Kept<'a, M> {
    fn new(source: &'a Source<'_, M>, level: Level) -> Result<Self, WriteError> {
        let selection = Selection::new(source.memory, source.kernel, source.ram, level);
        let selection = selection.map_err(|_| WriteError::OutOfMemory)?;
        Ok(Self { selection, first: None, bits: zeros()? })
    }

    fn contains(&mut self, pfn: u64) -> bool {
        const FRAMES: u64 = CHUNK as u64 * 8;
        let (first, bit) = (pfn / FRAMES * FRAMES, (pfn % FRAMES) as usize);
        if self.first != Some(first) {
            self.selection.fill(first, &mut self.bits);
            self.first = Some(first);
        }
        self.bits.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn higher(level: u8) -> Vec<u8> {
        higher_levels(Level::new(level).unwrap()).into_iter().flatten().map(Level::number).collect()
    }

    #[test]
    fn each_level_keeps_one_kind_more_than_the_one_before() {
        assert_eq!(higher(0), [30, 22, 18, 16]);
        assert_eq!(higher(1), [31, 23, 19, 17]);
        assert_eq!(higher(17), [31, 23, 19]);
        assert_eq!(higher(8), [30, 26, 24]);
        assert_eq!(higher(3), [31, 23, 19]);
        assert!(higher(30).is_empty() && higher(31).is_empty());
    }
}
