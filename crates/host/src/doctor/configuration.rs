//! Whether the configuration is understood: all of it, or what `holdover load` takes.

use super::finding::{Code, Finding};
use crate::chain;
use crate::config::{ConfigError, Configuration};

/// What the other checks go by, and what is wrong with the configuration, if something is.
pub(super) fn check(read: Result<Configuration, ConfigError>) -> (Configuration, Option<Finding>) {
    const CODE: Code = Code::ConfigurationRefused;
    match Configuration::for_load(read) {
        Ok((configuration, refused)) => {
            let told = |refused| {
                let remedy = format!("{}; until then dumps are collected, and no action follows", mended());
                Finding::warning(CODE, chain(&refused), remedy)
            };
            (configuration, refused.map(told))
        }
        Err(error) => {
            let remedy = format!("{}; until then `holdover load` loads nothing", mended());
            (Configuration::default(), Some(Finding::missing(CODE, chain(&error), remedy)))
        }
    }
}

fn mended() -> String {
    format!("mend {}", crate::config::FILE)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::doctor::State;

    #[test]
    fn what_keeps_the_capture_kernel_from_being_loaded_is_missing_and_the_rest_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("holdover.toml");
        let checked = |text: &str| {
            fs::write(&file, text).unwrap();
            check(Configuration::read(&file))
        };
        assert_eq!(checked("level = 1\n").1, None);
        let (configuration, finding) = checked("level = 1\n[actions]\nto = ['x']\n");
        let finding = finding.unwrap();
        assert_eq!((configuration.level.number(), finding.state), (1, State::Warning));
        assert!(finding.found.contains("line 3"), "{finding:?}");
        let (configuration, finding) = checked("levl = 1\n");
        assert_eq!((configuration, finding.unwrap().state), (Configuration::default(), State::Missing));
    }
}
