//! A host behind SSH, by the system's `sftp`: no shell is needed there, and the keys and known hosts of root are used.
//!
//! A folder is filled under the name `NAME.HASH.unfinished` and renamed at the end; the hash is that of the parcel's last file, so that
//! nobody else's files are gone on with. Each file is `FILE.part` until the server has synced it (`fsync@openssh.com`, where it can). One
//! that was begun is resumed behind its last byte if its end is read back as it was sent: the files of a parcel never change. A
//! connection that breaks leaves such a file; a server that lost its power may leave zeros at the end of one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use twox_hash::XxHash64;

use crate::target::SshHost;
use crate::{Delivered, DeliveryError, Parcel};

/// Bytes at the end of a file that was begun which are read back.
const TAIL: u64 = 1 << 20;

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
    let sftp = Sftp { host, settings, parcel, limit, start: Instant::now() };
    let whole = format!("{}/{}", host.folder, parcel.name);
    let lengths = lengths(parcel)?;
    let found = sftp.list(&whole)?;
    if !found.is_empty() {
        return sftp.delivered_before(&whole, &lengths, &found);
    }
    let unfinished = format!("{whole}.{:016x}.unfinished", hash(parcel)?);
    let there = sftp.list(&unfinished)?;
    let mut batch = vec![
        format!("-mkdir {}", host.folder),
        format!("-mkdir {unfinished}"),
        format!("chmod 700 {unfinished}"),
    ];
    let mut delivered = Delivered::default();
    for file in &parcel.files {
        let length = lengths[file];
        let resumed = sftp.resumed(&unfinished, &there, file, length)?;
        delivered.there += resumed;
        delivered.sent += length - resumed;
        if there.get(file) != Some(&length) {
            let (part, put) =
                (format!("{unfinished}/{file}.part"), if resumed > 0 { "reput" } else { "put" });
            batch.push(format!("{put} -f \"{}\" {part}", parcel.path(file).display()));
            batch.push(format!("chmod 600 {part}"));
            batch.push(format!("rename {part} {unfinished}/{file}"));
        }
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

/// The hash of the last file, which tells one parcel from another.
fn hash(parcel: &Parcel) -> Result<u64, DeliveryError> {
    let Some(last) = parcel.files.last() else { return Ok(0) };
    let path = parcel.path(last);
    let bytes = std::fs::read(&path).map_err(|source| DeliveryError::File { path, source })?;
    Ok(XxHash64::oneshot(0, &bytes))
}

fn lengths(parcel: &Parcel) -> Result<BTreeMap<String, u64>, DeliveryError> {
    let length = |file: &String| Ok((file.clone(), parcel.open(file)?.1));
    parcel.files.iter().map(length).collect()
}

struct Sftp<'a> {
    host: &'a SshHost,
    settings: &'a SshSettings,
    parcel: &'a Parcel,
    limit: Duration,
    start: Instant,
}

impl Sftp<'_> {
    /// The parcel is there if the folder of its name has all of the files, and the same last one.
    fn delivered_before(
        &self,
        whole: &str,
        lengths: &BTreeMap<String, u64>,
        found: &BTreeMap<String, u64>,
    ) -> Result<Delivered, DeliveryError> {
        let has_all = lengths.iter().all(|(file, length)| found.get(file) == Some(length));
        let last = self.parcel.files.last().filter(|_| has_all);
        match last {
            Some(last) if self.has_tail(&format!("{whole}/{last}"), last, lengths[last])? => {
                Ok(Delivered { sent: 0, there: lengths.values().sum() })
            }
            _ => Err(DeliveryError::Taken { folder: whole.to_owned() }),
        }
    }

    /// How many bytes of a file need not be sent again.
    fn resumed(
        &self,
        unfinished: &str,
        there: &BTreeMap<String, u64>,
        file: &str,
        length: u64,
    ) -> Result<u64, DeliveryError> {
        if there.get(file) == Some(&length) {
            return Ok(length);
        }
        let part = format!("{file}.part");
        // One that has all bytes was not synced: it is sent anew, for `sftp` syncs only what it sent.
        match there.get(&part).copied().filter(|found| (1..length).contains(found)) {
            Some(found) if self.has_tail(&format!("{unfinished}/{part}"), file, found)? => Ok(found),
            _ => Ok(0),
        }
    }

    /// Whether the first `length` bytes of a file of the parcel end like the file at `remote`, of that length.
    fn has_tail(&self, remote: &str, file: &str, length: u64) -> Result<bool, DeliveryError> {
        let tail = TAIL.min(length);
        let scratch = tempfile::NamedTempFile::new();
        let failed = |source: io::Error| DeliveryError::File { path: std::env::temp_dir(), source };
        let scratch = scratch.map_err(failed)?;
        // `reget` reads what is behind the end of the local file: that has a hole of the length of what is not wanted.
        scratch.as_file().set_len(length - tail).map_err(failed)?;
        self.run(&format!("-reget {remote} \"{}\"\n", scratch.path().display()))?;
        let (source, _) = self.parcel.open(file)?;
        let sent = read(&source, length - tail, tail);
        let sent = sent.map_err(|source| DeliveryError::File { path: self.parcel.path(file), source })?;
        Ok(read(scratch.as_file(), length - tail, tail).is_ok_and(|found| found == sent))
    }

    /// How long the delivery may still take.
    fn rest(&self) -> Duration {
        self.limit.saturating_sub(self.start.elapsed())
    }

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
        let said = said.recv_timeout(self.rest()).map_err(too_long)?;
        let complained = complained.recv_timeout(self.rest()).map_err(too_long)?;
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

fn read(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
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
