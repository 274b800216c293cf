//! Delivers to a real `sshd` on loopback. The row `s3-and-ssh-deliveries` runs this: it takes openssh-server and root.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use delivery::{Delivered, DeliveryError, Ledger, Parcel, Settings, SshSettings, Target, deliver};
use tempfile::TempDir;

/// A server with keys of its own, which is killed at the end.
struct Bench {
    folder: TempDir,
    port: u16,
    server: Child,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for key in ["host", "client"] {
            let mut make = Command::new("ssh-keygen");
            assert!(
                make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key)).status().unwrap().success()
            );
        }
        let shown = |name: &str| path(name).display().to_string();
        let server = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PidFile none\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n",
            shown("host"),
            shown("client.pub")
        );
        fs::write(path("server.conf"), server).unwrap();
        let host_key = fs::read_to_string(path("host.pub")).unwrap();
        fs::write(path("known"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        let client = format!(
            "Host *\nIdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nStrictHostKeyChecking yes\n",
            shown("client"),
            shown("known")
        );
        fs::write(path("client.conf"), client).unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(path("server.conf")).stderr(Stdio::null());
        let bench = Self { port, server: command.spawn().unwrap(), folder };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "sshd does not listen");
            thread::sleep(Duration::from_millis(50));
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn parcel(&self) -> Parcel {
        let folder = self.path("crash");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("vmcore"), vec![7; 3 << 20]).unwrap();
        fs::write(folder.join("holdover.json"), "{}").unwrap();
        let files = vec!["vmcore".into(), "holdover.json".into()];
        Parcel { folder, name: "web1-2026-11-29T22-05-00Z".into(), files }
    }

    fn send(&self, to: &Path, config: &str) -> Result<Delivered, DeliveryError> {
        self.send_within(to, config, Duration::from_secs(120))
    }

    fn send_within(&self, to: &Path, config: &str, limit: Duration) -> Result<Delivered, DeliveryError> {
        let target: Target = format!("ssh://root@127.0.0.1:{}{}", self.port, to.display()).parse().unwrap();
        let settings =
            Settings { ssh: SshSettings { config: Some(self.path(config)) }, ..Settings::default() };
        let mut ledger = Ledger::open(&self.path("uploads.json"));
        deliver(&target, &self.parcel(), &settings, &mut ledger, limit, &|_| ())
    }
}

const SENT_ANEW: Delivered = Delivered { sent: (3 << 20) + 2, there: 0 };

/// Makes the folder that a delivery which is cut off leaves.
fn unfinished(to: &Path) -> PathBuf {
    let hash = twox_hash::XxHash64::oneshot(0, b"{}");
    let folder = to.join(format!("web1-2026-11-29T22-05-00Z.{hash:016x}.unfinished"));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
#[ignore = "takes openssh-server and root: `cargo xtask test --only s3-and-ssh` runs it"]
fn a_file_that_lost_its_end_or_was_not_synced_is_sent_anew() {
    let mut torn = vec![7; 2 << 20];
    torn[(2 << 20) - 512..].fill(0);
    for left in [torn, vec![7; 3 << 20], vec![0; 3 << 20]] {
        let bench = Bench::new();
        let to = bench.path("srv");
        fs::write(unfinished(&to).join("vmcore.part"), left).unwrap();
        assert_eq!(bench.send(&to, "client.conf").unwrap(), SENT_ANEW);
        assert_eq!(fs::read(to.join("web1-2026-11-29T22-05-00Z/vmcore")).unwrap(), vec![7; 3 << 20]);
    }
}

#[test]
#[ignore = "takes openssh-server and root: `cargo xtask test --only s3-and-ssh` runs it"]
fn files_of_another_crash_are_neither_gone_on_with_nor_taken_for_this_one() {
    let bench = Bench::new();
    let to = bench.path("srv");
    let foreign = to.join("web1-2026-11-29T22-05-00Z.unfinished");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("vmcore"), vec![8; 1 << 20]).unwrap();
    assert_eq!(bench.send(&to, "client.conf").unwrap(), SENT_ANEW);
    let whole = to.join("web1-2026-11-29T22-05-00Z");
    assert_eq!(fs::read(whole.join("vmcore")).unwrap(), vec![7; 3 << 20]);
    fs::write(whole.join("holdover.json"), "[]").unwrap();
    let error = bench.send(&to, "client.conf").unwrap_err();
    assert!(matches!(error, DeliveryError::Taken { .. }), "{error}");
}

#[test]
#[ignore = "takes openssh-server and root: `cargo xtask test --only s3-and-ssh` runs it"]
fn all_connections_of_a_delivery_have_one_time() {
    let bench = Bench::new();
    let config = fs::read_to_string(bench.path("client.conf")).unwrap();
    fs::write(bench.path("slow.conf"), format!("{config}Match exec \"sleep 4\"\n")).unwrap();
    let error = bench.send_within(&bench.path("srv"), "slow.conf", Duration::from_secs(10)).unwrap_err();
    assert!(matches!(error, DeliveryError::TooLong { .. }), "{error}");
}

#[test]
#[ignore = "takes openssh-server and root: `cargo xtask test --only s3-and-ssh` runs it"]
fn a_folder_comes_whole_and_what_is_there_is_not_sent_again() {
    let bench = Bench::new();
    let to = bench.path("srv");
    let unfinished = unfinished(&to);
    fs::write(unfinished.join("vmcore.part"), vec![7; 1 << 20]).unwrap();
    let delivered = bench.send(&to, "client.conf").unwrap();
    assert_eq!(delivered, Delivered { sent: (2 << 20) + 2, there: 1 << 20 });
    let whole = to.join("web1-2026-11-29T22-05-00Z");
    assert_eq!(fs::read(whole.join("vmcore")).unwrap(), vec![7; 3 << 20]);
    assert!(whole.join("holdover.json").exists() && !unfinished.exists());
    let again = bench.send(&to, "client.conf").unwrap();
    assert_eq!(again, Delivered { sent: 0, there: (3 << 20) + 2 });
}

#[test]
#[ignore = "takes openssh-server and root: `cargo xtask test --only s3-and-ssh` runs it"]
fn a_folder_that_is_not_there_is_made_and_a_key_that_is_not_known_is_told() {
    let bench = Bench::new();
    let delivered = bench.send(&bench.path("new"), "client.conf").unwrap();
    assert_eq!(delivered.there, 0);
    let other = fs::read_to_string(bench.path("client.conf")).unwrap().replace("/client", "/host");
    fs::write(bench.path("other.conf"), other).unwrap();
    let refused = bench.send(&bench.path("new"), "other.conf").unwrap_err().to_string();
    assert!(refused.contains("Permission denied") || refused.contains("Connection closed"), "{refused}");
    assert!(refused.contains("must work for root without a password"), "{refused}");
}
