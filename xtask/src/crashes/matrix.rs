//! Which crashes `cargo xtask test` runs, and what each must show. Each file has the rows of one subject.

mod amdvi;
mod areas;
mod disks;
mod dumps;
mod faults;
mod firmware;
mod hand_overs;
mod servers;
mod takeovers;

use crate::crashes::row::Row;

/// Every row.
pub(crate) fn rows() -> Vec<Row> {
    let subjects = [
        takeovers::rows(),
        disks::rows(),
        servers::rows(),
        firmware::rows(),
        dumps::rows(),
        hand_overs::rows(),
        faults::rows(),
        areas::rows(),
        amdvi::rows(),
    ];
    subjects.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::machines::scenario::Scenario;
    use crate::machines::scenario::capture::Capture;
    use crate::machines::scenario::mutation::Mutation;

    #[test]
    fn no_two_rows_share_a_name() {
        let rows = rows();
        let names: BTreeSet<_> = rows.iter().map(|row| &row.name).collect();
        assert_eq!(names.len(), rows.len());
    }

    #[test]
    fn what_is_told_to_make_a_mistake_must_be_caught_and_nothing_else() {
        // What is told to a machine with a watchdog is for that watchdog to notice, and where the kernel dies, for a person. A second
        // machine check is no mistake. After a failure on request, a fallback kernel makes a dump that all witnesses must accept.
        let others = [Mutation::SecondMachineCheck, Mutation::Panic, Mutation::PageFault].map(Some);
        let is_mistake = |row: &Row| {
            let Scenario { watchdog, mutation, capture, .. } = &row.scenario;
            watchdog.is_none() && !others.contains(mutation) && *capture != Capture::Fallback
        };
        let told = |row: &Row| row.scenario.mutation.is_some() && is_mistake(row);
        assert!(rows().iter().all(|row| told(row) == row.expectation.mistake.is_some()));
    }
}
