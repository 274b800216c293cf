//! The walls between the rooms: checks that each crate's manifest and sources agree with what ARCHITECTURE.md claims
//! of it.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use super::architecture::{Architecture, Room};
use super::members::{self, Member};
use crate::paths;

/// Compares ARCHITECTURE.md with all manifests and sources; returns what does not agree.
pub(crate) fn problems() -> Result<Vec<String>> {
    let text = fs::read_to_string(paths::repository().join("ARCHITECTURE.md"));
    let architecture = Architecture::parse(&text.context("reading ARCHITECTURE.md")?)?;
    Ok(compare(&architecture, &members::all()?))
}

fn compare(architecture: &Architecture, crates: &[Member]) -> Vec<String> {
    let rows = architecture.rooms.iter().flat_map(|room| compare_row(room, &architecture.rooms, crates));
    let missing =
        crates.iter().filter(|member| architecture.rooms.iter().all(|room| room.folder != member.folder));
    let missing = missing.map(|member| format!("{} has no row in ARCHITECTURE.md", member.folder));
    let libraries: Vec<_> =
        crates.iter().filter_map(|member| Some((member.folder.strip_prefix("crates/")?, member))).collect();
    let claims = libraries.iter().flat_map(|(name, member)| compare_claims(name, member, architecture));
    let special = architecture.need_std.union(&architecture.have_unsafe);
    let unknown = special.filter(|name| libraries.iter().all(|(library, _)| library != name));
    let unknown = unknown.map(|name| format!("ARCHITECTURE.md excepts `{name}`, which is no crate"));
    rows.chain(missing).chain(claims).chain(unknown).collect()
}

/// Compares a row of the table with its crate.
fn compare_row(room: &Room, rooms: &[Room], crates: &[Member]) -> Vec<String> {
    let folder = &room.folder;
    let mut problems = Vec::new();
    if rooms.iter().filter(|other| other.folder == *folder).count() > 1 {
        problems.push(format!("{folder} has several rows in ARCHITECTURE.md"));
    }
    match (crates.iter().find(|member| member.folder == *folder), &room.may_use) {
        (Some(member), Some(may_use)) => problems.extend(compare_uses(member, may_use)),
        (Some(_), None) => problems.push(format!("{folder} is a crate: its row must say what it may use")),
        (None, Some(_)) => problems.push(format!("{folder} has a row, and is no crate")),
        (None, None) => {}
    }
    problems
}

/// Compares what a crate may use with what it depends on, and that with what it imports.
fn compare_uses(member: &Member, may_use: &BTreeSet<String>) -> Vec<String> {
    let Member { folder, dependencies, imports, .. } = member;
    let forbidden = dependencies.difference(may_use);
    let forbidden = forbidden.map(|used| format!("{folder} depends on `{used}`, which it may not use"));
    let unused = may_use.difference(dependencies);
    let unused = unused.map(|room| format!("{folder} may use `{room}`, and does not depend on it"));
    let idle = dependencies.difference(imports);
    let idle = idle.map(|used| format!("{folder} depends on `{used}`, and imports it at most in tests"));
    forbidden.chain(unused).chain(idle).collect()
}

