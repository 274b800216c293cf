//! The row `debian-cycle-ansible`: Ansible plays the example role of `docs/fleet` on a machine, first without changing anything, then for real,
//! then once more, which changes nothing; and the machine is ready for a panic.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::machine::{Board, Machine};
use super::rows::{Stage, is_loaded};
use super::system::{Release, System};
use super::troubles::{add_bootloader, lacks};
use crate::{paths, process};

/// Ansible itself runs on the machine that it sets up. debootstrap does not find what provides a package of another name, which the last does.
const PACKAGES: [&str; 3] = ["ansible-core", "python3-apt", "python3-cffi-backend"];

/// The emulated machine has no room for the role's four GiB, no object store, and no node exporter.
const PLAY: &str = "cd /root/ansible && ANSIBLE_NOCOLOR=1 ansible-playbook --inventory localhost, --connection local \
    --extra-vars 'holdover_area_size=256M holdover_metrics=/root/holdover.prom' site.yml";

/// Plays the role.
pub(super) fn problems(name: &str, stage: &Stage) -> Result<Vec<String>> {
    let system = System::fetch_with(Release::Bookworm, &PACKAGES)?;
    let mut machine = Machine::boot(name, &system, Board::default())?;
    add_bootloader(&mut machine)?;
    machine.put(&playbook(&machine, stage)?)?;
    let mut problems = Vec::new();
    machine.run(&format!("{PLAY} --syntax-check"))?;
    let checked = machine.run_patiently(&format!("{PLAY} --check"))?;
    problems.extend(lacks("ansible-playbook --check", &checked, &["failed=0"]));
    if machine.try_run("test -e /usr/bin/holdover")?.status == 0 {
        problems.push("a check installs the package".to_owned());
    }
    let played = machine.run_patiently(PLAY)?;
    problems.extend(lacks("ansible-playbook", &played, &["failed=0", "RUNNING HANDLER"]));
    let again = machine.run_patiently(PLAY)?;
    problems.extend(lacks("ansible-playbook once more", &again, &["changed=0", "failed=0"]));
    // Ends with 0 only where the next panic would be dumped.
    machine.run("holdover status")?;
    if !is_loaded(&mut machine)? {
        problems.push("after the role was played nothing is loaded".to_owned());
    }
    let configuration = machine.run("holdover config show --json")?;
    let words = ["\"keep\": 5", "/root/holdover.prom"];
    problems.extend(lacks("holdover config show", &configuration, &words));
    Ok(problems)
}

/// The playbook's folder, with the package under the name that the role has for it.
fn playbook(machine: &Machine, stage: &Stage) -> Result<PathBuf> {
    let folder = machine.files().kept().join("ansible");
    let source = paths::repository().join("docs/fleet/ansible");
    process::stdout(Command::new("cp").arg("-r").arg(source).arg(&folder))?;
    fs::copy(&stage.deb.path, folder.join("holdover.deb")).context("cannot copy the package")?;
    Ok(folder)
}
