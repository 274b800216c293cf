//! Posts to a TLS server on loopback: to one that the system's root certificates vouch for, and not to another.
//!
//! `tests/tls` has the server's certificate and key, and the root that signed it; the root's key is nowhere.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The variable that tells the test which is started anew where to post.
const ADDRESS: &str = "HOLDOVER_TEST_ADDRESS";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// Answers one connection, and returns the request; it is empty if the client does not trust the server.
fn serve() -> (String, JoinHandle<String>) {
    let chain = CertificateDer::pem_file_iter(file("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("server.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}/", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !request.ends_with(b"}") {
            let Ok(read @ 1..) = stream.read(&mut buffer) else { break };
            request.extend_from_slice(&buffer[..read]);
        }
        // A client that does not trust the server is gone.
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        String::from_utf8(request).unwrap()
    });
    (address, served)
}

/// Runs `posts` in a process that has these root certificates, and returns whether it posted, and what it said.
fn post(roots: &Path, address: &str) -> (bool, String) {
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "posts", "--ignored", "--nocapture"]).env(ADDRESS, address);
    let output = test.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_server_that_the_systems_roots_vouch_for_takes_the_post() {
    let (address, served) = serve();
    let (done, said) = post(&file("ca.pem"), &address);
    assert!(done, "{said}");
    assert!(served.join().unwrap().ends_with("{\"a\":1}"));
}

#[test]
fn a_server_that_nobody_vouches_for_is_told_nothing() {
    let (address, served) = serve();
    // The server's own certificate is no root.
    let (done, said) = post(&file("server.pem"), &address);
    assert!(!done && said.contains("certificate"), "{said}");
    assert_eq!(served.join().unwrap(), "");
}

#[test]
#[ignore = "the other tests start it, with root certificates"]
fn posts() {
    let address = std::env::var(ADDRESS).unwrap();
    delivery::post_json(&address, "{\"a\":1}".into(), Duration::from_secs(60)).unwrap();
}
