//! Summarizes many runs in a few numbers.

use serde::Serialize;

use super::contender::Contender;
use super::round::Measurement;
use crate::tasks::spread::{Spread, float};

/// How one contender did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Standing {
    pub(crate) contender: Contender,
    pub(crate) reserved_mib: u64,
    pub(crate) loaded_bytes: u64,
    pub(crate) panic_to_started_s: Spread,
    pub(crate) panic_to_ready_s: Spread,
    pub(crate) panic_to_complete_s: Spread,
    pub(crate) seconds_per_10000_pages: Spread,
    pub(crate) pages_in_dump: Spread,
    pub(crate) dump_bytes: Spread,
    /// Holdover's time from panic to complete with the same codec, divided by this one's of the same run.
    pub(crate) holdover_takes: Spread,
    /// The same of the seconds per 10,000 pages.
    pub(crate) holdover_takes_per_page: Spread,
}

/// The standing of every contender that was measured.
pub(crate) fn standings(measurements: &[Measurement]) -> Vec<Standing> {
    Contender::ALL.into_iter().filter_map(|contender| standing(contender, measurements)).collect()
}

fn standing(contender: Contender, measurements: &[Measurement]) -> Option<Standing> {
    let of = |contender| measurements.iter().filter(move |measured| measured.contender == contender);
    let over = |value: fn(&Measurement) -> f64| Spread::of(of(contender).map(value));
    let ratio = |value: fn(&Measurement) -> f64| {
        let pairs = of(contender).filter_map(|theirs| {
            let ours = of(contender.opponent()).find(|ours| ours.run == theirs.run)?;
            Some((ours, theirs))
        });
        Spread::of(pairs.map(|(ours, theirs)| value(ours) / value(theirs)))
    };
    let first = of(contender).next()?;
    Some(Standing {
        contender,
        reserved_mib: first.reserved_mib,
        loaded_bytes: first.loaded_bytes,
        panic_to_started_s: over(|measured| measured.times.started)?,
        panic_to_ready_s: over(|measured| measured.times.ready)?,
        panic_to_complete_s: over(|measured| measured.times.complete)?,
        seconds_per_10000_pages: over(Measurement::seconds_per_10_000_pages)?,
        pages_in_dump: over(|measured| float(measured.dump.pages))?,
        dump_bytes: over(|measured| float(measured.dump.bytes))?,
        holdover_takes: ratio(|measured| measured.times.complete)?,
        holdover_takes_per_page: ratio(Measurement::seconds_per_10_000_pages)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::dump::Dump;
    use super::super::round::Times;
    use super::*;
    use crate::machines::scenario::Codec;

    fn measured(contender: Contender, run: u32, seconds: f64, pages: u64) -> Measurement {
        let times = Times { started: 0.1, ready: 0.2, complete: seconds };
        let dump = Dump { pages, bytes: pages * 1000 };
        Measurement { contender, run, reserved_mib: 16, loaded_bytes: 1, times, dump }
    }

    #[test]
    fn ratios_are_those_of_runs_that_followed_each_other() {
        let measurements = [
            measured(Contender::Holdover(Codec::Zlib), 1, 1.0, 10_000),
            measured(Contender::Makedumpfile(Codec::Zlib), 1, 4.0, 20_000),
            // Another run of stock kdump came to no dump.
            measured(Contender::Holdover(Codec::Zlib), 2, 9.0, 10_000),
            measured(Contender::Holdover(Codec::Zlib), 3, 3.0, 10_000),
            measured(Contender::Makedumpfile(Codec::Zlib), 3, 4.0, 20_000),
        ];
        let standings = standings(&measurements);
        assert_eq!(standings.len(), 2, "nobody measured LZO");
        assert_eq!(standings[1].holdover_takes, Spread { median: 0.5, min: 0.25, max: 0.75 });
        assert_eq!(standings[1].holdover_takes_per_page, Spread { median: 1.0, min: 0.5, max: 1.5 });
    }
}
