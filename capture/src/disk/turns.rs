//! The order in which areas are looked for, and where: pure bookkeeping of the search.

use alloc::vec::Vec;

use handoff::Uncollected;
use machine::growth::push;

/// One attempt to find one area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The number of the area.
    pub(super) area: usize,
    /// Which functions are asked, and what may become of an older dump.
    pub(super) round: Round,
}

/// The areas are gone through in their order, once in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// All functions, in haste.
    All,
    /// Those that did not answer in haste, patiently.
    Silent,
    /// Those with an area whose older dump may be given up, now that no area is free.
    Held,
}

impl Round {
    const ORDER: [Self; 3] = [Self::All, Self::Silent, Self::Held];
}

/// Why no disk behind a function takes the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotThere {
    /// All disks answered, and none has the area.
    Absent,
    /// A disk did not answer.
    Silent,
    /// A disk has the area, with a dump in it that nobody has collected. No other disk is asked: it could only be a copy.
    Held,
}

/// All turns, in their order.
pub(super) fn turns(areas: usize, uncollected: Uncollected) -> impl Iterator<Item = Turn> {
    let rounds = Round::ORDER.into_iter();
    let rounds = rounds.filter(move |round| *round != Round::Held || uncollected == Uncollected::Discard);
    rounds.flat_map(move |round| (0..areas).map(move |area| Turn { area, round }))
}

/// Functions to which a later round comes back, by the number of the area that was looked for.
pub(super) struct Later<F>(Vec<(usize, NotThere, F)>);

impl<F: Copy> Later<F> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Notes a function. If there is no memory for it, it is not tried again.
    fn note(&mut self, area: usize, why: NotThere, function: F) {
        let _ = push(&mut self.0, (area, why, function));
    }

    /// Whether a disk has this area, with something in it that nobody has collected.
    fn is_held(&self, area: usize) -> bool {
        self.0.iter().any(|(of, why, _)| *of == area && *why == NotThere::Held)
    }

    /// The functions of a turn after the first round. A silent one is not asked if a disk that answered has the area.
    fn functions(&self, Turn { area, round }: Turn) -> impl Iterator<Item = F> {
        let is_held = self.is_held(area);
        let wanted = if round == Round::Held { NotThere::Held } else { NotThere::Silent };
        let wanted = Some(wanted).filter(|wanted| !is_held || *wanted == NotThere::Held);
        let of_turn = self.0.iter().filter(move |(of, why, _)| *of == area && Some(*why) == wanted);
        of_turn.map(|(_, _, function)| *function)
    }

    /// Forgets an area, once it was found.
    fn forget(&mut self, area: usize) {
        self.0.retain(|(of, ..)| *of != area);
    }

    /// Asks functions, of which `all` are all, until `look` finds in one what is looked for, and notes those to come back to.
    pub(super) fn ask<T>(
        &mut self,
        turn: Turn,
        mut all: impl Iterator<Item = F>,
        mut look: impl FnMut(F) -> Result<T, NotThere>,
    ) -> Option<T> {
        let mut asked = 0;
        loop {
            let next = if turn.round == Round::All { all.next() } else { self.functions(turn).nth(asked) };
            let function = next?;
            asked += 1;
            match look(function) {
                Ok(found) => {
                    self.forget(turn.area);
                    return Some(found);
                }
                Err(NotThere::Silent) if turn.round == Round::All => {
                    self.note(turn.area, NotThere::Silent, function);
                }
                Err(NotThere::Silent | NotThere::Absent) => {}
                Err(NotThere::Held) => {
                    self.note(turn.area, NotThere::Held, function);
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Asks three functions for each of two areas as `answer` tells; returns who was asked, for which area, in which round.
    fn asked(
        uncollected: Uncollected,
        answer: impl Fn(usize, u8) -> Result<(), NotThere>,
    ) -> Vec<(usize, Round, u8)> {
        asked_each_time(uncollected, |area, _, function| answer(area, function))
    }

    /// The same, of functions whose answer may change from round to round.
    fn asked_each_time(
        uncollected: Uncollected,
        answer: impl Fn(usize, Round, u8) -> Result<(), NotThere>,
    ) -> Vec<(usize, Round, u8)> {
        let (asked, mut later) = (RefCell::new(Vec::new()), Later::new());
        for turn in turns(2, uncollected) {
            later.ask(turn, [1, 2, 3].into_iter(), |function| {
                asked.borrow_mut().push((turn.area, turn.round, function));
                answer(turn.area, turn.round, function)
            });
        }
        asked.into_inner()
    }

    #[test]
    fn areas_that_are_free_come_before_those_whose_dump_is_given_up() {
        let answer = |area, function| match (area, function) {
            (0, 1) => Err(NotThere::Held),
            (1, 2) => Err(NotThere::Silent),
            _ => Err(NotThere::Absent),
        };
        let first = [(0, Round::All, 1), (1, Round::All, 1), (1, Round::All, 2), (1, Round::All, 3)];
        let kept = [first.as_slice(), &[(1, Round::Silent, 2)]].concat();
        assert_eq!(asked(Uncollected::Keep, answer), kept);
        let discarded = [kept.as_slice(), &[(0, Round::Held, 1)]].concat();
        assert_eq!(asked(Uncollected::Discard, answer), discarded);
    }

    /// It could only be a copy: the dump would go to the wrong disk.
    #[test]
    fn the_search_for_an_area_ends_where_it_holds_a_dump() {
        let answer = |area, function| match (area, function) {
            (0, 1) => Err(NotThere::Silent),
            (0, 2) => Err(NotThere::Held),
            (0, _) => Ok(()),
            _ => Err(NotThere::Absent),
        };
        let asked = asked(Uncollected::Keep, answer);
        assert_eq!(asked[..2], [(0, Round::All, 1), (0, Round::All, 2)]);
        assert!(asked[2..].iter().all(|(area, ..)| *area == 1), "{asked:?}");
    }

    #[test]
    fn what_a_function_says_the_second_time_counts() {
        let answer = |area, round, function| match (area, round, function) {
            (0, Round::All, 1 | 2) => Err(NotThere::Silent),
            (0, Round::Silent, 1) => Err(NotThere::Held),
            (0, Round::Silent, 2) | (0, Round::Held, _) => Ok(()),
            _ => Err(NotThere::Absent),
        };
        let kept = asked_each_time(Uncollected::Keep, answer);
        assert_eq!(kept.last(), Some(&(0, Round::Silent, 1)), "a copy of the disk is not asked");
        let discarded = asked_each_time(Uncollected::Discard, answer);
        assert_eq!(discarded.last(), Some(&(0, Round::Held, 1)), "the older dump is given up in the end");
    }

    #[test]
    fn an_area_that_was_found_is_not_found_again_behind_a_silent_function() {
        let answer = |_, function| if function == 2 { Ok(()) } else { Err(NotThere::Silent) };
        assert!(asked(Uncollected::Discard, answer).iter().all(|(_, round, _)| *round == Round::All));
    }
}
