//! What is in a dump, how it is stored, and what is made of it.

use crate::crashes::expectation::Expectation;
use crate::crashes::row::Row;
use crate::guests::kernels::Flavour;
use crate::guests::stock;
use crate::machines::emulator::Emulator;
use crate::machines::qemu::Watch;
use crate::machines::scenario::capture::Capture;
use crate::machines::scenario::device::Device;
use crate::machines::scenario::memory::MemoryUse;
use crate::machines::scenario::{Codec, Scenario};

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.push(pending_requests());
    rows.push(made_dumps());
    rows.extend(summary_pages());
    rows.extend(every_kind_of_page());
    rows.push(estimate());
    rows.push(proc_vmcore());
    rows.extend(codecs());
    rows
}

/// Requests of the throttled disk are answered after the takeover. The machine is not stopped in this one: QEMU finishes all
/// requests when it stops a machine.
fn pending_requests() -> Row {
    let expectation = Expectation::takeover().watched(Watch::Trace).and_active(Device::SLOW_DISK);
    Row::new("pending-requests", Scenario::plain(Flavour::Cloud), expectation)
}

/// The kernel whose debug information is here: `crash` and drgn need it.
fn made_dumps() -> Row {
    let expectation = Expectation::takeover().and_made_dumps();
    Row::new("made-dumps", Scenario::plain(Flavour::Cloud), expectation)
}

/// What the page says of a crash, of kernels that carry their symbols in three different ways; and how a browser shows it, which is a
/// large package that nothing else takes: without one that row fails.
fn summary_pages() -> Vec<Row> {
    let row = |name: &str, kernel, emulator| {
        let scenario = Scenario { cpus: 2, emulator, ..Scenario::plain(kernel) };
        Row::new(name, scenario, Expectation::takeover().and_summary())
    };
    let newer = [("summary-page-backports", Flavour::Backports), ("summary-page-testing", Flavour::Testing)];
    let newer = newer.map(|(name, kernel)| row(name, kernel, Emulator::Backports).only_among_all());
    let shown = Expectation::takeover().and_summary_in_browser();
    let shown = Row::new("summary-page-browser", Scenario::plain(Flavour::Cloud), shown).only_among_all();
    let installed = row("summary-page", Flavour::Cloud, Emulator::Installed);
    [installed, shown].into_iter().chain(newer).collect()
}

/// The kernels that record memory errors, one for each way in which types of pages are marked. QEMU 7.2 now and then turns
/// the flags that `cmpxchg16b` leaves into values that no processor has, and newer kernels die of this while they boot.
fn every_kind_of_page() -> Vec<Row> {
    let row = |kernel: Flavour| {
        let emulator = if kernel == Flavour::Amd64 { Emulator::Installed } else { Emulator::Backports };
        let scenario = Scenario { emulator, memory_use: MemoryUse::EveryKind, ..Scenario::plain(kernel) };
        let name = format!("every-kind-of-page-{}", kernel.name());
        Row::new(&name, scenario, Expectation::takeover().and_every_level())
    };
    [Flavour::Amd64, Flavour::Backports, Flavour::Testing].map(row).into()
}

/// What `holdover doctor` estimates of a dump, beside the dump.
fn estimate() -> Row {
    let scenario = Scenario { memory_use: MemoryUse::EveryKind, ..Scenario::plain(Flavour::Amd64) };
    Row::new("estimate", scenario, Expectation::takeover().and_estimated()).only_among_all()
}

/// The codecs other than the default.
fn codecs() -> Vec<Row> {
    let row = |codec: Codec| {
        let scenario = Scenario { codec, ..Scenario::plain(Flavour::Cloud) };
        let name = format!("codec-{}", codec.name());
        Row::new(&name, scenario, Expectation::takeover().and_codec(codec))
    };
    [Codec::Lzo, Codec::Zstd, Codec::None].map(row).into()
}

/// The same kernel takes the dump as stock kdump does it. (By the other system call, a range of RAM ends within a page, which
/// makedumpfile loses.)
fn proc_vmcore() -> Row {
    let stock = Scenario {
        capture: Capture::Stock,
        reserved_mib: stock::RESERVED_MIB,
        ..Scenario::plain(Flavour::Cloud)
    };
    Row::new("proc-vmcore", stock, Expectation::stock_dumps())
}
