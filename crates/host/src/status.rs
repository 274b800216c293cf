//! Whether the next panic will be dumped, in few lines: for a terminal, the message of the day, or a monitor. [`doctor`](crate::doctor)
//! looks at much more, and takes longer.

use std::fmt::Display;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;

use crate::areas::{AreaError, AreaName, FoundArea, Held, UncollectedDump};
use crate::clock::Ago;
use crate::collect::{self, BootLoop, FolderContent, HISTORY, OthersDumps};
use crate::config::{ConfigError, Configuration};
use crate::crash_slot::{self, OtherCrashKernel, SlotOwner};
use crate::crash_test::{self, History, TestError};
use crate::kexec::{self, KexecError};
use crate::loaded::area::LoadedArea;
use crate::loaded::{self, Standing};
use crate::programs::{HostPrograms, Programs};
use crate::{Bytes, areas, chain, clock, units};

/// What is known in a moment.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Who has the crash slot.
    pub slot: SlotOwner,
    /// What was looked at, in this order.
    pub lines: Vec<Line>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is.
    pub what: String,
    /// Whether it is as it should be.
    pub state: LineState,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing is to be done.
    pub remedy: String,
}

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LineState {
    /// It is.
    Ok,
    /// The next panic is dumped all the same.
    Note,
    /// The next panic may not be dumped, or its dump may not be collected.
    Missing,
}

impl Line {
    fn new(what: &str, state: LineState, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.to_owned(), state, found: found.into(), remedy: remedy.into() }
    }

    fn ok(what: &str, found: impl Into<String>) -> Self {
        Self::new(what, LineState::Ok, found, "")
    }
}

impl Status {
    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.lines.iter().all(|line| line.state != LineState::Missing)
    }
}

/// Looks at this host.
pub fn status() -> Result<Status, KexecError> {
    let root = Path::new("/");
    let is_loaded = kexec::is_loaded()?;
    let loaded: Vec<_> = loaded::areas();
    let found: Vec<_> = loaded.iter().map(|area| FoundArea::again(&area.device, area.uuid)).collect();
    let there: Vec<_> = found.iter().filter_map(|area| area.as_ref().ok().cloned()).collect();
    let standing = if is_loaded { loaded::standing(&there) } else { Standing::Nothing };
    let slot = crash_slot::owner_by(&standing);
    let mut lines = vec![capture_kernel(&standing, crash_slot::other(root, slot), configured())];
    let devices = loaded.iter().map(|area| area.device.display());
    lines.extend(devices.zip(found).map(|(device, found)| area(device, found.and_then(|area| look(&area)))));
    let configured = configured().unwrap_or_default();
    if is_loaded {
        lines.extend(left_out(&configured, &loaded));
    } else if loaded.is_empty() {
        lines.extend(waiting(&configured));
    }
    lines.extend(at_each_boot(&HostPrograms));
    let now = clock::now().unwrap_or_default();
    lines.push(test(crash_test::history(), now));
    lines.extend(collected(Path::new(HISTORY), now));
    Ok(Status { slot, lines })
}

/// What the configuration names.
fn configured() -> Result<Vec<AreaName>, ConfigError> {
    Ok(Configuration::for_load(Configuration::of_host())?.0.areas)
}

fn capture_kernel(
    standing: &Standing,
    other: Option<OtherCrashKernel>,
    configured: Result<Vec<AreaName>, ConfigError>,
) -> Line {
    const WHAT: &str = "capture kernel";
    let missing = |found: String, remedy: &str| Line::new(WHAT, LineState::Missing, found, remedy);
    match standing {
        Standing::Nothing => match configured {
            Err(error) => missing("not loaded".into(), &chain(&error)),
            Ok(areas) if areas.is_empty() => missing("not loaded, not set up".into(), "`holdover setup`"),
            Ok(_) => missing("not loaded".into(), "`holdover load`, which says what is in the way"),
        },
        Standing::Foreign | Standing::Replaced(_) => {
            let told = other.map(|other| other.to_string()).unwrap_or_default();
            let (found, remedy) = told.split_once("; ").unwrap_or((&told, ""));
            missing(found.to_owned(), remedy)
        }
        Standing::Stale(ago, changes) => {
            let found = format!("loaded {ago}; since then: {}", changes.join("; "));
            missing(found, "`holdover load`")
        }
        Standing::Ours(ago) | Standing::Unseen(ago) => Line::ok(WHAT, format!("loaded {ago}")),
    }
}

