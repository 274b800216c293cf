//! Checks whether this host is ready for a crash, and says what to do where it is not.
//!
//! Each family of findings has a module here. A new problem is a line in the list of codes of `finding`, the place that finds it, and a
//! section of `docs/messages.md`, which a test compares with that list.
//!
//! | module | what it looks at |
//! |---|---|
//! | `configuration` | whether the configuration is understood |
//! | `reservation` | the memory that is set aside |
//! | `iommu` | whether IOMMUs translate, and in which mode |
//! | `memory` | whether the capture kernel can read it |
//! | `dma` | which devices go on after a panic, and what they reach |
//! | `firmware` | where ACPI's tables begin |
//! | `permission` | who may load, lockdown, Secure Boot |
//! | `disks` | disks, and whether there is a driver for each |
//! | `area` | dump areas |
//! | `watchdogs` | timers that reset the machine |
//! | `rivals` | services that load other crash kernels |
//! | `fallback` | the kernel to which the capture kernel hands over |
//! | `capture_kernel` | what is loaded |
//! | `panics` | what ends in a panic |
//! | `room` | whether a dump of now fits into the areas, and its copy where dumps are collected |
//! | `tested` | what the last crash on request showed |

mod area;
mod capture_kernel;
mod configuration;
mod disks;
mod dma;
mod fallback;
mod finding;
mod firmware;
mod iommu;
mod machine;
mod memory;
mod panics;
mod permission;
mod reservation;
mod rights;
mod rivals;
mod room;
mod tested;
mod watchdogs;

use self::area::Areas;
pub use self::finding::{Code, Finding, State, Subject};
use self::machine::Machine;
use self::rights::Rights;
use crate::areas::AreaError;
use crate::config::Configuration;
use crate::progress::Progress;
use crate::{crash_test, kexec, loaded, sysfs};

/// The result of all checks.
#[derive(Debug)]
pub struct Diagnosis {
    /// What was found, always in this order.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether a crash would be dumped.
    pub fn is_ready(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding.state, State::Ok | State::Warning))
    }
}

/// What is in the way of a dump on this machine and `holdover setup` does not change: no area, configuration or reservation helps.
pub fn obstacles(configuration: &Configuration) -> Result<Vec<Finding>, AreaError> {
    let machine = Machine::running();
    let rights = Rights::of(&machine.read("proc/self/status"));
    let running = machine.read("proc/cmdline");
    let mut findings = heeding_fallback(of_machine(&machine, rights, &running)?, configuration);
    findings.retain(|finding| finding.state == State::Missing);
    Ok(findings)
}

/// The findings, where the configuration may name a kernel that takes the dump in the capture kernel's place.
fn heeding_fallback(findings: Vec<Finding>, configuration: &Configuration) -> Vec<Finding> {
    match configuration.fallback {
        None => findings,
        Some(_) => findings.into_iter().map(Finding::with_fallback).collect(),
    }
}

/// Checks what the machine, its firmware and its kernel are.
fn of_machine(machine: &Machine, rights: Rights, running: &str) -> Result<Vec<Finding>, AreaError> {
    let mut findings = vec![iommu::check(machine)];
    findings.extend(memory::check(machine));
    findings.extend([
        dma::check(machine),
        firmware::check(&machine.path("sys"), running),
        permission::check(machine, rights, kexec::refusal()),
        disks::check(&sysfs::block_devices()?),
    ]);
    Ok(findings)
}

/// Checks everything that a host needs. Without the rights of root it sees less, and says so.
/// The steps of `progress` are pages of memory.
pub fn diagnose(progress: &dyn Progress) -> Result<Diagnosis, AreaError> {
    let machine = Machine::running();
    let rights = Rights::of(&machine.read("proc/self/status"));
    let running = machine.read("proc/cmdline");
    let (configuration, refused) = configuration::check(Configuration::of_host());
    let loaded = loaded::areas();
    let Areas { asked, all: areas, lost } = Areas::of_host(&loaded, &configuration.areas)?;
    let estimate = room::estimate(&configuration, progress);
    let mut findings = Vec::from_iter(refused);
    let (reserved, needed) =
        (kexec::reserved().unwrap_or(0), crate::reservation::needed(&machine.path("sys")));
    findings.push(reservation::check(reserved, needed, &running));
    findings.extend(of_machine(&machine, rights, &running)?);
    findings.push(area::check(rights, asked, &areas, &lost));
    findings.extend(area::left_out(&configuration.areas, &loaded));
    findings.extend(room::check(rights, &areas[..asked], &estimate));
    findings.extend([watchdogs::check(&crate::watchdogs::find()), rivals::check(&machine)]);
    findings.extend(fallback::check(
        &machine,
        rights,
        &configuration,
        fallback::Memory { reserved, kept: needed },
    ));
    findings.extend([capture_kernel::check(rights, &areas), tested::check(crash_test::history())]);
    findings.extend(panics::check(&machine));
    findings.extend(room::collecting(&configuration.collect.directory, &estimate));
    Ok(Diagnosis { findings: heeding_fallback(findings, &configuration) })
}
