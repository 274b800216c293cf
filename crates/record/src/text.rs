//! Text that is cut at a limit, and also where memory runs out.

use alloc::string::String;
use core::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// Bytes after which text is cut.
const LIMIT: usize = 160;

/// A short text. A reader must escape it before printing: the bytes of a dump may hold terminal commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text(String);

impl Text {
    /// Formats `words` into at most 160 bytes; fewer if there is no memory.
    pub fn new(words: impl fmt::Display) -> Self {
        let mut text = Self(String::new());
        // An error means that the text was cut.
        let _ = write!(text, "{words}");
        text
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = LIMIT - self.0.len().min(LIMIT);
        let room = (0..=room.min(part.len())).rfind(|at| part.is_char_boundary(*at)).unwrap_or(0);
        self.0.try_reserve(room).map_err(|_| fmt::Error)?;
        #[cfg_attr(not(test), expect(clippy::disallowed_methods, reason = "memory is taken before"))]
        self.0.push_str(&part[..room]);
        if room < part.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| {
            if letter.is_control() { write!(f, "{}", letter.escape_default()) } else { f.write_char(letter) }
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn text_is_cut_between_characters() {
        let text = Text::new("é".repeat(LIMIT));
        assert_eq!(text.as_str(), "é".repeat(LIMIT / 2));
        let text = Text::new(format_args!("{}{}", "a".repeat(LIMIT - 1), "é"));
        assert_eq!(text.as_str(), "a".repeat(LIMIT - 1));
    }

    #[test]
    fn a_terminals_commands_are_printed_as_what_they_are() {
        assert_eq!(Text::new("\x1b[2J kernel's").to_string(), "\\u{1b}[2J kernel's");
    }
}
