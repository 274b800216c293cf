//! Reads the text on pictures of the display: compares each cell with the letters of the font.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use screen::{CELL_HEIGHT, CELL_WIDTH, COLUMNS, ROWS, glyph};

/// A picture in the portable pixmap format, as QEMU saves it.
struct Picture {
    width: usize,
    height: usize,
    /// Three bytes each.
    pixels: Vec<u8>,
}

/// The text of Holdover's panel on a picture. What is no letter of the font is a `\u{fffd}`.
pub(crate) fn text(file: &Path) -> Result<Vec<String>> {
    let picture = fs::read(file).with_context(|| format!("no picture {}", file.display()))?;
    Picture::parse(&picture).with_context(|| format!("{} is no picture", file.display()))?.text()
}

impl Picture {
    /// Takes a pixmap apart: `P6`, width, height, the brightest value, and after one more space the pixels.
    fn parse(file: &[u8]) -> Option<Self> {
        let mut fields = file.splitn(4, u8::is_ascii_whitespace);
        let (kind, width, height) = (fields.next()?, number(fields.next()?)?, number(fields.next()?)?);
        let pixels = fields.next()?.strip_prefix(b"255\n")?;
        (kind == b"P6" && pixels.len() == width.checked_mul(height)?.checked_mul(3)?).then(|| Self {
            width,
            height,
            pixels: pixels.to_vec(),
        })
    }

    fn text(&self) -> Result<Vec<String>> {
        let (width, height) = (COLUMNS * CELL_WIDTH as usize, ROWS * CELL_HEIGHT as usize);
        ensure!(
            self.width >= width && self.height >= height,
            "the display has {} x {} pixels only",
            self.width,
            self.height
        );
        let row = |row: usize| (0..COLUMNS).map(move |column| self.letter(row, column));
        Ok((0..ROWS).map(|number| row(number).collect::<String>().trim_end().to_owned()).collect())
    }

    fn scale(&self) -> usize {
        screen::scale(self.width as u32, self.height as u32) as usize
    }

    /// The letter in a cell; each of the font's rows of pixels is there twice.
    fn letter(&self, row: usize, column: usize) -> char {
        let is_lit = |y: usize, x: usize| {
            let (y, x) = (
                (row * CELL_HEIGHT as usize + y) * self.scale(),
                (column * CELL_WIDTH as usize + x) * self.scale(),
            );
            self.pixels[(y * self.width + x) * 3..][..3].iter().any(|part| *part != 0)
        };
        let line = |y: usize| (0..8).filter(|x| is_lit(y, *x)).fold(0_u8, |line, x| line | 1 << x);
        let lines: [u8; CELL_HEIGHT as usize] = std::array::from_fn(line);
        let of = |letter: &u8| lines.chunks(2).zip(glyph(*letter)).all(|(twice, line)| twice == [line; 2]);
        (b' '..=b'~').find(of).map_or('\u{fffd}', char::from)
    }
}

fn number(text: &[u8]) -> Option<usize> {
    str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A black picture with one lit pixel.
    fn picture(width: usize, height: usize, lit: usize) -> Vec<u8> {
        let mut file = format!("P6\n{width} {height}\n255\n").into_bytes();
        let start = file.len();
        file.resize(start + width * height * 3, 0);
        file[start + lit * 3] = 7;
        file
    }

    #[test]
    fn what_is_no_letter_is_not_read_as_one() {
        let text = Picture::parse(&picture(640, 400, 0)).unwrap().text().unwrap();
        assert_eq!((text[0].as_str(), text[1].as_str()), ("\u{fffd}", ""));
        assert!(Picture::parse(&picture(640, 100, 0)).unwrap().text().is_err());
        assert!(Picture::parse(b"P6\n9 9\n255\nshort").is_none());
        assert!(Picture::parse(b"").is_none());
    }
}
