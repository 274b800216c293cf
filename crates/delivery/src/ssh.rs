//! A host behind SSH, by the system's `sftp`: no shell is needed there, and the keys and known hosts of root are used.
//!
//! A folder is filled under the name `NAME.unfinished` and renamed at the end. A file that was begun is resumed behind its last byte:
//! the files of a parcel never change.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::target::SshHost;
use crate::{Delivered, DeliveryError, Parcel};

/// How a host is reached.
#[derive(Clone, Debug, Default)]
pub struct SshSettings {
    /// A configuration of `ssh` instead of root's.
    pub config: Option<PathBuf>,
}

/// Sends what is not there.
pub(crate) fn send(
    host: &SshHost,
    parcel: &Parcel,
    settings: &SshSettings,
    limit: Duration,
) -> Result<Delivered, DeliveryError> {
    let sftp = Sftp { host, settings, limit };
    let whole = format!("{}/{}", host.folder, parcel.name);
    let unfinished = format!("{whole}.unfinished");
    let lengths = lengths(parcel)?;
    if sftp.list(&whole)? == lengths {
        return Ok(Delivered { sent: 0, there: lengths.values().sum() });
    }
    let there = sftp.list(&unfinished)?;
    let mut batch = vec![
        format!("-mkdir {}", host.folder),
        format!("-mkdir {unfinished}"),
        format!("chmod 700 {unfinished}"),
    ];
    let mut delivered = Delivered::default();
    for file in &parcel.files {
        let (length, found) = (lengths[file], there.get(file).copied());
        let resumed = found.filter(|found| *found <= length).unwrap_or(0);
        delivered.there += resumed;
        delivered.sent += length - resumed;
        let put = if resumed > 0 { "reput" } else { "put" };
        if found != Some(length) {
            batch.push(format!("{put} \"{}\" {unfinished}/{file}", parcel.path(file).display()));
        }
        batch.push(format!("chmod 600 {unfinished}/{file}"));
    }
    batch.push(format!("rename {unfinished} {whole}\n"));
    sftp.run(&batch.join("\n"))?;
    let found = sftp.list(&whole)?;
    match lengths.iter().find(|(file, length)| found.get(*file) != Some(*length)) {
        None => Ok(delivered),
        Some((file, sent)) => Err(DeliveryError::NotThere {
            object: format!("{whole}/{file}"),
            found: found.get(file).copied().unwrap_or(0),
            sent: *sent,
        }),
    }
}

fn lengths(parcel: &Parcel) -> Result<BTreeMap<String, u64>, DeliveryError> {
    let length = |file: &String| Ok((file.clone(), parcel.open(file)?.1));
    parcel.files.iter().map(length).collect()
}

struct Sftp<'a> {
    host: &'a SshHost,
    settings: &'a SshSettings,
    limit: Duration,
}

impl Sftp<'_> {
    /// The lengths of the files in a folder; none if there is no such folder.
    fn list(&self, folder: &str) -> Result<BTreeMap<String, u64>, DeliveryError> {
        let said = self.run(&format!("-ls -ln {folder}\n"))?;
        let file = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // Rights, links, user, group, length, three of the time, name.
            let [rights, _, _, _, length, _, _, _, name] = fields[..] else { return None };
            let name = name.rsplit('/').next()?.to_owned();
            rights.starts_with('-').then_some((name, length.parse().ok()?))
        };
        Ok(said.lines().filter_map(file).collect())
    }

    /// Runs a batch, and returns what it printed.
    fn run(&self, batch: &str) -> Result<String, DeliveryError> {
        let mut command = self.command();
        let failed = |said: String| DeliveryError::Sftp { said, command: self.tried_by_hand() };
        let child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let mut child = Killed(child);
        if let Some(mut input) = child.0.stdin.take() {
            // A program that ends early says why.
            let _ = input.write_all(batch.as_bytes());
        }
        let said = gather(child.0.stdout.take());
        let complained = gather(child.0.stderr.take());
        let too_long = |_| DeliveryError::TooLong { after: self.limit };
        let said = said.recv_timeout(self.limit).map_err(too_long)?;
        let complained = complained.recv_timeout(self.limit).map_err(too_long)?;
        let status = child.0.wait().map_err(|error| failed(error.to_string()))?;
        if status.success() {
            return Ok(said);
        }
        let last = complained.lines().rev().find(|line| !line.trim().is_empty());
        Err(failed(last.unwrap_or("it said nothing").trim().to_owned()))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("sftp");
        command.args(["-q", "-b", "-", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"]);
        command.args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]);
        if let Some(config) = &self.settings.config {
            command.arg("-F").arg(config);
        }
        if let Some(port) = self.host.port {
            command.args(["-P", &port.to_string()]);
        }
        command.arg(&self.host.login);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }

    fn tried_by_hand(&self) -> String {
        let port = self.host.port.map_or(String::new(), |port| format!("-P {port} "));
        format!("sftp {port}{}", self.host.login)
    }
}

/// A program that does not outlive its owner.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself. `ssh`, which it started, ends with its pipes.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gather(from: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What was read before an error is still worth showing.
            let _ = from.read_to_end(&mut bytes);
        }
        send.send(String::from_utf8_lossy(&bytes).into_owned())
    });
    receive
}
