//! What servers have: many functions, much memory, machine checks, watchdogs.

use crate::crashes::expectation::Expectation;
use crate::crashes::row::Row;
use crate::guests::kernels::Flavour;
use crate::machines::scale::{self, Scale};
use crate::machines::scenario::Scenario;
use crate::machines::scenario::events::{End, MachineCheck, Start};
use crate::machines::scenario::mutation::Mutation;
use crate::machines::scenario::unit::{Mode, Translation, UnitSetting, Width};
use crate::machines::scenario::watchdog::Watchdog;

/// RAM of a server. Linux takes a 64th of it for `struct page`; the rest is a hole in a file.
const SERVER_MIB: u64 = 64 << 10;
/// A reservation that suffices for its devices: more than the plain machine needs.
const SERVER_RESERVED_MIB: u64 = 32;

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = servers();
    rows.extend(machine_checks());
    rows.extend(watchdogs());
    rows
}

/// A larger machine; `load` refuses a reservation that is too small for it. All of its devices have contexts, virtual functions among them.
fn servers() -> Vec<Row> {
    let server = |unit| Scenario {
        scale: Scale::Server,
        unit,
        cpus: 2,
        memory_mib: SERVER_MIB,
        reserved_mib: SERVER_RESERVED_MIB,
        ..Scenario::plain(Flavour::Cloud)
    };
    let virtual_functions = format!("virtual functions {}", scale::VIRTUAL_FUNCTIONS);
    let expectation =
        || Expectation::takeover().and_guest_says(&virtual_functions).and_guest_says("persistent");
    let scalable = UnitSetting { mode: Mode::Scalable, ..UnitSetting::PLAIN };
    let pass_through =
        UnitSetting { translation: Translation::PassThrough, width: Width::Bits48, ..UnitSetting::PLAIN };
    let row = |name, unit| Row::new(name, server(unit), expectation());
    vec![
        row("server-sriov", UnitSetting::PLAIN),
        row("server-pt", pass_through),
        row("server-sriov-scalable", scalable).only_among_all(),
    ]
}

/// Machine checks before and during the dump. `crash` wants the backtrace of a crash on request: the kernel without its
/// debug information is the one that a machine check kills.
fn machine_checks() -> Vec<Row> {
    let dumping =
        |kernel, check| Scenario { machine_check: Some(check), memory_mib: 5120, ..Scenario::plain(kernel) };
    let counted = || Expectation::complete_dump().and_says("machine_checks=1");
    let recoverable = MachineCheck::Recoverable;
    let twice = Scenario { start: Start::MachineCheck, ..dumping(Flavour::Amd64, recoverable) };
    let fatal = dumping(Flavour::Cloud, MachineCheck::Fatal);
    let followed = Some(Mutation::SecondMachineCheck);
    let followed = Scenario { mutation: followed, ..dumping(Flavour::Cloud, recoverable) };
    let both = Expectation::complete_dump().and_says("machine_checks=2");
    let rows = [
        ("machine-check-recoverable", dumping(Flavour::Cloud, recoverable), counted()),
        ("machine-check-followed-by-another", followed, both),
        ("machine-check-after-a-fatal-one", twice, counted().and_says("was handling a machine check")),
        ("machine-check-fatal", fatal, Expectation::cut_off_dump().and_says("fatal machine check")),
    ];
    rows.map(|(name, scenario, expectation)| Row::new(name, scenario, expectation)).into()
}

/// Watchdogs that would bite in the middle of the dump, and some that bite. The countdown of WDAT's cannot be made as long as the
/// dump takes, so that pings must come to the end.
fn watchdogs() -> Vec<Row> {
    let armed =
        |watchdog: Watchdog| Scenario { watchdog: Some(watchdog), ..Scenario::plain(watchdog.kernel()) };
    let told = |watchdog, mutation| Scenario { mutation: Some(mutation), ..armed(watchdog) };
    let bites = |watchdog, mutation| Scenario { end: End::Watchdog, ..told(watchdog, mutation) };
    let pinged = |watchdogs: &[&str], pings| Expectation::complete_dump().and_pings(watchdogs, pings);
    let hangs = Expectation::cut_off_dump().and_readable().and_says("watchdog wdat runs");
    let waits = told(Watchdog::Wdat, Mutation::SlowUnit);
    vec![
        Row::new("watchdog-itco", armed(Watchdog::Itco), pinged(&["itco"], 8)),
        Row::new(
            "watchdog-i6300esb-ipmi",
            armed(Watchdog::I6300esbAndIpmi),
            pinged(&["i6300esb", "ipmi"], 16),
        ),
        Row::new("watchdog-wdat", armed(Watchdog::Wdat), pinged(&["wdat"], 8)),
        Row::new("watchdog-bites-a-hang", bites(Watchdog::Wdat, Mutation::Hang), hangs),
        Row::new("watchdog-slow-unit", waits, pinged(&["wdat"], 24)).only_among_all(),
        Row::new("mutation-no-pings", bites(Watchdog::Itco, Mutation::NoPings), Expectation::cut_off_dump()),
    ]
}
