//! What all HTTP clients share, and the runtime that they need.

use std::future::Future;
use std::sync::Once;
use std::time::Duration;

use crate::DeliveryError;
use crate::names::Names;

/// How this program names itself.
pub(crate) const AGENT: &str = concat!("holdover/", env!("CARGO_PKG_VERSION"));

/// How the TLS library says that this system has no root certificates; others are not taken.
const NO_ROOTS: &str = "No CA certificates were loaded";

/// Has TLS done by ring.
pub(crate) fn use_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Another provider that was installed before does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Does work that waits for the network, within a time.
pub(crate) fn run<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, DeliveryError>>,
) -> Result<T, DeliveryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| DeliveryError::Store { reason: error.to_string() })?;
    let done = runtime.block_on(async { tokio::time::timeout(limit, work).await });
    // A look-up of a name that hangs is not waited for.
    runtime.shutdown_background();
    done.unwrap_or(Err(DeliveryError::TooLong { after: limit }))
}

/// Posts JSON, and waits for an answer that says that it was taken.
pub fn post_json(address: &str, body: String, limit: Duration) -> Result<(), DeliveryError> {
    use_ring();
    let failed = |reason: String| DeliveryError::Web { address: without_secrets(address), reason };
    run(limit, async {
        // What follows a redirect is a GET without the JSON, which may be answered with success.
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let client = client.dns_resolver(Names::of_host()).user_agent(AGENT).timeout(limit).build();
        let post = client.map_err(|error| failed(told(error)))?.post(address);
        let sent = post.header("content-type", "application/json").body(body).send().await;
        let status = sent.map_err(|error| failed(told(error)))?.status();
        match status {
            _ if status.is_success() => Ok(()),
            _ if status.is_redirection() => Err(failed(format!(
                "{status}: it points elsewhere, and redirects are not followed; configure the address that takes the post"
            ))),
            _ => Err(failed(status.to_string())),
        }
    })
}

/// The scheme, the host and the port of an address: names, paths and queries have secrets in them.
fn without_secrets(address: &str) -> String {
    let Ok(url) = reqwest::Url::parse(address) else { return "the configured address".into() };
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

fn told(error: reqwest::Error) -> String {
    chain(&error.without_url())
}

/// An error with its causes, and what to do about one that does not say it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let (mut told, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        told = format!("{told}: {cause}");
        next = cause.source();
    }
    if told.contains(NO_ROOTS) {
        told.push_str(": install the package ca-certificates, by which servers are known");
    }
    told
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request, and returns it.
    fn serve(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/secret", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"}") {
                let read = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (address, served)
    }

    #[test]
    fn json_is_posted_and_an_error_is_told_without_the_secret_in_the_address() {
        let limit = Duration::from_secs(20);
        let (address, served) = serve("HTTP/1.1 204 No Content\r\n\r\n");
        post_json(&address, "{\"a\":1}".into(), limit).unwrap();
        let request = served.join().unwrap();
        assert!(request.starts_with("POST /secret") && request.ends_with("{\"a\":1}"), "{request}");
        let (address, served) = serve("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        let refused = post_json(&address, "{}".into(), limit).unwrap_err().to_string();
        served.join().unwrap();
        assert!(refused.contains("403") && !refused.contains("secret"), "{refused}");
    }

    #[test]
    fn an_address_that_points_elsewhere_did_not_take_the_post() {
        for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"] {
            let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
            elsewhere.set_nonblocking(true).unwrap();
            let to = format!("http://{}/sign-in", elsewhere.local_addr().unwrap());
            let answer = format!("HTTP/1.1 {status}\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            let (address, served) = serve(answer.leak());
            let error = post_json(&address, "{}".into(), Duration::from_secs(20)).unwrap_err().to_string();
            served.join().unwrap();
            assert!(error.contains(status) && error.contains("redirects are not followed"), "{error}");
            assert!(elsewhere.accept().is_err(), "nothing asks there");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let shown = [
            ("https://user:secret@chat.example/secret", "https://chat.example"),
            ("https://chat.example:8443?token=secret", "https://chat.example:8443"),
            ("https://chat.example#secret", "https://chat.example"),
            ("secret", "the configured address"),
        ];
        for (address, expected) in shown {
            assert_eq!(without_secrets(address), expected);
        }
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}/", silent.local_addr().unwrap());
        let limit = Duration::from_millis(300);
        let start = std::time::Instant::now();
        let error = post_json(&address, "{}".into(), limit).unwrap_err().to_string();
        assert!(start.elapsed() >= limit && !error.contains("certificate"), "{error}");
    }
}
