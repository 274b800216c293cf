//! `holdover verify`: checks that the loaded capture kernel would still find its dump areas in their places.

use anyhow::Result;
use host::load::KexecError;
use host::verify::{self, AreaState, IfWrong, Verified, VerifiedArea};
use serde_json::{Value, json};

use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Keep a file in its place again if nothing does; unload the capture kernel if an area's blocks may be others' by now
    #[arg(long)]
    repair: bool,
}

/// Checks the areas.
pub(crate) fn run(arguments: &Arguments) -> Result<Verified, KexecError> {
    verify::verify(if arguments.repair { IfWrong::Repair } else { IfWrong::Tell })
}

/// What became of an area, and what to do about it.
fn told(area: &VerifiedArea) -> String {
    match &area.state {
        AreaState::InPlace => "in its place".to_owned(),
        AreaState::Loose => {
            "in its place, but nothing keeps it there (`swapoff -a`?); `holdover verify --repair` pins it again".to_owned()
        }
        AreaState::PinnedAgain => "in its place; nothing kept it there, and it is pinned again".to_owned(),
        AreaState::Unknown(error) => format!("unknown: {error}; run `holdover verify` as root"),
        AreaState::Unreachable(error) => format!("cannot be checked: {error}; a panic may not be dumped to it"),
        AreaState::Lost(error) => format!("{error}; a panic may be dumped to blocks of others"),
    }
}

fn state(area: &VerifiedArea) -> &'static str {
    match area.state {
        AreaState::InPlace => "in place",
        AreaState::Loose => "loose",
        AreaState::PinnedAgain => "pinned again",
        AreaState::Unknown(_) => "unknown",
        AreaState::Unreachable(_) => "unreachable",
        AreaState::Lost(_) => "lost",
    }
}

/// What happened to the capture kernel, or should.
fn verdict(verified: &Verified) -> Option<&'static str> {
    let is_lost = verified.areas.iter().any(|area| matches!(area.state, AreaState::Lost(_)));
    match (verified.unloaded, is_lost) {
        _ if verified.areas.is_empty() => {
            Some("nothing is loaded by `holdover load`: a panic will not be dumped")
        }
        (true, _) => {
            Some("unloaded: a panic will not be dumped until `holdover load` loads for an area that is there")
        }
        (false, true) => Some("run `holdover unload`, then load for an area that is there"),
        (false, false) => None,
    }
}

impl Report for Verified {
    fn rows(&self) -> Vec<Vec<String>> {
        let areas = self.areas.iter().map(|area| vec![area.device.display().to_string(), told(area)]);
        areas.chain(verdict(self).map(|verdict| row("capture kernel", verdict))).collect()
    }

    fn json(&self) -> Result<Value> {
        let area =
            |area: &VerifiedArea| json!({ "device": area.device, "state": state(area), "told": told(area) });
        let areas: Vec<_> = self.areas.iter().map(area).collect();
        Ok(json!({ "good": self.is_good(), "unloaded": self.unloaded, "areas": areas }))
    }

    fn is_whole(&self) -> bool {
        self.is_good()
    }
}
