//! Watchdogs that are armed: they go on counting in a crash.

use super::finding::{Code, Finding, Subject};
use crate::watchdogs::{ArmedWatchdog, Watchdogs};

/// Looks at those that were found.
pub(super) fn check(found: &Watchdogs) -> Finding {
    let unknown: Vec<_> = found.unknown().map(will_bite).collect();
    if !unknown.is_empty() {
        let remedy = "the capture kernel cannot keep it quiet: stop it, or give it as long as a dump takes";
        return Finding::missing(Code::WatchdogUnknown, unknown.join(", "), remedy);
    }
    let armed: Vec<_> = found.armed.iter().map(|one| one.identity.as_str()).collect();
    if armed.is_empty() {
        return Finding::ok(Subject::Watchdogs, "none armed");
    }
    Finding::ok(Subject::Watchdogs, format!("{}: kept quiet during a dump", armed.join(", ")))
}

fn will_bite(one: &ArmedWatchdog) -> String {
    match one.timeout {
        Some(seconds) => format!("{} will bite after {seconds} s", one.identity),
        None => format!("{} will bite", one.identity),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_watchdog_that_the_capture_kernel_does_not_know_is_a_danger() {
        let armed = |identity: &str, kind| {
            let one = ArmedWatchdog { identity: identity.to_owned(), kind, timeout: Some(30) };
            Watchdogs { armed: vec![one], ipmi: None }
        };
        assert_eq!(check(&Watchdogs::default()).state, State::Ok);
        assert_eq!(check(&armed("iTCO_wdt", Some(watchdog::Kind::Tco))).state, State::Ok);
        let unknown = check(&armed("hpwdt", None));
        assert_eq!((unknown.state, unknown.found.as_str()), (State::Missing, "hpwdt will bite after 30 s"));
    }
}