/// Looks what an area holds, and how much it could.
fn look(area: &FoundArea) -> Result<(u64, Option<UncollectedDump>), AreaError> {
    area.check_place()?;
    Ok((area.label.capacity(), area.uncollected()?))
}

fn area(name: impl Display, looked: Result<(u64, Option<UncollectedDump>), AreaError>) -> Line {
    let what = format!("area {name}");
    match looked {
        Ok((capacity, None)) => Line::ok(&what, format!("free, {}", Bytes(capacity))),
        Ok((_, Some(dump))) => {
            let found = match dump.held {
                Held::Log(_) => "holds a log that was not collected",
                Held::Unknown(_) => "may hold a dump",
                Held::Dump(_) | Held::Nothing => "holds a dump that was not collected",
            };
            Line::new(&what, LineState::Missing, found, "`holdover collect`")
        }
        Err(error) if error.is_forbidden() => {
            Line::new(&what, LineState::Note, "this user may not read it", "`holdover status` as root")
        }
        Err(error) => {
            let told = chain(&error);
            let (found, remedy) = told.split_once("; ").unwrap_or((&told, "`holdover verify`"));
            Line::new(&what, LineState::Missing, found, remedy)
        }
    }
}

/// The areas that the configuration names, where nothing is loaded: what keeps them from being loaded, such as a dump, is told.
fn waiting(configured: &[AreaName]) -> impl Iterator<Item = Line> {
    configured.iter().map(|name| area(name, areas::find(name).and_then(|found| look(&found))))
}

/// The areas that the configuration names, and that the loaded capture kernel does not know: they may not have been there.
fn left_out(configured: &[AreaName], loaded: &[LoadedArea]) -> Vec<Line> {
    let left_out = configured.iter().filter(|name| loaded.iter().all(|area| !area.is_named(name)));
    let line = |name| {
        let remedy = "`holdover load`, which says what is wrong with it";
        Line::new(
            &format!("area {name}"),
            LineState::Note,
            "configured, and not loaded: no dump goes there",
            remedy,
        )
    };
    left_out.map(line).collect()
}

/// A unit as `systemctl show` tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unit<'a> {
    name: &'a str,
    file: &'a str,
    active: &'a str,
    result: &'a str,
}

impl<'a> Unit<'a> {
    /// Reads a block of lines `KEY=VALUE`.
    fn parse(block: &'a str) -> Self {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default()
        };
        Self {
            name: value("Id"),
            file: value("UnitFileState"),
            active: value("ActiveState"),
            result: value("Result"),
        }
    }

    fn is_enabled(&self) -> bool {
        matches!(self.file, "enabled" | "enabled-runtime" | "static" | "generated")
    }

    fn line(&self) -> Line {
        let Self { name, file, active, result } = self;
        let missing = |found: String, remedy: String| Line::new(name, LineState::Missing, found, remedy);
        if *active == "failed" {
            return missing(format!("failed ({result})"), format!("`systemctl status {name}`"));
        }
        // `systemctl status` shows none of its words then.
        if *active == "activating" && *result != "success" {
            let found = format!("failed ({result}), and is tried again");
            return missing(found, format!("`journalctl --boot --unit {name}`"));
        }
        match *file {
            _ if self.is_enabled() => Line::ok(name, format!("enabled, {active}")),
            "" => missing("not installed".into(), "install the package of Holdover".into()),
            other => missing(other.to_owned(), format!("`systemctl enable --now {name}`")),
        }
    }
}

