//! Reads what ARCHITECTURE.md claims of the rooms: its table, and the sentence below it that names the special ones.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

/// The header of the table.
const HEADER: &str = "| room | what it is | may use | knows nothing of |";
/// The phrase that precedes the names of the crates that need the standard library.
const NEED_STD: &str = "are `no_std` (except";
/// The phrase that precedes the names of the crates that have `unsafe`.
const HAVE_UNSAFE: &str = "forbid `unsafe` (except";

/// The claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// The rows of the table.
    pub(crate) rooms: Vec<Room>,
    /// Names of those under `crates/` that need the standard library.
    pub(crate) need_std: BTreeSet<String>,
    /// Names of those under `crates/` that have `unsafe`.
    pub(crate) have_unsafe: BTreeSet<String>,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Its folder, such as `crates/vtd`.
    pub(crate) folder: String,
    /// Names of the rooms that it may use; `None` if the cell is empty, as it is for a folder that is no crate.
    pub(crate) may_use: Option<BTreeSet<String>>,
}

impl Architecture {
    /// Reads ARCHITECTURE.md.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let rows = text.lines().skip_while(|line| *line != HEADER).skip(2);
        let rooms: Vec<_> = rows.map_while(|line| line.strip_prefix('|')).map(room).collect::<Result<_>>()?;
        ensure!(!rooms.is_empty(), "there is no table `{HEADER}`");
        Ok(Self { rooms, need_std: exceptions(text, NEED_STD)?, have_unsafe: exceptions(text, HAVE_UNSAFE)? })
    }
}

/// Reads a row without its first bar.
fn room(row: &str) -> Result<Room> {
    let cells: Vec<_> = row.split('|').map(str::trim).collect();
    let [folder, _, may_use, _, ""] = cells[..] else {
        anyhow::bail!("this row has not four cells: |{row}");
    };
    let folder = quoted(folder).into_iter().next().with_context(|| format!("no room in |{row}"))?;
    let empty = may_use.is_empty();
    Ok(Room {
        folder: folder.trim_end_matches('/').to_owned(),
        may_use: (!empty).then(|| quoted(may_use).into_iter().collect()),
    })
}

/// The names between `phrase` and the bracket that closes.
fn exceptions(text: &str, phrase: &str) -> Result<BTreeSet<String>> {
    let (_, after) = text.split_once(phrase).with_context(|| format!("no sentence says `{phrase} …)`"))?;
    let (names, _) = after.split_once(')').with_context(|| format!("`{phrase}` has no end"))?;
    Ok(quoted(names).into_iter().collect())
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Architecture

| room | what it is | may use | knows nothing of |
|---|---|---|---|
| `crates/vtd` | layouts: `RTADDR`. No I/O | – | policy |
| `capture/` | the capture kernel | `machine`, `vtd` | files |
| `guest/` | what runs inside | | |

The crates under `crates/` are `no_std` (except `model` and
`window`), forbid `unsafe` (except `window`), and are tested.
";

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn each_row_is_a_room_with_those_that_it_may_use() {
        let read = Architecture::parse(TEXT).unwrap();
        let room = |folder: &str, may_use| Room { folder: folder.to_owned(), may_use };
        assert_eq!(
            read.rooms,
            [
                room("crates/vtd", Some(names(&[]))),
                room("capture", Some(names(&["machine", "vtd"]))),
                room("guest", None)
            ]
        );
        assert_eq!(read.need_std, names(&["model", "window"]));
        assert_eq!(read.have_unsafe, names(&["window"]));
    }

    #[test]
    fn a_table_that_is_gone_or_torn_and_a_claim_that_is_gone_are_errors() {
        let without = |part: &str| Architecture::parse(&TEXT.replace(part, "")).unwrap_err().to_string();
        assert!(without("| room").contains("no table"));
        assert!(without(" policy |").contains("four cells"));
        assert!(without("are `no_std` ").contains("no sentence"));
    }
}
