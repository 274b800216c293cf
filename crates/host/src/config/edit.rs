//! Changes a configuration's text where it names the dump areas, and leaves every other character as it is: comments are
//! people's.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, Configuration};
use crate::areas::AreaName;

/// The key.
const KEY: &str = "areas";

/// What is looked for in the text; other keys are not looked at.
#[derive(Deserialize)]
struct Named {
    areas: Option<Spanned<toml::Value>>,
}

/// The text of `file` with these areas in place of those that it names. If it names none, they follow the line that has the key
/// commented out, and are the first line if there is no such line.
pub fn with_areas(text: &str, file: &Path, areas: &[AreaName]) -> Result<String, ConfigError> {
    // All of it must be understood before a part is changed.
    let parsed = Configuration::parse(text, file)?;
    if parsed.areas == areas {
        return Ok(text.to_owned());
    }
    let named: Named = toml::from_str(text).map_err(|error| ConfigError::invalid(&error, text, file))?;
    let value = toml::Value::from(areas.iter().map(ToString::to_string).collect::<Vec<_>>());
    Ok(match named.areas {
        Some(there) => replaced(text, there.span(), &value.to_string()),
        None => inserted(text, &format!("{KEY} = {value}\n")),
    })
}

fn replaced(text: &str, span: std::ops::Range<usize>, with: &str) -> String {
    format!("{}{with}{}", &text[..span.start], &text[span.end..])
}

/// Puts a line behind the comment that shows the key, or before everything else.
fn inserted(text: &str, line: &str) -> String {
    let mut end = 0;
    for shown in text.split_inclusive('\n') {
        end += shown.len();
        if shown.strip_prefix('#').is_some_and(|shown| shown.trim_start().starts_with(&format!("{KEY} ="))) {
            let newline = if shown.ends_with('\n') { "" } else { "\n" };
            return format!("{}{newline}{line}{}", &text[..end], &text[end..]);
        }
    }
    format!("{line}{text}")
}