fn show(units: &[&str], programs: &dyn Programs) -> Option<String> {
    let arguments = [&["show", "--property=Id,UnitFileState,ActiveState,Result"][..], units].concat();
    programs.run("systemctl", &arguments).ok()
}

/// Those of these units that do not start with each boot; `None` if systemd does not run.
pub(crate) fn disabled(units: &[&str], programs: &dyn Programs) -> Option<Vec<String>> {
    let shown = show(units, programs)?;
    let units = shown.split("\n\n").map(Unit::parse).filter(|unit| !unit.is_enabled());
    Some(units.map(|unit| unit.name.to_owned()).collect())
}

/// The units, those that are not as they should be; one line if all are.
fn at_each_boot(programs: &dyn Programs) -> Vec<Line> {
    const WHAT: &str = "at each boot";
    let Some(shown) = show(&units::ALWAYS, programs) else {
        let remedy = "run `holdover collect` and `holdover load` after each boot";
        return vec![Line::new(WHAT, LineState::Note, "nothing: systemd does not run here", remedy)];
    };
    let lines: Vec<_> = shown.split("\n\n").map(|block| Unit::parse(block).line()).collect();
    let (good, mut bad): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.state == LineState::Ok);
    if bad.is_empty() {
        let names: Vec<_> = good.iter().map(|line| line.what.as_str()).collect();
        bad.push(Line::ok(WHAT, names.join(", ")));
    }
    bad
}

/// The last crash on request. That none was made keeps no panic from being dumped.
fn test(history: Result<History, TestError>, now: u64) -> Line {
    const WHAT: &str = "last test";
    const AGAIN: &str = "`holdover test` crashes this machine on request";
    let note = |found: String| Line::new(WHAT, LineState::Note, found, AGAIN);
    let history = match history {
        Ok(history) => history,
        Err(error) => return note(error.to_string()),
    };
    let passed = history.passed.as_ref().map(|test| format!("passed {}", Ago::since(test.at, now)));
    let last = match &history.last {
        None => return note("never".into()),
        Some(last) if last.has_passed() => None,
        Some(last) => last.outcome.as_ref(),
    };
    if let Some(outcome) = last {
        let found = format!(
            "{}; the last that passed: {}",
            outcome.verdict.told(),
            passed.as_deref().unwrap_or("none")
        );
        return Line::new(WHAT, LineState::Missing, found, AGAIN);
    }
    match passed {
        Some(passed) if history.changes.is_empty() => Line::ok(WHAT, passed),
        Some(passed) => note(format!("{passed}; since then: {}", history.changes.join("; "))),
        None => Line::new(WHAT, LineState::Note, "nobody looked what came of it", "`holdover test --result`"),
    }
}

/// What is known of crashes. None of it keeps the next panic from being dumped.
fn collected(path: &Path, now: u64) -> Vec<Line> {
    if File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
        let found = "this user may not read it";
        return vec![Line::new("last crash", LineState::Note, found, "`holdover status` as root")];
    }
    let history = collect::History::read(path);
    let read = Configuration::for_collect(Configuration::of_host())
        .map_or_else(|_| Configuration::default(), |(read, _)| read);
    let after = read.collect.boot_loop_after;
    let boot_loop = history.boot_loop(BootLoop { after: Some(after), ..BootLoop::default() });
    let mut lines = vec![last_crash(&history, now)];
    lines.extend(OthersDumps::find(Path::new("/"), &read).map(|others| others_dump(&others, now)));
    lines.extend(boot_loop.map(|count| {
        let found = format!("{count} crashes in a row, each soon after its boot");
        Line::new("boot loop", LineState::Note, found, "look at `dmesg.txt` of the last crash")
    }));
    if history.actions_failed > 0 {
        let found = format!("{} failed; `actions.json` beside the dump says why", history.actions_failed);
        lines.push(Line::new("actions", LineState::Note, found, "`holdover collect --retry-actions`"));
    }
    lines
}

