//! Where a dump goes, and what else may be there.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use dumpfile::Dump;
use rustix::fs::{FileType, FlockOperation, Mode, flock, mknodat};

use crate::bench::{Bench, json, stderr, wrong_pages};

#[test]
fn what_is_no_regular_file_is_never_replaced() {
    let bench = Bench::new();
    symlink("core", bench.path("link")).unwrap();
    symlink("nowhere", bench.path("dangling")).unwrap();
    fs::create_dir(bench.path("folder")).unwrap();
    let folder = File::open(&bench.folder).unwrap();
    mknodat(&folder, "pipe", FileType::Fifo, Mode::RWXU, 0).unwrap();
    for (name, is) in
        [("link", "a link"), ("dangling", "a link"), ("folder", "a folder"), ("pipe", "a device or a pipe")]
    {
        let said = bench.fail(&["--force", "core", name]);
        assert!(said.contains(&format!("{name} is {is}")), "{said}");
    }
    assert!(fs::symlink_metadata(bench.path("link")).unwrap().is_symlink());
    assert!(fs::metadata(bench.path("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn a_name_that_cannot_be_given_is_refused_before_the_work() {
    let bench = Bench::new();
    let too_long = "n".repeat(256);
    for (name, why) in
        [("-", "./-"), ("new/", "no name of a file"), ("..", "a folder"), (&*too_long, "too long")]
    {
        let said = bench.fail(&["--force", "core", name]);
        assert!(said.contains(why), "{said}");
    }
    let long = "n".repeat(255);
    assert_eq!(bench.run(&["core", &long]).status.code(), Some(0), "it is just not too long");
    assert_eq!(bench.run(&["core", "./-"]).status.code(), Some(0));
    assert_eq!(fs::read_dir(&bench.folder).unwrap().count(), 3);
}

#[test]
fn nobody_else_may_read_the_kernels_memory() {
    let bench = Bench::new();
    fs::write(bench.path("out"), "old").unwrap();
    fs::set_permissions(bench.path("out"), Permissions::from_mode(0o666)).unwrap();
    assert_eq!(bench.run(&["--force", "core", "out"]).status.code(), Some(0));
    assert_eq!(fs::metadata(bench.path("out")).unwrap().mode() & 0o7777, 0o600);
}

/// The lock is what a run that is still busy holds.
#[test]
fn two_runs_do_not_write_to_one_file() {
    let bench = Bench::new();
    let busy = File::create(bench.path("out.unfinished")).unwrap();
    flock(&busy, FlockOperation::LockExclusive).unwrap();
    let said = bench.fail(&["--force", "core", "out"]);
    assert!(said.contains("another run is writing out.unfinished"), "{said}");
    drop(busy);
    assert_eq!(bench.run(&["core", "out"]).status.code(), Some(0), "an earlier run left it");
    assert!(Dump::open(&bench.path("out")).unwrap().is_complete());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let bench = Bench::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
    command.current_dir(&bench.folder).args(["makedump", "--json", "core", "out"]);
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(run.stdout.take());
    let mut said = String::new();
    run.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((run.wait().unwrap().code(), &*said), (Some(0), ""));
}

/// Linux lets root start any number, so the command runs as somebody else.
#[test]
fn where_no_thread_can_be_started_one_does_all_the_work() {
    let bench = Bench::new();
    fs::set_permissions(&bench.folder, Permissions::from_mode(0o777)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_holdover"), bench.path("holdover")).unwrap();
    let somebody = if rustix::process::geteuid().is_root() {
        "exec setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps=-all --bounding-set=-all"
    } else {
        "exec"
    };
    let script = format!("ulimit -u 1; {somebody} ./holdover makedump --json --threads 4 core out");
    let output = Command::new("bash").current_dir(&bench.folder).args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(json(&output)["complete"], true);
    assert!(wrong_pages(&Dump::open(&bench.path("out")).unwrap()).is_empty());
}
