//! Collects a crash, and delivers it to a real server on loopback that speaks S3. The row `s3-and-ssh-deliveries` runs this: it takes
//! Python with moto and boto3, from which the server comes.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use area::{Area, Completeness, read_label};
use dumpfile::BlockFile;
use machine::BlockDevice;
use serde_json::Value;
use tempfile::TempDir;

/// Bytes of the dump: five parts.
const DUMP: usize = 40 << 20;
const MIB: u64 = 1 << 20;

/// The Python that has moto.
fn python() -> Command {
    Command::new(std::env::var_os("HOLDOVER_PYTHON").unwrap_or("python3".into()))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that speaks S3, which is killed at the end.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts it; after so many requests it takes known keys only.
    fn start(unchecked: Option<u32>) -> Self {
        let port = free_port();
        let mut command = python();
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        if let Some(count) = unchecked {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", count.to_string());
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(120), "moto does not listen");
            thread::sleep(Duration::from_millis(100));
        }
        server
    }

    /// Runs Python with `client`, which makes clients of the server's services, and returns what it prints.
    fn ask(&self, script: &str) -> String {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let client = format!(
            "import boto3\ndef client(name):\n    return boto3.client(name, endpoint_url='{endpoint}', region_name='us-east-1',\n        \
             aws_access_key_id='any', aws_secret_access_key='any')\n{script}\n"
        );
        let output = python().args(["-c", &client]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The names and lengths of all objects.
    fn objects(&self) -> Vec<(String, u64)> {
        let said = self.ask(
            "for o in client('s3').list_objects_v2(Bucket='crashes').get('Contents', []): print(o['Key'], o['Size'])",
        );
        let object = |line: &str| {
            let (name, size) = line.split_once(' ').unwrap();
            (name.to_owned(), size.parse().unwrap())
        };
        said.lines().map(object).collect()
    }
}

/// A connection to a server that is cut after so many bytes, for good.
struct Cut {
    port: u16,
    sent: Arc<AtomicU64>,
}

impl Cut {
    fn after(bytes: u64, to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if counted.load(Ordering::Relaxed) < bytes {
                    let counted = Arc::clone(&counted);
                    thread::spawn(move || carry(&client, to, &counted, bytes));
                }
            }
        });
        Self { port, sent }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn carry(client: &TcpStream, to: u16, sent: &AtomicU64, limit: u64) {
    let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || std::io::copy(&mut answers, &mut back));
    let (mut from, mut into, mut buffer) = (client, &server, [0; 16384]);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if sent.fetch_add(read as u64, Ordering::Relaxed) > limit || into.write_all(&buffer[..read]).is_err()
        {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

/// A root folder with an area that holds a dump, and a configuration.
struct Host {
    folder: TempDir,
}

impl Host {
    fn with_dump() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
        let host = Self { folder };
        let format = host.holdover("key").arg("format").arg(&disk).output().unwrap();
        assert!(format.status.success(), "{}", String::from_utf8_lossy(&format.stderr));
        let mut file = BlockFile::open_exclusive(&disk).unwrap();
        let uuid = read_label(&mut file, 0).unwrap().uuid;
        let mut dump = Area::open(file, 0, uuid).unwrap().begin().unwrap();
        for offset in (0..DUMP).step_by(1 << 20) {
            let bytes: Vec<_> = (0..1 << 20).map(|at| (at % 251 + offset / 4096) as u8).collect();
            dump.write(offset as u64, &bytes).unwrap();
        }
        dump.seal(Completeness::Complete, DUMP as u64).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn holdover(&self, key: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
        command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", key);
        command.env_remove("AWS_SESSION_TOKEN").current_dir(&self.folder);
        command
    }

    /// Runs `holdover collect` with a store at that port.
    fn collect(&self, port: u16, key: &str, bucket: &str, more: &[&str]) -> (Output, Value) {
        fs::create_dir_all(self.path("root/etc")).unwrap();
        let configuration = format!(
            "areas = ['{}']\n[actions]\nmetrics = '{}'\nto = ['s3://{bucket}/web']\n[actions.s3]\n\
             endpoint = 'http://127.0.0.1:{port}'\nregion = 'us-east-1'\n",
            self.path("disk").display(),
            self.path("holdover.prom").display()
        );
        fs::write(self.path("root/etc/holdover.toml"), configuration).unwrap();
        let mut command = self.holdover(key);
        let output = command.args(["--json", "collect", "--root", "root"]).args(more).output().unwrap();
        assert_ne!(output.stdout, b"", "{}", String::from_utf8_lossy(&output.stderr));
        let json = serde_json::from_slice(&output.stdout).unwrap();
        (output, json)
    }
}

fn action(json: &Value) -> (bool, String) {
    let action = &json["actions"][0]["actions"][0];
    (action["done"].as_bool().unwrap(), action["told"].as_str().unwrap().to_owned())
}

#[test]
fn a_target_that_is_refused_stops_no_collect() {
    let host = Host::with_dump();
    let collect = |to: &str, more: &[&str]| {
        fs::create_dir_all(host.path("root/etc")).unwrap();
        let areas = format!("areas = ['{}']\n[actions]\nto = ['{to}']\n", host.path("disk").display());
        fs::write(host.path("root/etc/holdover.toml"), areas).unwrap();
        host.holdover("key").args(["--json", "collect", "--root", "root"]).args(more).output().unwrap()
    };
    let collected = collect("ssh://host", &["--without-actions"]);
    let json: Value = serde_json::from_slice(&collected.stdout).unwrap();
    assert_eq!(json["areas"][0]["outcome"], "collected", "{json}");
    assert!(json["warnings"].to_string().contains("\\\"ssh://host\\\" is no address"), "{json}");
    assert!(!collected.status.success(), "somebody must see it");
    let retried = collect("ssh://host", &["--retry-actions"]);
    assert!(String::from_utf8_lossy(&retried.stderr).contains("is no address"), "{retried:?}");
}

#[test]
#[ignore = "takes moto: `cargo xtask test --only s3-and-ssh` runs it"]
fn an_upload_that_was_cut_off_goes_on_where_it_was() {
    let (server, host) = (Server::start(None), Host::with_dump());
    server.ask("client('s3').create_bucket(Bucket='crashes')");
    let cut = Cut::after(20 * MIB, server.port);
    let (output, json) = host.collect(cut.port, "key", "crashes", &[]);
    let (done, told) = action(&json);
    assert!(!done && told.starts_with("the store failed, or was not reached"), "{told}");
    assert_eq!(json["areas"][0]["outcome"], "collected");
    assert_ne!(output.status.code(), Some(1), "an action that fails does not fail a collect");
    assert!(fs::read_to_string(host.path("holdover.prom")).unwrap().contains("holdover_actions_failed 1\n"));
    let rest = Cut::after(u64::MAX, server.port);
    let (output, json) = host.collect(rest.port, "key", "crashes", &["--retry-actions"]);
    let (done, told) = action(&json);
    assert!(done && told.ends_with(&format!("{} were there", 16 * MIB)), "{told}");
    assert_eq!(output.status.code(), Some(0));
    assert!(rest.sent() < 26 * MIB, "{} bytes were sent for the last three parts", rest.sent());
    assert!(fs::read_to_string(host.path("holdover.prom")).unwrap().contains("holdover_actions_failed 0\n"));
    let objects = server.objects();
    let (name, size) = objects.iter().find(|(name, _)| name.ends_with("/vmcore")).unwrap();
    assert!(name.starts_with("web/") && *size == DUMP as u64, "{objects:?}");
    assert!(objects.iter().any(|(name, _)| name.ends_with("/holdover.json")), "{objects:?}");
    let sum = server.ask(&format!(
        "import hashlib; print(hashlib.sha256(client('s3').get_object(Bucket='crashes', Key='{name}')['Body'].read()).hexdigest())"
    ));
    let copy = host.path("root/var/crash").join(name.strip_prefix("web/").unwrap());
    let here = Command::new("sha256sum").arg(copy).output().unwrap();
    assert!(String::from_utf8_lossy(&here.stdout).starts_with(&sum), "the object is the dump");
    let again = Cut::after(u64::MAX, server.port);
    let (_, json) = host.collect(again.port, "key", "crashes", &["--retry-actions"]);
    assert!(action(&json).0, "what is done is told");
    assert_eq!(again.sent(), 0, "what is done is not done again");
}

#[test]
#[ignore = "takes moto: `cargo xtask test --only s3-and-ssh` runs it"]
fn a_bucket_that_is_missing_is_named_and_works_once_it_is_there() {
    let (server, host) = (Server::start(None), Host::with_dump());
    let (_, json) = host.collect(server.port, "key", "crashes", &[]);
    let (done, told) = action(&json);
    assert!(!done && told.starts_with("the store has no bucket crashes: make it"), "{told}");
    let (output, _) = host.collect(server.port, "key", "crashes", &["--retry-actions"]);
    assert_eq!(output.status.code(), Some(3));
    server.ask("client('s3').create_bucket(Bucket='crashes')");
    let (_, json) = host.collect(server.port, "key", "crashes", &["--retry-actions"]);
    assert!(action(&json).0, "{json}");
}

#[test]
#[ignore = "takes moto: `cargo xtask test --only s3-and-ssh` runs it"]
fn keys_that_the_store_does_not_know_are_told() {
    let (server, host) = (Server::start(Some(1)), Host::with_dump());
    server.ask("client('s3').create_bucket(Bucket='crashes')");
    let (_, json) = host.collect(server.port, "wrong", "crashes", &[]);
    let (done, told) = action(&json);
    assert!(!done && told.starts_with("the store refuses: AWS_ACCESS_KEY_ID"), "{told}");
    assert_eq!(json["areas"][0]["outcome"], "collected");
}
