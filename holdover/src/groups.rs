//! The commands in groups, by when they are used, as `--help` lists them; and what an exit status means.

use std::fmt::Write as _;

use clap::CommandFactory;

/// What an exit status means; docs/guide.md has the same table.
pub(crate) const EXIT_STATUSES: &str = "Exit status:
  0  done, and nothing is missing
  1  an error: what and why is on standard error
  2  wrong usage: nothing was done
  3  done, and something is missing or incomplete";

/// The groups, with their commands.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Prepare a host", &["setup", "doctor", "config", "format", "sign", "test"]),
    ("At work", &["load", "unload", "status", "verify", "remove"]),
    ("After a crash", &["collect", "dmesg"]),
    ("Files and models", &["inspect", "summary", "makedump", "simulate"]),
];

/// The names of all commands that are in a group.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|(_, names)| *names).copied()
}

/// The command line, with a help that has the groups.
pub(crate) fn command<C: CommandFactory>() -> clap::Command {
    let command = C::command();
    let listed = list(&command);
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{listed}Options:\n{{options}}{{after-help}}"
    ))
}

/// The groups as text: a heading, and a line for each command that there is.
fn list(command: &clap::Command) -> String {
    let about = |name: &str| Some(command.find_subcommand(name)?.get_about()?.to_string());
    let mut text = String::new();
    for (heading, names) in GROUPS {
        let _ = writeln!(text, "{heading}:");
        for (name, about) in names.iter().filter_map(|name| Some((name, about(name)?))) {
            let _ = writeln!(text, "  {name:<9} {about}");
        }
        text.push('\n');
    }
    text
}
