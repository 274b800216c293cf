//! The counts of a takeover and a dump.

use core::fmt;

use crate::decimal;

/// Declares [`Summary`]. The name of each count is both its field and its key on the console.
macro_rules! summary {
    ($($(#[$description:meta])* $key:ident,)*) => {
        /// The counts, written `summary key=count …`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Summary {
            $($(#[$description])* pub $key: u64,)*
        }

        impl Summary {
            /// Each count with its key, in the order in which they are written.
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($key), self.$key),)*].into_iter()
            }

            /// Reads the counts; `None` unless each has its key, in the order in which they are written.
            pub fn parse(text: &str) -> Option<Self> {
                let mut words = text.split_ascii_whitespace();
                let is_summary = words.next() == Some(WORD);
                let mut count = |wanted| {
                    let (key, count) = words.next()?.split_once('=')?;
                    decimal(count).filter(|_| key == wanted)
                };
                let summary = Self { $($key: count(stringify!($key))?,)* };
                (is_summary && words.next().is_none()).then_some(summary)
            }
        }
    };
}

summary! {
    /// Context entries that were accepted, of all units.
    contexts_accepted,
    /// Tables that were duplicated, of all units.
    tables_duplicated,
    /// Leaf entries of these tables.
    leaf_mappings,
    /// Domain-ids that are in use.
    domains_reserved,
    /// Hazards, listed or not, of all units.
    hazards,
    /// Pages that are in the dump.
    pages_kept,
    /// How many of these are full of zeros.
    pages_zero,
    /// How many of these could not be read.
    pages_missing,
    /// Pages that are kept because nothing is known of them.
    pages_unknown,
    /// Milliseconds for which the processor did nothing but wait for the disk.
    disk_wait_ms,
    /// Frames that tables took.
    frames_used,
    /// Pings of watchdogs.
    watchdog_pings,
    /// Non-maskable interrupts.
    nmis,
    /// Machine checks after which the dump went on.
    machine_checks,
}

/// The first word of the line.
const WORD: &str = "summary";

impl Summary {
    /// The count with this key.
    pub fn count(&self, key: &str) -> Option<u64> {
        self.counts().find_map(|(known, count)| (known == key).then_some(count))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WORD)?;
        self.counts().try_for_each(|(key, count)| write!(f, " {key}={count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_found_by_its_key() {
        let summary = Summary { hazards: 2, nmis: 1, ..Summary::default() };
        assert_eq!(
            (summary.count("hazards"), summary.count("nmis"), summary.count("other")),
            (Some(2), Some(1), None)
        );
    }

    /// ARCHITECTURE.md lists the keys.
    #[test]
    fn the_summary_has_its_documented_form() {
        let summary =
            Summary { contexts_accepted: 9, tables_duplicated: 50, frames_used: 7, ..Summary::default() };
        let expected = "summary contexts_accepted=9 tables_duplicated=50 leaf_mappings=0 domains_reserved=0 hazards=0 \
             pages_kept=0 pages_zero=0 pages_missing=0 pages_unknown=0 disk_wait_ms=0 frames_used=7 watchdog_pings=0 \
             nmis=0 machine_checks=0";
        assert_eq!(summary.to_string(), expected);
        assert_eq!(Summary::parse(expected), Some(summary));
    }

    #[test]
    fn a_summary_that_lacks_a_count_is_none() {
        let whole = Summary::default().to_string();
        assert!(Summary::parse(&whole).is_some());
        for torn in [
            whole.trim_end_matches(" machine_checks=0"),
            &whole.replace("hazards=0", "hazards=+1"),
            &format!("{whole} more=1"),
        ] {
            assert_eq!(Summary::parse(torn), None, "{torn}");
        }
    }
}
