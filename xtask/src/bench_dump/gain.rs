//! What users gain: how many times as fast dumps are made as by makedumpfile, and by two threads as by one.

use std::fmt;

use serde::Serialize;

use super::{Contender, Run};
use crate::spread::Spread;

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
        let ours = runs.times(Contender::is_ours, 1, whole);
        Self {
            codec: runs.codec,
            one_thread: ratios(&runs.best_reference(whole), &ours),
            choosing: ratios(&runs.best_reference(choosing), &runs.times(Contender::is_ours, 1, choosing)),
            two_threads: ratios(&ours, &runs.times(Contender::is_ours, 2, whole)),
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
    fn times(&self, who: fn(&Contender) -> bool, threads: u32, time: fn(&Run) -> f64) -> Vec<f64> {
        let mut with_codec = self.runs.iter().filter(|(contender, _)| contender.codec == self.codec);
        let found = with_codec.find(|(contender, _)| who(contender) && contender.threads == threads);
        found.map(|(_, runs)| runs.iter().map(time).collect()).unwrap_or_default()
    }

    fn best_reference(&self, time: fn(&Run) -> f64) -> Vec<f64> {
        let [one, two] = [1, 2].map(|threads| self.times(Contender::is_reference, threads, time));
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
        writeln!(f, "| | as makedumpfile | choosing pages | two threads as one |\n|---|---:|---:|---:|")?;
        for Gain { codec, one_thread, choosing, two_threads } in self.0 {
            let [one_thread, choosing, two_threads] =
                [one_thread, choosing, two_threads].map(|spread| cell(spread.as_ref()));
            writeln!(f, "| {codec} | {one_thread} | {choosing} | {two_threads} |")?;
        }
        Ok(())
    }
}

fn cell(spread: Option<&Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::super::{Maker, Reference};
    use super::*;

    fn measured(maker: Maker, codec: &'static str, threads: u32, seconds: [f64; 2]) -> (Contender, Vec<Run>) {
        let runs = seconds.map(|seconds| Run { seconds, choosing: seconds / 10.0, bytes: 0 });
        (Contender { maker, codec, threads }, runs.into())
    }

    #[test]
    fn rounds_are_compared_one_by_one_with_makedumpfiles_best() {
        let reference = Maker::Makedumpfile(Reference::Installed(&[]));
        let runs = [
            measured(Maker::Holdover, "zlib", 1, [1.0, 2.0]),
            measured(Maker::Holdover, "zlib", 2, [0.5, 2.0]),
            measured(reference, "zlib", 1, [6.0, 8.0]),
            measured(reference, "zlib", 2, [5.0, 16.0]),
            measured(Maker::Holdover, "snappy", 1, [1.0, 1.0]),
        ];
        let [zlib, snappy] = &Gain::all(&runs)[..] else { panic!("two codecs") };
        let spread = |min, max| Some(Spread { median: f64::midpoint(min, max), min, max });
        assert_eq!(zlib.one_thread, spread(4.0, 5.0));
        assert_eq!(zlib.choosing, spread(4.0, 5.0));
        assert_eq!(zlib.two_threads, spread(1.0, 2.0));
        assert_eq!((snappy.one_thread, snappy.two_threads), (None, None));
    }
}
