//! Questions to a person at a terminal, who may also say something else, or leave.

use std::io::{self, BufRead, Write};

/// Asks until the answer is yes or no. An empty line means yes; the end of the input, which nobody types by mistake, no.
pub(crate) fn is_answered_yes(
    question: &str,
    answers: &mut impl BufRead,
    to: &mut impl Write,
) -> io::Result<bool> {
    loop {
        write!(to, "{question} [Y/n] ")?;
        to.flush()?;
        let mut answer = Vec::new();
        if answers.read_until(b'\n', &mut answer)? == 0 {
            writeln!(to)?;
            return Ok(false);
        }
        match String::from_utf8_lossy(&answer).trim().to_ascii_lowercase().as_str() {
            "" | "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => writeln!(to, "Please answer yes or no.")?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer, and how often the question was asked.
    fn answered(typed: &[u8]) -> (bool, usize) {
        let mut shown = Vec::new();
        let is_yes = is_answered_yes("Go on?", &mut &*typed, &mut shown).unwrap();
        (is_yes, String::from_utf8(shown).unwrap().matches("Go on? [Y/n] ").count())
    }

    #[test]
    fn an_answer_is_yes_or_no() {
        for yes in ["\n", "y\n", "Yes\n", " yes \r\n", "y"] {
            assert_eq!(answered(yes.as_bytes()), (true, 1), "{yes:?}");
        }
        for no in ["n\n", "NO\n", ""] {
            assert_eq!(answered(no.as_bytes()), (false, 1), "{no:?}");
        }
    }

    #[test]
    fn any_other_answer_has_the_question_asked_again() {
        assert_eq!(answered(b"what?\nyess\ny\n"), (true, 3));
        assert_eq!(answered(b"\xff\xfe\nn\n"), (false, 2), "no text");
        assert_eq!(answered(b"nope\n"), (false, 2), "and then the end");
    }
}
