//! Names a unit's registers, and what is set in them, by the specifications' short names.

mod amdvi;
mod vtd;

use record::{Architecture, Register};

/// The name of a register, and the meaning of its value; the meaning is empty if the name suffices.
pub(super) fn told(found: &Register, architecture: Architecture) -> (String, String) {
    let known = match architecture {
        Architecture::Vtd => vtd::told(found),
        Architecture::AmdVi => amdvi::told(found),
    };
    known.map_or_else(
        || (format!("{:#x}", found.offset), String::new()),
        |(name, meaning)| (name.to_owned(), meaning),
    )
}

/// The names of what is set.
fn names(bits: &[(bool, &str)]) -> String {
    let set: Vec<&str> = bits.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
    set.join(" ")
}
