//! The gain for users: how many times faster than makedumpfile dumps are made, and how many times faster with two
//! threads than with one.

use std::fmt;

use serde::Serialize;

use super::{Contender, Crew, Run};
use crate::tasks::spread::Spread;

/// The ratios with one codec, round by round; `None` where nobody is there to compare with.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Gain {
    codec: &'static str,
    /// One thread's speed, with makedumpfile's as one: with one thread or with two, which of them was faster.
    one_thread: Option<Spread>,
    /// The same of choosing pages.
    choosing: Option<Spread>,
    /// Two threads' speed, with one thread's as one.
    two_threads: Option<Spread>,
    /// The same, if processors worked as long for two as for one: what else they do is all that counts.
    at_one_speed: Option<Spread>,
    /// The same of two programs: what the machine allows.
    two_programs: Option<Spread>,
}

impl Gain {
    /// The gain with each codec, in the order in which they were measured.
    pub(super) fn all(runs: &[(Contender, Vec<Run>)]) -> Vec<Self> {
        let mut codecs: Vec<_> = runs.iter().map(|(contender, _)| contender.codec).collect();
        codecs.dedup();
        codecs.into_iter().map(|codec| Self::of(&OneCodec { codec, runs })).collect()
    }

    fn of(runs: &OneCodec) -> Self {
        let whole = |run: &Run| run.seconds;
        let choosing = |run: &Run| run.choosing;
        let ours = |crew| runs.times(Contender::is_ours, crew, whole);
        let one_thread = ours(Crew::OneThread);
        Self {
            codec: runs.codec,
            one_thread: ratios(&runs.best_reference(whole), &one_thread),
            choosing: ratios(
                &runs.best_reference(choosing),
                &runs.times(Contender::is_ours, Crew::OneThread, choosing),
            ),
            two_threads: ratios(&one_thread, &ours(Crew::TwoThreads)),
            at_one_speed: runs.at_one_speed(),
            two_programs: ratios(&one_thread, &ours(Crew::TwoPrograms)),
        }
    }
}

/// What was measured with one codec.
struct OneCodec<'a> {
    codec: &'static str,
    runs: &'a [(Contender, Vec<Run>)],
}

impl OneCodec<'_> {
    /// A time of each round of some contender.
    fn times(&self, who: fn(&Contender) -> bool, crew: Crew, time: fn(&Run) -> f64) -> Vec<f64> {
        let mut with_codec = self.runs.iter().filter(|(contender, _)| contender.codec == self.codec);
        let found = with_codec.find(|(contender, _)| who(contender) && contender.crew == crew);
        found.map(|(_, runs)| runs.iter().map(time).collect()).unwrap_or_default()
    }

    fn at_one_speed(&self) -> Option<Spread> {
        let ours = |crew, time| self.times(Contender::is_ours, crew, time);
        let [one, two] = [Crew::OneThread, Crew::TwoThreads].map(|crew| ours(crew, |run| run.idle));
        let work = ours(Crew::OneThread, |run| run.processor);
        let ratios = work.iter().zip(one.iter().zip(&two));
        Spread::of(ratios.map(|(work, (one, two))| (work + one) / (work / 2.0 + two)))
    }

    fn best_reference(&self, time: fn(&Run) -> f64) -> Vec<f64> {
        let [one, two] =
            [Crew::OneThread, Crew::TwoThreads].map(|crew| self.times(Contender::is_reference, crew, time));
        one.into_iter().zip(two).map(|(one, two)| one.min(two)).collect()
    }
}

fn ratios(slow: &[f64], fast: &[f64]) -> Option<Spread> {
    Spread::of(slow.iter().zip(fast).map(|(slow, fast)| slow / fast))
}

/// The gains as a person wants to see them.
pub(super) struct Table<'a>(pub(super) &'a [Gain]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nHow many times as fast, median (least – most):\n")?;
        writeln!(
            f,
            "| | as makedumpfile | choosing pages | two threads as one | at one speed | two programs as one |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|")?;
        for Gain { codec, one_thread, choosing, two_threads, at_one_speed, two_programs } in self.0 {
            let cells = [one_thread, choosing, two_threads, at_one_speed, two_programs]
                .map(|spread| cell(spread.as_ref()));
            writeln!(f, "| {codec} | {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}

fn cell(spread: Option<&Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::super::contender::{Maker, Reference};
    use super::*;

    fn measured(maker: Maker, codec: &'static str, crew: Crew, seconds: [f64; 2]) -> (Contender, Vec<Run>) {
        let run = |seconds| Run {
            seconds,
            processor: seconds / 2.0,
            idle: seconds / 2.0,
            choosing: seconds / 10.0,
            bytes: 0,
        };
        let runs = seconds.map(run);
        (Contender { maker, codec, crew }, runs.into())
    }

    #[test]
    fn rounds_are_compared_one_by_one_with_makedumpfiles_best() {
        let reference = Maker::Makedumpfile(Reference::Installed(&[]));
        let runs = [
            measured(Maker::Holdover, "zlib", Crew::OneThread, [1.0, 2.0]),
            measured(Maker::Holdover, "zlib", Crew::TwoThreads, [0.5, 2.0]),
            measured(Maker::Holdover, "zlib", Crew::TwoPrograms, [0.5, 0.5]),
            measured(reference, "zlib", Crew::OneThread, [6.0, 8.0]),
            measured(reference, "zlib", Crew::TwoThreads, [5.0, 16.0]),
            measured(Maker::Holdover, "snappy", Crew::OneThread, [1.0, 1.0]),
        ];
        let [zlib, snappy] = &Gain::all(&runs)[..] else { panic!("two codecs") };
        let spread = |min, max| Some(Spread { median: f64::midpoint(min, max), min, max });
        assert_eq!(zlib.one_thread, spread(4.0, 5.0));
        assert_eq!(zlib.choosing, spread(4.0, 5.0));
        assert_eq!(zlib.two_threads, spread(1.0, 2.0));
        assert_eq!(zlib.at_one_speed, spread(4.0 / 3.0, 2.0));
        assert_eq!(zlib.two_programs, spread(2.0, 4.0));
        assert_eq!((snappy.one_thread, snappy.two_threads), (None, None));
    }
}
