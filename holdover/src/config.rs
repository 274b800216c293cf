//! `holdover config`: checks the configuration, and shows what holds.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use host::config::{self, ConfigError, Configuration};
use serde_json::{Value, json};

use crate::report::{Report, row};

/// What the command is told.
#[derive(Subcommand)]
pub(crate) enum Arguments {
    /// Say whether the configuration is understood, and what is wrong where it is not
    Check(Named),
    /// Show every key with the value that it has, or has by default
    Show(Named),
}

/// Which file.
#[derive(clap::Args)]
pub(crate) struct Named {
    /// The configuration; if there is no such file and none is named, the defaults are meant
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Named {
    fn read(&self) -> Result<Configuration, ConfigError> {
        self.file.as_deref().map_or_else(Configuration::of_host, Configuration::read)
    }

    fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(config::FILE))
    }
}

/// Checks or shows it.
pub(crate) fn run(arguments: &Arguments) -> Result<Box<dyn Report>, ConfigError> {
    Ok(match arguments {
        Arguments::Check(named) => {
            Box::new(Checked { file: named.path().to_owned(), configuration: named.read()? })
        }
        Arguments::Show(named) => Box::new(named.read()?),
    })
}

/// A configuration that is understood.
struct Checked {
    file: PathBuf,
    configuration: Configuration,
}

impl Checked {
    /// What the file is good for.
    fn told(&self) -> String {
        match (self.file.exists(), self.configuration.areas.len()) {
            (false, _) => "there is no such file: the defaults hold, and nothing is loaded at boot".into(),
            (true, 0) => "understood; it names no dump area, so that nothing is loaded at boot; `holdover setup` makes one".into(),
            (true, 1) => "understood; it names a dump area".into(),
            (true, areas) => format!("understood; it names {areas} dump areas"),
        }
    }
}

impl Report for Checked {
    fn rows(&self) -> Vec<Vec<String>> {
        vec![row(&self.file.display().to_string(), self.told())]
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({ "file": self.file, "exists": self.file.exists(), "told": self.told() }))
    }
}

impl Report for Configuration {
    fn rows(&self) -> Vec<Vec<String>> {
        let Ok(value) = serde_json::to_value(self) else { return Vec::new() };
        keys("", &value)
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }
}

/// Each key with its value, under its whole name.
fn keys(name: &str, value: &Value) -> Vec<Vec<String>> {
    let Value::Object(inner) = value else { return vec![row(name, shown(value))] };
    let whole = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    inner.iter().flat_map(|(key, value)| keys(&whole(key), value)).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "unset".to_owned(),
        Value::Array(all) if all.is_empty() => "none".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_shown_with_its_whole_name() {
        let rows = Configuration::default().rows();
        let shown = |key: &str| rows.iter().find(|row| row[0] == key).map(|row| row[1].as_str());
        assert_eq!((shown("level"), shown("areas")), (Some("31"), Some("none")));
        assert_eq!((shown("panic.on_oops"), shown("actions.s3.region")), (Some("unset"), Some("unset")));
    }
}
