//! The text in the upper part of the display.

use core::fmt::{self, Write};

use font8x8::legacy::BASIC_LEGACY;

use crate::{Mode, Progress};

/// Columns of text at most.
pub const COLUMNS: usize = 80;
/// Rows of text. Below them the dead kernel's last lines stay.
pub const ROWS: usize = 16;
/// Pixels of a letter's cell from left to right, before they are enlarged.
pub const CELL_WIDTH: u32 = 8;
/// Pixels of a letter's cell from top to bottom, before they are enlarged: the font's, each twice.
pub const CELL_HEIGHT: u32 = 16;
/// Rows for the verdict.
const VERDICT: core::ops::Range<usize> = 9..14;
/// Letters of a verdict at most.
const VERDICT_LEN: usize = COLUMNS * 5;

const TITLE: usize = 0;
const FIRST_STAGE: usize = 2;
const LAST_LINE: usize = ROWS - 1;
/// Bytes of a row of pixels of the largest cell.
const MOST_CELL_BYTES: usize = CELL_WIDTH as usize * 4 * 4;

/// A framebuffer.
pub trait Pixels {
    /// Writes pixels, `offset` bytes after the first one. It is within [`Mode::panel_len`].
    fn write(&mut self, offset: usize, bytes: &[u8]);
}

/// The colour of a row's letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// White.
    Plain,
    /// Grey.
    Faint,
    /// Green.
    Good,
    /// Yellow.
    Bad,
}

impl Ink {
    const fn colour(self) -> [u8; 3] {
        match self {
            Self::Plain => [0xFF, 0xFF, 0xFF],
            Self::Faint => [0x90, 0x90, 0x90],
            Self::Good => [0x60, 0xF0, 0x60],
            Self::Bad => [0xFF, 0xE0, 0x40],
        }
    }
}

/// A part of the work, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The machine and what its kernel left.
    Discover,
    /// The IOMMU.
    TakeOver,
    /// The disk with the area.
    Disk,
    /// The dead kernel's log.
    Log,
    /// The dead kernel's memory.
    Pages,
    /// The seal.
    Seal,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Discover, Self::TakeOver, Self::Disk, Self::Log, Self::Pages, Self::Seal];

    const fn title(self) -> &'static str {
        match self {
            Self::Discover => "Look at the machine",
            Self::TakeOver => "Take over the IOMMU",
            Self::Disk => "Find the disk for the dump",
            Self::Log => "Save the kernel's log",
            Self::Pages => "Save the memory",
            Self::Seal => "Seal the dump",
        }
    }

    const fn row(self) -> usize {
        FIRST_STAGE + self as usize
    }
}

/// What is known of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not its turn yet.
    Waiting,
    /// It is being done.
    Doing,
    /// It is over.
    Done,
    /// It failed, or is not whole.
    Failed,
}

impl Standing {
    const fn mark(self) -> (&'static str, Ink) {
        match self {
            Self::Waiting => ("      ", Ink::Faint),
            Self::Doing => (" ...  ", Ink::Plain),
            Self::Done => (" done ", Ink::Good),
            Self::Failed => ("FAILED", Ink::Bad),
        }
    }
}

/// A letter on the display.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cell {
    letter: u8,
    ink: Ink,
}

const EMPTY: Cell = Cell { letter: b' ', ink: Ink::Plain };

/// Text on a display: [`ROWS`] rows at its top.
pub struct Panel<P> {
    mode: Mode,
    pixels: P,
    shown: [[Cell; COLUMNS]; ROWS],
}

impl<P: Pixels> Panel<P> {
    /// Clears the upper part of the display, in its whole width.
    pub fn new(mode: Mode, pixels: P) -> Self {
        let mut panel = Self { mode, pixels, shown: [[EMPTY; COLUMNS]; ROWS] };
        panel.clear();
        panel
    }

    fn clear(&mut self) {
        const BLACK: [u8; 256] = [0; 256];
        for row in (0..self.mode.panel_len()).step_by(self.mode.pitch()) {
            for offset in (0..self.mode.visible()).step_by(BLACK.len()) {
                let len = BLACK.len().min(self.mode.visible() - offset);
                self.pixels.write(row + offset, &BLACK[..len]);
            }
        }
    }

    /// Shows the heading.
    pub fn title(&mut self, text: fmt::Arguments<'_>) {
        self.set(TITLE, Ink::Plain, text);
    }

    /// Shows what is known of a stage.
    pub fn stage(&mut self, stage: Stage, standing: Standing) {
        let (mark, ink) = standing.mark();
        self.set(stage.row(), ink, format_args!("[{mark}] {}", stage.title()));
    }

