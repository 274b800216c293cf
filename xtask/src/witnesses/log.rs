//! The dead kernel's log, as `holdover collect --dmesg` gives it: against the console, and against what makedumpfile finds.

use std::fs;

use anyhow::Result;

use super::{Problem, Witness};
use crate::crashes::crash::{Evidence, PANIC};
use crate::guests::tool::Tool;
use crate::machines::console::Line;

/// Complains if the stored log is not the one that makedumpfile has read from the dump.
pub(super) fn compare_with_reader(evidence: &Evidence, tool: &Tool) -> Result<Option<String>> {
    let stored = tool.log(&evidence.files.disk())?;
    let read = fs::read_to_string(evidence.files.scratch("log"))?;
    let read = with_every_time(&read);
    let first = stored.lines().zip(read.lines()).find(|(stored, read)| stored != read);
    let lengths = [&stored, &read].map(|text| text.lines().count());
    Ok((stored != read)
        .then(|| format!("the stored log differs from makedumpfile's: {first:?}, {lengths:?} lines")))
}

/// The text that makedumpfile prints, as Linux's console has it: nobody is named who printed a line, and each line of a message has
/// the time, where makedumpfile has blanks.
fn with_every_time(read: &str) -> String {
    // The blanks of the lines that follow stand for the caller too.
    let (mut time, mut blanks) = (String::new(), String::new());
    let lines = read.lines().map(|with_caller| {
        let more = with_caller.strip_prefix(&blanks).filter(|_| !time.is_empty());
        if let Some(more) = more {
            return format!("{time}{more}\n");
        }
        let line = without_caller(with_caller);
        time = line.split_inclusive("] ").take(1).filter(|_| is_message(&line)).collect();
        blanks = " ".repeat(time.len() + with_caller.len() - line.len());
        line + "\n"
    });
    lines.collect()
}

/// A line without the thread or the processor that printed it, which newer makedumpfiles put behind the time: `[      T0] `.
fn without_caller(line: &str) -> String {
    let caller = |text: &str| {
        let id = text.trim_start().strip_prefix(['T', 'C']);
        id.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let parts = line.split_once("] [").and_then(|(time, rest)| Some((time, rest.split_once("] ")?)));
    match parts {
        Some((time, (text, message))) if is_message(&format!("{time}] ")) && caller(text) => {
            format!("{time}] {message}")
        }
        _ => line.to_owned(),
    }
}

/// Complains of each line of the dead kernel's console that the stored log lacks, and of a log without the panic.
pub(crate) fn compare_with_console(evidence: &Evidence, tool: &Tool) -> Result<Vec<Problem>> {
    let stored = tool.log(&evidence.files.disk())?;
    let missing = missing(&stored, &evidence.lines);
    let what = missing.into_iter().map(|line| format!("the stored log lacks `{line}`"));
    let empty = (!stored.contains(PANIC)).then(|| "the stored log does not tell of the panic".to_owned());
    Ok(what.chain(empty).map(|what| Problem { witness: Witness::Console, what }).collect())
}

/// The lines that the dead kernel printed and that do not stand in the log in the same order.
fn missing<'a>(log: &str, console: &'a [Line]) -> Vec<&'a str> {
    let mut log = log.lines();
    let printed = console.iter().take_while(|line| line.holdover().is_none());
    let printed = printed.map(|line| line.text.trim_end()).filter(|line| is_message(line));
    let mut rest = log.clone();
    printed
        .filter(|line| {
            let found = rest.any(|stored| stored.trim_end() == *line);
            if found {
                log = rest.clone();
            } else {
                rest = log.clone();
            }
            !found
        })
        .collect()
}

/// Whether a line of the console is a message of the kernel: `[    1.234567] text`.
fn is_message(line: &str) -> bool {
    let stamp =
        line.strip_prefix('[').and_then(|line| line.split_once("] ")).map(|(stamp, _)| stamp.trim_start());
    stamp.is_some_and(|stamp| {
        stamp.contains('.') && stamp.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_printed_a_line_is_left_out_and_brackets_of_the_message_are_not() {
        assert_eq!(without_caller("[    0.000000] [      T0] one"), "[    0.000000] one");
        for line in ["[    0.000000] [Firmware Bug]: [T0] one", "[    0.000000] one [T0] two", ""] {
            assert_eq!(without_caller(line), line);
        }
    }

    #[test]
    fn each_line_of_a_message_has_its_time() {
        let read = "[    0.000000] calibrating\n               probably late\n[    0.100000]  indented\n";
        let wanted = "[    0.000000] calibrating\n[    0.000000] probably late\n[    0.100000]  indented\n";
        assert_eq!(with_every_time(read), wanted);
        let read = "[    0.000000] [      T0] calibrating\n                          probably late\n\
                    [    0.100000] [      T0]  indented\n";
        assert_eq!(with_every_time(read), wanted);
    }

    #[test]
    fn a_message_of_the_console_must_stand_in_the_log_in_its_order() {
        let log = "[    0.000000] one\n[    0.000000] debug\n[    1.000000] two\n";
        let console = |texts: &[&str]| Line::a_second_apart(texts);
        assert!(missing(log, &console(&["BIOS", "[    0.000000] one", "[    1.000000] two"])).is_empty());
        assert_eq!(
            missing(log, &console(&["[    1.000000] two", "[    0.000000] one"])),
            ["[    0.000000] one"]
        );
        assert_eq!(
            missing(log, &console(&["[    9.000000] nine", "[    1.000000] two"])),
            ["[    9.000000] nine"]
        );
        assert!(missing(log, &console(&["holdover: [0.1] x", "[    9.000000] nine"])).is_empty());
    }
}
