//! Development tasks: setup, build, run, demo, test.

mod build;
mod bzimage;
mod console;
mod crash;
mod files;
mod gdb;
mod initramfs;
mod kernels;
mod paths;
mod process;
mod qemu;
mod qmp;
mod ram;
mod run;
mod scenario;
mod setup;
mod traffic;

use anyhow::Result;
use clap::Parser;

/// Development tasks of Holdover
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    Setup(setup::Setup),
    Run(run::Run),
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Setup(task) => task.run(),
        Task::Run(task) => task.run(),
    }
}
