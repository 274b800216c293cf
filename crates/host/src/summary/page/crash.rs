//! The crash: what the kernel said, when, on which processor, in which task.

use maud::{Markup, html};
use postmortem::{Postmortem, Task};

use super::elements::{fact, part, scrolled};
use crate::summary::date::date;

pub(super) fn crash(postmortem: &Postmortem) -> Markup {
    let panic = &postmortem.panic;
    let unknown = || "not known".to_owned();
    let content = html! {
        dl {
            (fact("Message", Some(panic.message.as_deref().unwrap_or("the log has none"))))
            (fact("Time", Some(panic.time.map_or_else(unknown, date))))
            (fact("Uptime", Some(panic.uptime.as_deref().map_or_else(unknown, uptime))))
            (fact("Processor", Some(panic.cpu.map_or_else(unknown, |cpu| cpu.to_string()))))
            (fact("Task", Some(panic.task.as_ref().map_or_else(unknown, task))))
            (fact("Tainted", Some(taint(postmortem))))
        }
        @if !panic.causes.is_empty() {
            h3 { "What the log said before" }
            (scrolled("Lines before the panic", html! {
                @for line in &panic.causes { (line) "\n" }
            }))
        }
    };
    part("crash", "The crash", content)
}

/// `9.122247` as `9.1 s`, or in days, hours and minutes.
fn uptime(seconds: &str) -> String {
    let whole: u64 = seconds.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or_default();
    let (days, hours, minutes) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, ..) => format!("{hours} h {minutes} min {} s", whole % 60),
        _ => format!("{days} d {hours} h {minutes} min"),
    }
}

pub(super) fn task(task: &Task) -> String {
    match &task.comm {
        Some(comm) => format!("{comm}, PID {}", task.pid),
        None => format!("PID {}", task.pid),
    }
}

fn taint(postmortem: &Postmortem) -> Markup {
    html! {
        @match &postmortem.taint {
            None => "not known",
            Some(flags) if flags.is_empty() => "no",
            Some(flags) => {
                @for (at, flag) in flags.iter().enumerate() {
                    @if at > 0 { "; " }
                    strong { (flag.letter) } ": " (flag.meaning)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uptime_is_told_in_units_that_fit() {
        assert_eq!(uptime("9.122247"), "9.122247 s");
        assert_eq!(uptime("3725.5"), "1 h 2 min 5 s");
        assert_eq!(uptime("200000.1"), "2 d 7 h 33 min");
        assert_eq!(uptime("99999999999999999999"), "99999999999999999999 s");
    }
}
