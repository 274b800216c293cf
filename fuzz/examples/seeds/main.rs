//! Writes the seeds: for each fuzz target a few small, realistic inputs from which the fuzzer starts.
//!
//! ```console
//! $ cargo run --manifest-path fuzz/Cargo.toml --example seeds
//! ```
//!
//! With `--check` it writes none, and fails if one is not as it would write it.

#![forbid(unsafe_code)]

mod area;
mod core_file;
mod core_header;
mod display;
mod dmar;
mod dump;
mod dumpfile;
mod fallback;
mod firmware;
mod ground;
mod ivrs;
mod log;
mod pci;
mod postmortem;
mod reach;
mod record;
mod scenario;
mod takeover;
mod vmd;
mod watchdog;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

// What is built for the fuzzer calls the fuzzer's counters.
use libfuzzer_sys as _;

/// The name of an input, and its bytes.
type Seed = (&'static str, Vec<u8>);

fn main() -> io::Result<()> {
    let targets = [
        ("dmar", dmar::seeds()),
        ("display", display::seeds()),
        ("core_header", core_header::seeds()),
        ("core_file", core_file::seeds()),
        ("pci", pci::seeds()),
        ("postmortem", postmortem::seeds()),
        ("reach", reach::seeds()),
        ("dump", dump::seeds()),
        ("dumpfile", dumpfile::seeds()),
        ("area", area::seeds()),
        ("fallback", fallback::seeds()),
        ("firmware", firmware::seeds()),
        ("ground", ground::seeds()),
        ("ivrs", ivrs::seeds()),
        ("log", log::seeds()),
        ("record", record::seeds()),
        ("scenario", scenario::seeds()),
        ("takeover", takeover::seeds()),
        ("takeover_amdvi", takeover::amdvi_seeds()),
        ("unfinished", dump::unfinished_seeds()),
        ("vmd", vmd::seeds()),
        ("watchdog", watchdog::seeds()),
    ];
    let is_check = env::args().skip(1).eq(["--check"]);
    targets
        .iter()
        .try_for_each(|(target, seeds)| if is_check { check(target, seeds) } else { write(target, seeds) })
}

/// Returns an error if the files are others than these.
fn check(target: &str, seeds: &[Seed]) -> io::Result<()> {
    let folder = folder(target);
    let names =
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<BTreeSet<_>>>()?;
    let mut stale = names != seeds.iter().map(|(name, _)| OsString::from(name)).collect();
    for (name, bytes) in seeds {
        stale |= fs::read(folder.join(name)).ok().as_ref() != Some(bytes);
    }
    if stale {
        Err(io::Error::other(format!("{} is stale: the example `seeds` writes it anew", folder.display())))
    } else {
        Ok(())
    }
}

fn write(target: &str, seeds: &[Seed]) -> io::Result<()> {
    let folder = folder(target);
    fs::create_dir_all(&folder)?;
    seeds.iter().try_for_each(|(name, bytes)| fs::write(folder.join(name), bytes))
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}
