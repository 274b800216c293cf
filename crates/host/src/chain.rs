//! An error with its causes, as one line.

use std::error::Error;

/// Tells an error, and after it what caused it.
pub fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        told = format!("{told}: {cause}");
        next = cause.source();
    }
    told
}
