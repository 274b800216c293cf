//! Writes the seeds: for each fuzz target a few small, realistic inputs from which the fuzzer starts.
//!
//! ```console
//! $ cargo run --manifest-path fuzz/Cargo.toml --example seeds
//! ```

#![forbid(unsafe_code)]

mod area;
mod core_file;
mod core_header;
mod dmar;
mod dump;
mod dumpfile;
mod firmware;
mod pci;
mod reach;
mod record;
mod scenario;
mod takeover;
mod watchdog;

use std::path::Path;
use std::{fs, io};

/// The name of an input, and its bytes.
type Seed = (&'static str, Vec<u8>);

fn main() -> io::Result<()> {
    write("dmar", dmar::seeds())?;
    write("core_header", core_header::seeds())?;
    write("core_file", core_file::seeds())?;
    write("pci", pci::seeds())?;
    write("reach", reach::seeds())?;
    write("dump", dump::seeds())?;
    write("dumpfile", dumpfile::seeds())?;
    write("area", area::seeds())?;
    write("firmware", firmware::seeds())?;
    write("record", record::seeds())?;
    write("scenario", scenario::seeds())?;
    write("takeover", takeover::seeds())?;
    write("unfinished", dump::unfinished_seeds())?;
    write("watchdog", watchdog::seeds())
}

fn write(target: &str, seeds: Vec<Seed>) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    for (name, bytes) in seeds {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
