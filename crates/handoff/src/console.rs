//! The lines of the capture kernel's console, and what some of them tell programs.

use core::fmt;
use core::time::Duration;

use area::Completeness;

use crate::{Summary, decimal};

/// A line of the console, written `holdover: [seconds.microseconds] text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleLine<T> {
    /// The time since the capture kernel started, in whole microseconds.
    pub time: Duration,
    /// The text of the line.
    pub text: T,
}

/// The start of each line.
const START: &str = "holdover: [";

impl<'a> ConsoleLine<&'a str> {
    /// Reads a line without its line end; `None` if somebody else wrote it.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (time, text) = line.strip_prefix(START)?.split_once("] ")?;
        Some(Self { time: parse_time(time)?, text })
    }
}

/// Reads seconds with up to six decimal places.
fn parse_time(text: &str) -> Option<Duration> {
    let (seconds, fraction) = text.split_once('.')?;
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| (1..=6).contains(digits))?;
    let micros = decimal(fraction)? * 10u64.pow(6 - digits);
    Duration::from_secs(decimal(seconds)?).checked_add(Duration::from_micros(micros))
}

impl<T: fmt::Display> fmt::Display for ConsoleLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, text } = self;
        write!(f, "{START}{}.{:06}] {text}", time.as_secs(), time.subsec_micros())
    }
}

/// A line that programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every remapping unit that translates is taken over or given up.
    TakeoverDone,
    /// The dead kernel's log is safe on the disk.
    LogSafe {
        /// The length of its text.
        bytes: u64,
    },
    /// The pages without which no reader opens the dump are safe on the disk: `done` of the dump's `pages`.
    VitalSafe {
        /// Pages that are on the disk.
        done: u64,
        /// Pages that will be.
        pages: u64,
    },
    /// The counts of the takeover and the dump.
    Summary(Summary),
    /// The dump is finished.
    Sealed {
        /// Whether it lacks anything.
        completeness: Completeness,
        /// Its length.
        bytes: u64,
    },
}

impl Event {
    /// The text of [`VitalSafe`](Self::VitalSafe), up to its numbers.
    pub const VITAL_SAFE: &str = "vital pages are safe";
    /// The text of [`LogSafe`](Self::LogSafe), up to its number.
    pub const LOG_SAFE: &str = "the log is safe";
    const TAKEOVER_DONE: &str = "takeover done";
    const SEALED: &str = "sealed ";

    /// Parses the text of a line; `None` if the line is for people only.
    pub fn parse(text: &str) -> Option<Self> {
        if text == Self::TAKEOVER_DONE {
            return Some(Self::TakeoverDone);
        }
        Self::parse_vital(text)
            .or_else(|| Self::parse_log(text))
            .or_else(|| Self::parse_sealed(text))
            .or_else(|| Summary::parse(text).map(Self::Summary))
    }

    fn parse_vital(text: &str) -> Option<Self> {
        let (done, pages) = text.strip_prefix(Self::VITAL_SAFE)?.strip_prefix(": ")?.split_once(" of ")?;
        Some(Self::VitalSafe { done: decimal(done)?, pages: decimal(pages)? })
    }

    fn parse_log(text: &str) -> Option<Self> {
        let bytes = text.strip_prefix(Self::LOG_SAFE)?.strip_prefix(": ")?.strip_suffix(" bytes")?;
        Some(Self::LogSafe { bytes: decimal(bytes)? })
    }

    fn parse_sealed(text: &str) -> Option<Self> {
        let (said, bytes) = text.strip_prefix(Self::SEALED)?.split_once(" bytes=")?;
        let completeness =
            [Completeness::Complete, Completeness::Partial].into_iter().find(|known| word(*known) == said)?;
        Some(Self::Sealed { completeness, bytes: decimal(bytes)? })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeoverDone => f.write_str(Self::TAKEOVER_DONE),
            Self::LogSafe { bytes } => write!(f, "{}: {bytes} bytes", Self::LOG_SAFE),
            Self::VitalSafe { done, pages } => write!(f, "{}: {done} of {pages}", Self::VITAL_SAFE),
            Self::Summary(summary) => summary.fmt(f),
            Self::Sealed { completeness, bytes } => {
                write!(f, "{}{} bytes={bytes}", Self::SEALED, word(*completeness))
            }
        }
    }
}

fn word(completeness: Completeness) -> &'static str {
    match completeness {
        Completeness::Complete => "complete",
        Completeness::Partial => "partial",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_whole_prefixes_make_a_line_of_ours() {
        let time = Duration::from_millis(123);
        assert_eq!(
            ConsoleLine::parse("holdover: [0.123] takeover done"),
            Some(ConsoleLine { time, text: "takeover done" })
        );
        for other in
            ["[   12.0] holdover: takeover done", "holdover: [soon] takeover done", "holdover: [1.2345678] x"]
        {
            assert_eq!(ConsoleLine::parse(other), None, "{other}");
        }
    }

    /// A change to one of these lines changes an interface for programs outside of this repository.
    #[test]
    fn events_have_their_documented_form() {
        let sealed = |completeness| Event::Sealed { completeness, bytes: 4096 };
        let documented = [
            (Event::TakeoverDone, "takeover done"),
            (Event::LogSafe { bytes: 77 }, "the log is safe: 77 bytes"),
            (Event::VitalSafe { done: 1, pages: 20 }, "vital pages are safe: 1 of 20"),
            (sealed(Completeness::Complete), "sealed complete bytes=4096"),
            (sealed(Completeness::Partial), "sealed partial bytes=4096"),
        ];
        for (event, text) in documented {
            assert_eq!((event.to_string().as_str(), Event::parse(text)), (text, Some(event)));
        }
    }

    #[test]
    fn what_is_nearly_an_event_is_none() {
        for text in [
            "takeover done.",
            "sealed complete",
            "sealed well bytes=1",
            "sealed partial bytes=-1",
            "vital pages are safe: 1",
            "the log is safe: 1",
            "the log is safe: -1 bytes",
            "",
        ] {
            assert_eq!(Event::parse(text), None, "{text}");
        }
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let sealed = |completeness| move |bytes| Event::Sealed { completeness, bytes };
        prop_oneof![
            Just(Event::TakeoverDone),
            any::<u64>().prop_map(|bytes| Event::LogSafe { bytes }),
            any::<(u64, u64)>().prop_map(|(done, pages)| Event::VitalSafe { done, pages }),
            any::<u64>().prop_map(sealed(Completeness::Complete)),
            any::<u64>().prop_map(sealed(Completeness::Partial)),
            any::<(u64, u64, u64)>().prop_map(|(hazards, pages_kept, nmis)| {
                Event::Summary(Summary { hazards, pages_kept, nmis, ..Summary::default() })
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_the_capture_kernel_says_programs_read(event in any_event(), micros: u64) {
            let time = Duration::from_micros(micros);
            let line = ConsoleLine { time, text: event }.to_string();
            let read = ConsoleLine::parse(&line).map(|line| (line.time, Event::parse(line.text)));
            prop_assert_eq!(read, Some((time, Some(event))));
        }

        #[test]
        fn any_text_is_harmless(
            line in "(holdover: \\[[0-9.]{0,24}\\] )?(takeover|sealed|summary|vital pages are safe:|the log is safe:)? ?.{0,40}",
        ) {
            let text = ConsoleLine::parse(&line).map_or(line.as_str(), |line| line.text);
            if let Some(event) = Event::parse(text) {
                prop_assert_eq!(Event::parse(&event.to_string()), Some(event));
            }
        }
    }
}
