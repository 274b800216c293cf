//! Development tasks: setup, build, package, run, demo, test, fuzz, core, compare, disk-speed, bench-dump.
//!
//! | modules | what they are for |
//! |---|---|
//! | [`tasks`] | one task each: `setup`, `build`, `package`, `run`, `demo`, `test`, `fuzz`, `core`, `compare`, `disk_speed`, `bench_dump` |
//! | [`sources`] | checks of the sources, which need no guest: `walls`, `packages`, `freestanding` |
//! | [`guests`] | what a guest runs: kernels from Debian's `archive`, an `initramfs`, Holdover's `image` and `tool`, `stock` kdump |
//! | [`debian`] | an administrator's side: the package, a Debian with systemd on which it is installed, and the days of that |
//! | [`machines`] | the machine that it runs on: `scenario`, `emulator`, `qemu` with `console`, `qmp`, `gdb`, `traffic`, `ram`, `files` |
//! | [`crashes`] | one `crash` from `boot` to reset, `damage` on the way, and the `matrix` of `row`s that the test runs |
//! | [`witnesses`] | what programs other than Holdover say of a crash, and what Holdover itself says |
//! | `cargo`, `paths`, `process`, `parallel` | what all of these use |

mod cargo;
mod crashes;
mod debian;
mod guests;
mod machines;
mod parallel;
mod paths;
mod process;
mod sources;
mod tasks;
mod witnesses;

use anyhow::Result;
use clap::Parser;

use tasks::{
    bench_dump, build, compare, compare_handover, core, demo, disk_speed, fuzz, package, run, setup, test,
};

/// Development tasks of Holdover
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    Setup(setup::Setup),
    Build(build::Build),
    Package(package::Package),
    Run(run::Run),
    Demo(demo::Demo),
    Test(test::Test),
    Fuzz(fuzz::Fuzz),
    Core(core::Core),
    Compare(compare::Compare),
    CompareHandover(compare_handover::CompareHandover),
    DiskSpeed(disk_speed::DiskSpeed),
    BenchDump(bench_dump::BenchDump),
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Setup(task) => task.run(),
        Task::Build(task) => task.run(),
        Task::Package(task) => task.run(),
        Task::Run(task) => task.run(),
        Task::Demo(task) => task.run(),
        Task::Test(task) => task.run(),
        Task::Fuzz(task) => task.run(),
        Task::Core(task) => task.run(),
        Task::Compare(task) => task.run(),
        Task::CompareHandover(task) => task.run(),
        Task::DiskSpeed(task) => task.run(),
        Task::BenchDump(task) => task.run(),
    }
}
