//! A mistake that Holdover makes on request, and how it must be noticed.

use crate::witnesses::{Problem, Witness};

/// How a mistake must be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crashes) struct Mistake {
    /// Who must object.
    pub(super) witness: Witness,
    /// The words of the objection.
    pub(super) objection: &'static str,
}

impl Mistake {
    /// Inverts the check: a mutation must lead to an objection.
    pub(super) fn unnoticed(self, problems: &[Problem]) -> Option<Problem> {
        let Self { witness, objection } = self;
        let noticed = |problem: &Problem| problem.witness == witness && problem.what.contains(objection);
        let what = format!("did not notice the mistake; objections of others: {}", problems.len());
        (!problems.iter().any(noticed)).then_some(Problem { witness, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crashes::expectation::Expectation;

    #[test]
    fn a_mistake_that_only_another_witness_noticed_is_not_caught() {
        let noticed = |witness| [Problem { witness, what: "a byte is wrong".to_owned() }];
        let uncaught = |witness, objection, problems: &[Problem]| {
            let expectation = Expectation::takeover().but_caught(witness, objection);
            expectation.mistake.unwrap().unnoticed(problems)
        };
        assert!(uncaught(Witness::Memory, "byte", &noticed(Witness::Memory)).is_none());
        assert!(uncaught(Witness::Memory, "byte", &noticed(Witness::Trace)).is_some());
        assert!(uncaught(Witness::Memory, "table", &noticed(Witness::Memory)).is_some());
        assert!(uncaught(Witness::Memory, "byte", &[]).is_some());
    }
}