/// Compares a library's attributes with the sentence below the table.
fn compare_claims(name: &str, member: &Member, architecture: &Architecture) -> Vec<String> {
    let Architecture { need_std, have_unsafe, .. } = architecture;
    let folder = &member.folder;
    let mut problems = Vec::new();
    if member.no_std == need_std.contains(name) {
        let is = if member.no_std { "is" } else { "is not" };
        problems.push(format!("{folder} {is} `no_std`, which ARCHITECTURE.md denies"));
    }
    if member.forbids_unsafe == have_unsafe.contains(name) {
        let does = if member.forbids_unsafe { "forbids" } else { "does not forbid" };
        problems.push(format!("{folder} {does} `unsafe`, which ARCHITECTURE.md denies"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn room(folder: &str, may_use: &[&str]) -> Room {
        Room { folder: folder.to_owned(), may_use: Some(names(may_use)) }
    }

    fn library(folder: &str, dependencies: &[&str]) -> Member {
        let (dependencies, imports) = (names(dependencies), names(dependencies));
        let (folder, package, library) = (folder.to_owned(), String::new(), String::new());
        Member { folder, package, library, dependencies, imports, no_std: true, forbids_unsafe: true }
    }

    /// A table and crates that agree.
    fn agreeing() -> (Architecture, Vec<Member>) {
        let guest = Room { folder: "guest".to_owned(), may_use: None };
        let rooms = vec![
            room("crates/machine", &[]),
            room("crates/vtd", &["machine"]),
            room("capture", &["machine", "vtd"]),
            guest,
        ];
        let architecture = Architecture { rooms, need_std: names(&[]), have_unsafe: names(&[]) };
        let capture = Member { no_std: false, ..library("capture", &["machine", "vtd"]) };
        (architecture, vec![library("crates/machine", &[]), library("crates/vtd", &["machine"]), capture])
    }

    /// What is found after a change of the table or of the crates.
    fn after(change: impl FnOnce(&mut Architecture, &mut Vec<Member>)) -> Vec<String> {
        let (mut architecture, mut crates) = agreeing();
        change(&mut architecture, &mut crates);
        compare(&architecture, &crates)
    }

    #[test]
    fn a_table_that_is_right_is_not_objected_to() {
        assert!(after(|_, _| {}).is_empty());
    }

    #[test]
    fn a_dependency_that_the_table_does_not_permit_is_found() {
        let found = after(|_, crates| crates[0] = library("crates/machine", &["vtd"]));
        assert_eq!(found, ["crates/machine depends on `vtd`, which it may not use"]);
    }

    #[test]
    fn a_permission_that_nobody_needs_is_found() {
        let found = after(|architecture, _| architecture.rooms[0] = room("crates/machine", &["vtd"]));
        assert_eq!(found, ["crates/machine may use `vtd`, and does not depend on it"]);
    }

    #[test]
    fn a_dependency_that_only_tests_import_is_found() {
        let found = after(|_, crates| crates[1].imports.clear());
        assert_eq!(found, ["crates/vtd depends on `machine`, and imports it at most in tests"]);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        let found = after(|architecture, _| drop(architecture.rooms.remove(1)));
        assert_eq!(found, ["crates/vtd has no row in ARCHITECTURE.md"]);
    }

    #[test]
    fn a_row_without_a_crate_is_found() {
        let found = after(|architecture, _| architecture.rooms.push(room("crates/new", &[])));
        assert_eq!(found, ["crates/new has a row, and is no crate"]);
    }

    #[test]
    fn a_second_row_and_a_row_that_says_nothing_are_found() {
        let twice = after(|architecture, _| architecture.rooms.push(room("crates/machine", &[])));
        assert!(twice.contains(&"crates/machine has several rows in ARCHITECTURE.md".to_owned()));
        let silent = after(|architecture, _| architecture.rooms[0].may_use = None);
        assert_eq!(silent, ["crates/machine is a crate: its row must say what it may use"]);
    }

    #[test]
    fn a_library_that_is_not_what_the_sentence_claims_is_found() {
        let found = after(|_, crates| crates[0].no_std = false);
        assert_eq!(found, ["crates/machine is not `no_std`, which ARCHITECTURE.md denies"]);
        let found = after(|_, crates| crates[0].forbids_unsafe = false);
        assert_eq!(found, ["crates/machine does not forbid `unsafe`, which ARCHITECTURE.md denies"]);
    }

    #[test]
    fn an_exception_that_is_none_is_found() {
        let found = after(|architecture, _| architecture.need_std = names(&["vtd", "gone"]));
        assert_eq!(
            found,
            [
                "crates/vtd is `no_std`, which ARCHITECTURE.md denies",
                "ARCHITECTURE.md excepts `gone`, which is no crate"
            ]
        );
    }
}