/// The newest dump that another program wrote, such as the kernel to which the machine was handed over.
fn others_dump(OthersDumps { newest, .. }: &OthersDumps, now: u64) -> Line {
    let state = if newest.is_cut_off { ", not finished" } else { "" };
    let found = format!("{}: {}{state}", Ago::since(newest.written_at, now), newest.path.display());
    Line::ok("another program's dump", found)
}

fn last_crash(history: &collect::History, now: u64) -> Line {
    const WHAT: &str = "last crash";
    let Some(last) = history.crashes.last() else { return Line::ok(WHAT, "none was collected") };
    let ago = Ago::since(last.crash.time(), now);
    let found = |content: &str| format!("{ago}: {content}, {}", last.folder);
    match last.crash.content {
        FolderContent::Complete => Line::ok(WHAT, found("its whole dump is collected")),
        FolderContent::Partial => Line::ok(WHAT, found("a part of its dump is collected")),
        _ => Line::new(WHAT, LineState::Note, found("only a log is collected, or what does not open"), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash_slot::Rival;
    use crate::programs::tests::Noted;

    fn ago() -> Ago {
        Ago::since(0, 300)
    }

    #[test]
    fn what_is_loaded_is_told_in_a_line_with_what_to_do() {
        let told = |standing: &Standing, configured| {
            let line = capture_kernel(standing, None, configured);
            (line.state, line.found, line.remedy)
        };
        let area = || Ok(vec!["/a".parse().unwrap()]);
        assert_eq!(
            told(&Standing::Ours(ago()), area()),
            (LineState::Ok, "loaded 5 minutes ago".into(), String::new())
        );
        assert_eq!(told(&Standing::Nothing, Ok(vec![])).2, "`holdover setup`");
        assert!(told(&Standing::Nothing, area()).2.starts_with("`holdover load`"));
        let stale = told(&Standing::Stale(ago(), vec!["memory was added".into()]), area());
        assert_eq!(
            (stale.0, stale.1),
            (LineState::Missing, "loaded 5 minutes ago; since then: memory was added".into())
        );
    }

    #[test]
    fn anothers_crash_kernel_is_told_with_its_unit() {
        let by = Some(Rival { unit: "kdump-tools.service", is_enabled: true, is_active: true });
        let line = capture_kernel(&Standing::Foreign, Some(OtherCrashKernel { by }), Ok(vec![]));
        assert!(line.found.starts_with("kdump-tools.service has loaded a crash kernel"), "{line:?}");
        assert!(line.remedy.contains("`systemctl disable --now kdump-tools.service`"), "{line:?}");
        assert_eq!(line.state, LineState::Missing);
    }

    #[test]
    fn an_area_is_free_or_says_what_to_do() {
        let dump = |held| UncollectedDump { device: "/a".into(), held };
        let state = |looked| area("/a", looked).state;
        assert_eq!(state(Ok((1, None))), LineState::Ok);
        assert_eq!(state(Ok((1, Some(dump(Held::Dump(7)))))), LineState::Missing);
        assert_eq!(state(Err(AreaError::Gone { device: "/a".into() })), LineState::Missing);
    }

    /// As after a crash whose dump found no room: the area is not loaded again before.
    #[test]
    fn where_nothing_is_loaded_the_configured_areas_are_told_with_what_is_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let [dumped, damaged] = ["dumped", "damaged"].map(|name| folder.path().join(name));
        for path in [&dumped, &damaged] {
            File::create(path).unwrap().set_len(8 << 20).unwrap();
        }
        let uuid = areas::format(&dumped, areas::IfUsed::Refuse, Path::new("/")).unwrap().uuid;
        let file = dumpfile::BlockFile::open_exclusive(&dumped).unwrap();
        let mut dump = ::area::Area::open(file, 0, uuid).unwrap().begin().unwrap();
        machine::BlockDevice::write(&mut dump, 0, &[1; 4096]).unwrap();
        dump.seal(::area::Completeness::Complete, 4096).unwrap();
        let lines: Vec<_> = waiting(&[AreaName::Device(dumped), AreaName::Device(damaged)]).collect();
        assert_eq!(lines[0].found, "holds a dump that was not collected");
        assert!(lines[1].found.ends_with("damaged is not a dump area"), "{lines:?}");
        assert!(lines[1].remedy.starts_with("`holdover format"), "{lines:?}");
        assert!(lines.iter().all(|line| line.state == LineState::Missing), "{lines:?}");
    }

    const SHOWN: &str = "Id=holdover.service\nUnitFileState=enabled\nActiveState=active\nResult=success\n\n\
        Id=holdover-collect.service\nUnitFileState=enabled\nActiveState=inactive\nResult=success\n\n\
        Id=holdover-actions.timer\nUnitFileState=enabled\nActiveState=active\nResult=success\n\n\
        Id=holdover-verify.timer\nUnitFileState=enabled\nActiveState=active\nResult=success\n";

    fn shown(output: &str) -> Vec<Line> {
        at_each_boot(&Noted { output: output.to_owned(), ..Noted::default() })
    }

    #[test]
    fn units_that_are_as_they_should_be_take_one_line() {
        let lines = shown(SHOWN);
        assert_eq!(lines, [Line::ok("at each boot", units::ALWAYS.join(", "))]);
    }

    #[test]
    fn a_unit_that_is_disabled_failed_or_not_installed_has_a_line_of_its_own() {
        let with = |from, to| shown(&SHOWN.replacen(from, to, 1)).remove(0);
        let disabled = with("enabled", "disabled");
        assert_eq!((disabled.found.as_str(), disabled.state), ("disabled", LineState::Missing));
        assert_eq!(disabled.remedy, "`systemctl enable --now holdover.service`");
        let failed = with("ActiveState=active\nResult=success", "ActiveState=failed\nResult=exit-code");
        assert_eq!(
            (failed.found.as_str(), failed.remedy.as_str()),
            ("failed (exit-code)", "`systemctl status holdover.service`")
        );
        assert_eq!(with("enabled", "").found, "not installed");
        let again = with("ActiveState=active\nResult=success", "ActiveState=activating\nResult=exit-code");
        assert_eq!(
            (again.found.as_str(), again.remedy.as_str()),
            ("failed (exit-code), and is tried again", "`journalctl --boot --unit holdover.service`")
        );
    }

    #[test]
    fn the_last_crash_a_boot_loop_and_actions_that_failed_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collected.json");
        assert_eq!(collected(&path, 0), [Line::ok("last crash", "none was collected")]);
        let text = r#"{
            "crashes": [{"folder": "web1-now", "number": 1, "area": "00000000-0000-0000-0000-000000000001",
                "sequence": 1, "collected_at": 320, "crashed_at": 300, "uptime": 5, "bytes": 5,
                "content": "complete"}],
            "in_a_row": 40, "actions_failed": 2
        }"#;
        std::fs::write(&path, text).unwrap();
        let lines = collected(&path, 600);
        let told: Vec<_> = lines.iter().map(|line| format!("{}: {}", line.what, line.found)).collect();
        assert_eq!(told[0], "last crash: 5 minutes ago: its whole dump is collected, web1-now");
        assert_eq!(told[1], "boot loop: 40 crashes in a row, each soon after its boot");
        assert!(told[2].starts_with("actions: 2 failed"), "{told:?}");
        assert!(lines.iter().all(|line| line.state != LineState::Missing));
    }

    #[test]
    fn a_test_that_was_never_made_keeps_nobody_from_being_ready() {
        let line = test(Ok(History::default()), 0);
        assert_eq!((line.state, line.found.as_str()), (LineState::Note, "never"));
        let status = |state| Status { slot: SlotOwner::Holdover, lines: vec![Line::new("x", state, "", "")] };
        assert!(status(LineState::Note).is_ready() && !status(LineState::Missing).is_ready());
    }
}
