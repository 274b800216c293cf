//! What is wrong with a configuration, where, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {file}")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// A line says what nobody understands.
    #[error("{file}, line {line}: {what}; mend it, and `holdover config check {file}` reads it again")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl ConfigError {
    /// An error of the TOML reader about this text.
    pub(super) fn invalid(error: &toml::de::Error, text: &str, file: &Path) -> Self {
        let at = error.span().map_or(0, |span| span.start);
        Self::Invalid { file: file.to_owned(), line: line_of(text, at), what: in_words(error.message()) }
    }
}

/// The number of the line that contains the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The message of the reader, in the words of this file.
fn in_words(message: &str) -> String {
    let Some(unknown) = message.strip_prefix("unknown field ") else { return message.replace('\n', ", ") };
    let told = unknown.replacen(", expected one of ", "; the keys here are ", 1);
    format!("there is no key {}", told.replacen(", expected ", "; the keys here are ", 1))
}
