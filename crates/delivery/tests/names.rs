//! Names in a host of its own: a mount namespace with another `/etc`, and a network namespace with a server of names.
//!
//! Its `nsswitch.conf` names modules that nobody has: whoever asked the C library would find nothing. It takes root, or the right to make
//! user namespaces, and `unshare`, `mount` and `ip`.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use delivery::{Ledger, Parcel, S3Settings, Settings, Target, deliver};

/// The variable that tells the test which is started anew which name to look up.
const NAME: &str = "HOLDOVER_TEST_NAME";
/// Where the one host of this network is.
const ADDRESS: [u8; 4] = [127, 0, 0, 9];
const LIMIT: Duration = Duration::from_secs(60);

/// Runs `delivers` on a host with these files in `/etc`, and returns whether it could, and what it said.
fn deliver_to(name: &str, hosts: &str, servers: Option<&str>) -> (bool, String) {
    deliver_with_roots(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/ca.pem"), name, hosts, servers)
}

/// Does so where the system's root certificates are in this file.
fn deliver_with_roots(roots: &Path, name: &str, hosts: &str, servers: Option<&str>) -> (bool, String) {
    let etc = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(etc.path().join(file), text).unwrap();
    write("hosts", hosts);
    write("nsswitch.conf", "hosts: holdover_test_module\n");
    if let Some(servers) = servers {
        write("resolv.conf", servers);
    }
    // Programs of some distributions are found through it.
    let alternatives = Path::new("/etc/alternatives");
    let _ = fs::read_link(alternatives).map(|to| symlink(to, etc.path().join("alternatives")));
    let script = "mount --bind \"$1\" /etc && shift && exec \"$@\"";
    let mut host = Command::new("unshare");
    host.args(["--user", "--map-root-user", "--mount", "--net", "sh", "-c", script, "sh"]).arg(etc.path());
    host.arg(std::env::current_exe().unwrap()).args(["--exact", "delivers", "--ignored", "--nocapture"]);
    host.env(NAME, name).env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "any");
    host.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
    let output = host.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_name_in_the_hosts_file_is_known_without_any_server() {
    let (done, said) = deliver_to("box.example", "127.0.0.9 box box.example\n", None);
    assert!(done, "{said}");
}

#[test]
fn a_server_that_does_not_answer_is_followed_by_the_next() {
    let servers = "search example\nnameserver 127.0.0.51\nnameserver 127.0.0.52\nnameserver 127.0.0.53\noptions timeout:1 attempts:1\n";
    for name in ["store.example", "store"] {
        let (done, said) = deliver_to(name, "127.0.0.1 localhost\n", Some(servers));
        assert!(done, "{name}: {said}");
    }
}

#[test]
fn where_no_server_is_named_the_error_says_what_to_do() {
    for servers in [None, Some("# written by nobody\n")] {
        let (done, said) = deliver_to("store.example", "127.0.0.1 localhost\n", servers);
        assert!(!done && said.contains("write `nameserver ADDRESS` into it"), "{said}");
    }
}

#[test]
fn a_name_that_the_servers_do_not_know_is_told_with_what_is_not_asked() {
    let (done, said) = deliver_to("nobody.local", "", Some("nameserver 127.0.0.53\n"));
    assert!(!done && said.contains("nobody.local") && said.contains("mDNS"), "{said}");
}

#[test]
fn where_the_system_has_no_root_certificates_the_error_names_the_package() {
    let (done, said) =
        deliver_with_roots(Path::new("/etc/none.pem"), "box.example", "127.0.0.9 box.example\n", None);
    assert!(!done && said.contains("install the package ca-certificates"), "{said}");
}

/// Posts to a host, and stores there.
#[test]
#[ignore = "the other tests start it, on hosts of their own"]
fn delivers() {
    let name = std::env::var(NAME).unwrap();
    bring_up_loopback();
    let _silent = UdpSocket::bind("127.0.0.51:53").unwrap();
    let _names = std::thread::spawn(serve_names);
    let host = TcpListener::bind((std::net::IpAddr::from(ADDRESS), 0)).unwrap();
    let address = format!("http://{name}:{}", host.local_addr().unwrap().port());
    let served = std::thread::spawn(move || [take(&host), take(&host)]);
    delivery::post_json(&address, "{\"a\":1}".into(), LIMIT).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("vmcore"), "dump").unwrap();
    let parcel = Parcel { folder: folder.path().into(), name: "crash".into(), files: vec!["vmcore".into()] };
    let s3 = S3Settings { endpoint: Some(address), region: Some("here".into()) };
    let target: Target = "s3://crashes/web".parse().unwrap();
    let mut ledger = Ledger::open(&folder.path().join("uploads.json"));
    // The host takes nothing but the first request.
    let _ = deliver(&target, &parcel, &Settings { s3, ..Settings::default() }, &mut ledger, LIMIT, &|_| ());
    let [posted, stored] = served.join().unwrap();
    assert!(posted.starts_with("POST") && stored.starts_with("PUT /crashes/web/crash/vmcore"), "{stored}");
}

/// Takes one request.
fn take(host: &TcpListener) -> String {
    let (mut stream, _) = host.accept().unwrap();
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer).unwrap();
    stream.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

fn bring_up_loopback() {
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
}

/// Answers for `store.example`, and for no other name (RFC 1035, section 4.1).
fn serve_names() {
    let socket = UdpSocket::bind("127.0.0.53:53").unwrap();
    let mut query = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut query).unwrap();
        let end = 12 + query[12..length].iter().position(|byte| *byte == 0).unwrap() + 1;
        let is_known = query[12..end].eq_ignore_ascii_case(b"\x05store\x07example\0");
        let asks_for_ipv4 = query[end..end + 2] == [0, 1];
        let answers = u8::from(is_known && asks_for_ipv4);
        let code = if is_known { 0x80 } else { 0x83 };
        let mut answer =
            [&query[..2], &[0x81, code, 0, 1, 0, answers, 0, 0, 0, 0], &query[12..end + 4]].concat();
        if answers == 1 {
            answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(ADDRESS);
        }
        socket.send_to(&answer, from).unwrap();
    }
}
