//! Dump areas: several of them, files, and power that fails.

use crate::crashes::expectation::Expectation;
use crate::crashes::row::Row;
use crate::guests::kernels::Flavour;
use crate::machines::scenario::Scenario;
use crate::machines::scenario::device::{DiskModel, DiskTrouble};
use crate::machines::scenario::disk::Disk;
use crate::machines::scenario::events::End;
use crate::machines::scenario::file_system::FileFate;

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = areas();
    rows.extend(file_fates());
    rows.extend(power_cuts());
    rows
}

/// Several areas, and an area that is not free.
fn areas() -> Vec<Row> {
    let on = |disk| Scenario { disk, ..Scenario::plain(Flavour::Cloud) };
    let often = |panics_before| Scenario { panics_before, ..Scenario::plain(Flavour::Cloud) };
    let whole = Expectation::complete_dump;
    let rows = [
        (
            "second-area-first-missing",
            on(Disk::AfterMissing),
            whole().and_says("no disk takes the dump to area 00000000-1111-").and_readable_in_place(),
        ),
        (
            "second-area-first-fails",
            on(Disk::AfterFailing),
            whole().and_says("begins again").and_first_area_partial(),
        ),
        ("file-ext4", on(Disk::FileExt4), whole()),
        ("file-xfs", on(Disk::FileXfs), whole()),
        ("file-btrfs", on(Disk::FileBtrfs), whole()),
        (
            "two-panics",
            on(Disk::HoldsDump),
            Expectation::no_dump()
                .and_says("of an earlier crash, which nobody has collected")
                .and_says("Fetch the earlier one"),
        ),
        ("fifty-panics-the-first-four", often(3), whole()),
    ];
    let hangs = Scenario { disk_trouble: Some(DiskTrouble::Hang), ..on(Disk::AfterFailing) };
    let all = [
        ("fifty-panics", often(49), whole()),
        (
            "second-area-first-hangs",
            hangs,
            whole().and_says("is there another area?").and_first_area_partial(),
        ),
        ("volume", on(Disk::Volume), whole()),
    ];
    let row = |(name, scenario, expectation)| Row::new(name, scenario, expectation);
    rows.map(row).into_iter().chain(all.map(row).map(Row::only_among_all)).collect()
}

/// The power is cut at many instants of one dump, whose disk is slow enough for several seals in between.
fn power_cuts() -> Vec<Row> {
    let rows = [
        ("power-cuts-virtio-blk", Flavour::Cloud, DiskModel::VirtioBlk),
        ("power-cuts-nvme", Flavour::Cloud, DiskModel::Nvme),
        ("power-cuts-ahci", Flavour::Amd64, DiskModel::Ahci),
    ];
    let recorded = |name: &str, scenario| {
        let scenario = Scenario { end: End::Recorded, ..scenario };
        Row::new(name, scenario, Expectation::complete_dump().and_power_cuts())
    };
    let row = |(name, kernel, disk_model)| recorded(name, Scenario { disk_model, ..Scenario::plain(kernel) });
    let part = Scenario { disk: Disk::Partition, ..Scenario::plain(Flavour::Cloud) };
    let part = recorded("power-cuts-partition", part).only_among_all();
    rows.map(row).into_iter().chain([part]).collect()
}

/// What becomes of a file that is the area after Holdover was loaded.
fn file_fates() -> Vec<Row> {
    let row = |name: &str, disk, file_fate, expectation: Expectation, said: &[&str]| {
        let scenario = Scenario { disk, file_fate, ..Scenario::plain(Flavour::Cloud) };
        let said = said.iter().fold(expectation, |all, words| all.and_guest_says(&format!("load: {words}")));
        Row::new(&format!("file-{name}-after-load"), scenario, said)
    };
    let whole = Expectation::complete_dump;
    let kept = ["refused: rm", "refused: mv", "refused: truncate", "refused: dd", "verified: 0"];
    let kept_and = |more: &[&'static str]| [&kept[..], more].concat();
    let moved = [
        "loose: 3",
        "repaired: 0",
        "holdover: the loaded capture",
        "dump area",
        "moved: 3 loaded: 0",
        "removed: 0",
    ];
    // Not only because of what the blocks hold by now: the label is what a file's blocks are known by.
    let replaced =
        || Expectation::others_files().and_says("no disk takes the dump").and_says(": label: no such record");
    vec![
        row("ext4-moved", Disk::FileExt4, FileFate::Moved, whole(), &moved),
        row("ext4-replaced", Disk::FileExt4, FileFate::Replaced, replaced(), &["dump area"]),
        row(
            "xfs-reflinked",
            Disk::FileXfs,
            FileFate::Tried,
            whole(),
            &kept_and(&["refused: cp", "done: xfs_fsr"]),
        ),
        row(
            "btrfs-reflinked",
            Disk::FileBtrfs,
            FileFate::Tried,
            whole(),
            &kept_and(&["refused: cp", "refused: btrfs"]),
        ),
        row("ext4-truncated", Disk::FileExt4, FileFate::Tried, whole(), &kept).only_among_all(),
        row("xfs-moved", Disk::FileXfs, FileFate::Moved, whole(), &moved).only_among_all(),
        row("btrfs-moved", Disk::FileBtrfs, FileFate::Moved, whole(), &moved).only_among_all(),
        row("xfs-replaced", Disk::FileXfs, FileFate::Replaced, replaced(), &["dump area"]).only_among_all(),
    ]
}
