//! A file that is an area, or was one, as itself: what it says, and how it says no more.

use machine::{BlockDevice, BlockError};
use uuid::Uuid;

use super::label::ExtentLabel;
use super::list::{blocks_before, list_in_file};
use crate::BLOCK;
use crate::area::OpenError;

/// What a file says of itself that is an area, or was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstExtent {
    /// The area.
    pub uuid: Uuid,
    /// Where on its disk the file's first extent was when the area was made. Whether it is there the labels on the disk tell.
    pub disk: u64,
}

impl FirstExtent {
    /// Reads the label of the first extent at byte `offset` of a file; `None` if there is none.
    pub fn read(file: &mut dyn BlockDevice, offset: u64) -> Result<Option<Self>, BlockError> {
        let label = ExtentLabel::read(file, offset)?.ok().filter(|label| label.index == 0);
        Ok(label.map(|label| Self { uuid: label.uuid, disk: label.extent.disk }))
    }
}

/// Erases the labels and the list of a file that is an area, through the file: `offset` is where the area begins in it. From then on
/// nobody takes the file's blocks for an area, wherever they are and whoever gets them.
///
/// The first label goes first: whoever looks for the area looks there, and finds none without it. What the list does not tell, because it
/// is damaged, stays.
pub fn erase_file(file: &mut dyn BlockDevice, offset: u64) -> Result<(), OpenError> {
    let first = ExtentLabel::read(file, offset)?.map_err(OpenError::Label)?;
    let extents = list_in_file(file, offset, &first);
    let mut erase = |offset| file.write(offset, &[0; BLOCK as usize]);
    erase(offset)?;
    let erased = extents.and_then(|extents| {
        // Behind the list is the area's own label.
        (1..=blocks_before(0, extents.len())).try_for_each(|block| erase(offset + block * BLOCK))?;
        Ok(extents.iter().skip(1).try_for_each(|extent| erase(extent.file))?)
    });
    file.flush()?;
    erased
}
