//! Draws shapes and words on a page. All coordinates are pixels from the upper left corner.

use std::fmt::{Display, Write};

/// A point.
pub(super) type Point = (u32, u32);

/// A page that is drawn on.
#[derive(Default)]
pub(super) struct Paper {
    shapes: String,
}

impl Paper {
    /// Makes the document: everything drawn so far, on a page of this size, in this style.
    pub(super) fn document(&self, (width, height): Point, title: &str, style: &str) -> String {
        let title = escaped(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>{style}</style>\n{}</svg>\n",
            self.shapes
        )
    }

    /// Adds the drawing of another page on top of this one.
    pub(super) fn append(&mut self, other: &Self) {
        self.shapes.push_str(&other.shapes);
    }

    pub(super) fn rect(&mut self, class: &str, (x, y): Point, (width, height): Point, radius: u32) {
        self.draw(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{radius}\"/>"
        ));
    }

    pub(super) fn text(&mut self, class: &str, (x, y): Point, words: &str) {
        let words = escaped(words);
        self.draw(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{words}</text>"));
    }

    /// Writes words from bottom to top, centred at a point.
    pub(super) fn upright(&mut self, class: &str, (x, y): Point, words: &str) {
        let words = escaped(words);
        self.draw(format_args!(
            "<text class=\"{class}\" text-anchor=\"middle\" transform=\"translate({x} {y}) rotate(-90)\">{words}</text>"
        ));
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): Point, (x2, y2): Point) {
        self.draw(format_args!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>"));
    }

    /// Draws a curve that starts and ends horizontally.
    pub(super) fn curve(&mut self, class: &str, (x1, y1): Point, (x2, y2): Point) {
        let middle = x1.midpoint(x2);
        self.draw(format_args!(
            "<path class=\"{class}\" d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\"/>"
        ));
    }

    pub(super) fn dot(&mut self, class: &str, (x, y): Point, radius: u32) {
        self.draw(format_args!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>"));
    }

    /// Draws a cross where something does not get through.
    pub(super) fn cross(&mut self, (x, y): Point) {
        self.line("stop", (x - 5, y - 5), (x + 5, y + 5));
        self.line("stop", (x - 5, y + 5), (x + 5, y - 5));
    }

    fn draw(&mut self, shape: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.shapes, "{shape}");
    }
}

/// Escapes text for XML, and drops characters that XML does not allow.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text
        .chars()
        .filter(|character| !character.is_control() && !matches!(character, '\u{FFFE}' | '\u{FFFF}'))
    {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_become_shapes() {
        assert_eq!(escaped("a <b> & \u{0}c\u{FFFF}"), "a &lt;b&gt; &amp; c");
    }
}