    /// Shows how far the pages are.
    pub fn progress(&mut self, progress: Progress) {
        let (mark, ink) = Standing::Doing.mark();
        self.set(Stage::Pages.row(), ink, format_args!("[{mark}] {}: {progress}", Stage::Pages.title()));
    }

    /// Shows the last line of the console.
    pub fn last_line(&mut self, text: fmt::Arguments<'_>) {
        self.set(LAST_LINE, Ink::Faint, text);
    }

    /// Shows how it ended: sentences on lines of their own, which are broken between words.
    pub fn verdict(&mut self, ink: Ink, text: fmt::Arguments<'_>) {
        let mut verdict = Letters { bytes: [0; VERDICT_LEN], len: 0 };
        // It takes any text.
        let _ = verdict.write_fmt(text);
        let mut rest = &verdict.bytes[..verdict.len];
        for row in VERDICT {
            let (line, after) = split_line(rest, self.mode.columns().min(COLUMNS));
            self.set(row, ink, format_args!("{}", core::str::from_utf8(line).unwrap_or_default()));
            rest = after;
        }
    }

    /// Shows a row of text. What does not fit is cut off, and what is not ASCII is shown as `?`; a row that does not exist is not
    /// shown.
    pub fn set(&mut self, row: usize, ink: Ink, text: fmt::Arguments<'_>) {
        let mut line = Line { cells: [EMPTY; COLUMNS], len: 0, ink };
        // It takes any text.
        let _ = line.write_fmt(text);
        for (column, cell) in line.cells.into_iter().enumerate().take(self.mode.columns()) {
            let Some(shown) = self.shown.get_mut(row).map(|row| &mut row[column]) else { return };
            if *shown != cell {
                *shown = cell;
                self.draw(row, column, cell);
            }
        }
    }

    fn draw(&mut self, row: usize, column: usize, cell: Cell) {
        let (scale, pixel_len) = (self.mode.scale(), self.mode.pixel_len());
        let (on, off) = (self.mode.pixel(cell.ink.colour()), self.mode.pixel([0; 3]));
        let mut offset = self.mode.cell(row, column);
        let mut bytes = [0; MOST_CELL_BYTES];
        let len = CELL_WIDTH as usize * scale * pixel_len;
        for bits in glyph(cell.letter) {
            for (index, pixel) in bytes[..len].chunks_exact_mut(pixel_len).enumerate() {
                let colour = if bits >> (index / scale) & 1 != 0 { on } else { off };
                pixel.copy_from_slice(&colour[..pixel_len]);
            }
            for _ in 0..2 * scale {
                self.pixels.write(offset, &bytes[..len]);
                offset += self.mode.pitch();
            }
        }
    }
}

/// The font's pixels of a letter: eight rows, the leftmost pixel in bit 0.
pub fn glyph(letter: u8) -> [u8; 8] {
    BASIC_LEGACY.get(usize::from(letter)).copied().unwrap_or_default()
}

/// Splits off what fits into a line, up to the end of a sentence's line or else of a word.
fn split_line(text: &[u8], columns: usize) -> (&[u8], &[u8]) {
    if let Some(end) = text.iter().take(columns + 1).position(|letter| *letter == b'\n') {
        return (&text[..end], &text[end + 1..]);
    }
    if text.len() <= columns {
        return (text, &[]);
    }
    match text[..=columns].iter().rposition(|letter| *letter == b' ') {
        Some(space) => (&text[..space], &text[space + 1..]),
        None => text.split_at(columns),
    }
}

/// The letters of a verdict; what is not ASCII is a `?`.
struct Letters {
    bytes: [u8; VERDICT_LEN],
    len: usize,
}

impl Write for Letters {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (byte, letter) in self.bytes.iter_mut().skip(self.len).zip(text.chars()) {
            *byte = if letter.is_ascii() { letter as u8 } else { b'?' };
            self.len += 1;
        }
        Ok(())
    }
}

/// A row's text.
struct Line {
    cells: [Cell; COLUMNS],
    len: usize,
    ink: Ink,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (cell, letter) in self.cells.iter_mut().skip(self.len).zip(text.chars()) {
            let is_shown = letter.is_ascii_graphic() || letter == ' ';
            let letter = if is_shown { letter as u8 } else { b'?' };
            *cell = if letter == b' ' { EMPTY } else { Cell { letter, ink: self.ink } };
            self.len += 1;
        }
        Ok(())
    }
}
