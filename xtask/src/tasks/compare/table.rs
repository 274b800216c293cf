//! Prints the results as a table for people.

use std::fmt;

use super::contender::Contender;
use super::statistics::Standing;
use super::{CAVEAT, Comparison, Failure};
use crate::tasks::spread::float;

/// Above this, others were at work on the host.
const BUSY: f64 = 0.5;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell_what_was_run(f)?;
        tell_standings(&self.standings, f)?;
        self.standings.iter().try_for_each(|standing| tell_ratio(standing, f))?;
        for Failure { contender, run, why } in &self.failures {
            writeln!(f, "{contender} came to no dump in run {run}: {why}.")?;
        }
        writeln!(f, "{CAVEAT}")?;
        if self.host_load_before > BUSY {
            writeln!(f, "This host was busy before the first run: measure again when it is not.")?;
        }
        Ok(())
    }
}

impl Comparison {
    fn tell_what_was_run(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { qemu, kernel, scenario, host_processors, host_load_before, .. } = self;
        let runs = self.measurements.iter().map(|measured| measured.run).max().unwrap_or_default();
        writeln!(
            f,
            "\nDebian's {kernel} panics and is dumped at level 31 to a disk ({:?}) behind the IOMMU ({:?}'s).",
            scenario.disk_model, scenario.unit.iommu
        )?;
        writeln!(f, "Guest: {} MiB, {} processor; {qemu}, TCG.", scenario.memory_mib, scenario.cpus)?;
        writeln!(f, "Host: {host_processors} processors, load {host_load_before} before the first run.")?;
        writeln!(
            f,
            "Stock kdump: the same kernel, busybox, and makedumpfile, which writes straight to the raw disk,"
        )?;
        writeln!(f, "or `holdover makedump`, which writes to an ext4 file system.")?;
        writeln!(f, "Runs of each, in turn: {runs}. Seconds after the panic line, median (least – most):\n")
    }
}

fn tell_standings(standings: &[Standing], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "| | reserved MiB | loaded MiB | first line | ready | dump complete | kept pages | MB written | s per 10,000 pages |"
    )?;
    writeln!(f, "|---|---:|---:|---:|---:|---:|---:|---:|---:|")?;
    for standing in standings {
        let loaded = float(standing.loaded_bytes) / f64::from(1 << 20);
        writeln!(
            f,
            "| {} | {} | {loaded:.1} | {} | {} | {} | {:.0} | {:.1} | {} |",
            standing.contender,
            standing.reserved_mib,
            standing.panic_to_started_s,
            standing.panic_to_ready_s,
            standing.panic_to_complete_s,
            standing.pages_in_dump.median,
            standing.dump_bytes.median / 1e6,
            standing.seconds_per_10000_pages,
        )?;
    }
    writeln!(f, "\nReady: Holdover has taken over the IOMMU, stock kdump's kernel has started its init.")
}

fn tell_ratio(standing: &Standing, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Contender::Holdover(_) = standing.contender {
        return Ok(());
    }
    let Standing { contender, holdover_takes, holdover_takes_per_page, .. } = standing;
    writeln!(
        f,
        "Holdover's time with the same codec is {holdover_takes} of {contender}'s; per page {holdover_takes_per_page}."
    )
}
