//! Development tasks: setup, build, run, demo, test, fuzz, core, compare, bench-dump.
//!
//! | modules | what they are for |
//! |---|---|
//! | `setup`, `build`, `run`, `demo`, `test`, `fuzz`, `core`, `compare`, `bench_dump` | one task each |
//! | `scenario`, `row`, `matrix` | what is varied, what a crash must show, and which crashes the test runs |
//! | `archive` | what is downloaded from Debian's archive: `kernels`, a newer `emulator` and newer readers |
//! | `crash` | one crash from boot to reset, with `initramfs`, `files`, `tool` |
//! | `stock` | stock kdump, which a crash can load in Holdover's place |
//! | `damage` | what is done to a dead kernel's tables before the takeover |
//! | `qemu` | the machine, with `console`, `qmp`, `gdb`, `traffic`, `ram`, `reserved` |
//! | `spread` | many measurements in three numbers |
//! | `witness`, `account` | what others say of a crash, and what Holdover itself says |

mod account;
mod archive;
mod bench_dump;
mod boot;
mod build;
mod bzimage;
mod compare;
mod console;
mod core;
mod crash;
mod damage;
mod demo;
mod emulator;
mod files;
mod fuzz;
mod gdb;
mod initramfs;
mod kernels;
mod matrix;
mod parallel;
mod paths;
mod process;
mod qemu;
mod qmp;
mod ram;
mod reserved;
mod row;
mod run;
mod scenario;
mod setup;
mod spread;
mod stock;
mod test;
mod tool;
mod traffic;
mod witness;

use anyhow::Result;
use clap::Parser;

/// Development tasks of Holdover
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    Setup(setup::Setup),
    Build(build::Build),
    Run(run::Run),
    Demo(demo::Demo),
    Test(test::Test),
    Fuzz(fuzz::Fuzz),
    Core(core::Core),
    Compare(compare::Compare),
    BenchDump(bench_dump::BenchDump),
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Setup(task) => task.run(),
        Task::Build(task) => task.run(),
        Task::Run(task) => task.run(),
        Task::Demo(task) => task.run(),
        Task::Test(task) => task.run(),
        Task::Fuzz(task) => task.run(),
        Task::Core(task) => task.run(),
        Task::Compare(task) => task.run(),
        Task::BenchDump(task) => task.run(),
    }
}
