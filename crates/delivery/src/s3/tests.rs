//! Delivers to a small store on loopback that speaks as much of S3 as is used, and is as unkind as it is told.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// What the store refuses or loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unkindness {
    /// Nothing.
    None,
    /// The keys may write only: they are told nothing about objects.
    TellsNothing,
    /// It completes the first upload, and its answer is lost.
    LosesAnswer,
    /// It takes nothing, with this error code.
    Refuses(&'static str),
}

/// What the store has.
#[derive(Default)]
struct State {
    /// The names and lengths of objects.
    objects: Vec<(String, usize)>,
    /// The bytes of the upload that was begun.
    upload: Option<usize>,
    /// The bytes of all objects and parts that were sent.
    sent: usize,
    /// Completions that were asked for.
    completions: u32,
}

struct Store {
    endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Store {
    fn start(unkindness: Unkindness) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&served);
                std::thread::spawn(move || serve(&stream, &state, unkindness));
            }
        });
        Self { endpoint, state }
    }

    fn sent(&self) -> usize {
        self.state.lock().unwrap().sent
    }
}

/// Answers the requests of a connection.
fn serve(stream: &TcpStream, state: &Mutex<State>, unkindness: Unkindness) {
    let mut from = BufReader::new(stream);
    while let Some((method, path, length)) = request(&mut from) {
        from.read_exact(&mut vec![0; length]).unwrap();
        let Some((status, body)) = state.lock().unwrap().answer(&method, &path, length, unkindness) else {
            return;
        };
        let length = if method == "HEAD" { body.clone() } else { body.len().to_string() };
        let body = if method == "HEAD" { "" } else { &body };
        let mut into = stream;
        write!(
            into,
            "HTTP/1.1 {status}\r\netag: \"tag\"\r\nlast-modified: Sun, 29 Nov 2026 22:05:00 GMT\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
    }
}

/// The method, the path and the length of the body of the next request.
fn request(from: &mut impl BufRead) -> Option<(String, String, usize)> {
    let mut lines = from.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next()?;
    let mut words = first.split(' ').map(str::to_owned);
    let lengths = lines.filter_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    Some((words.next()?, words.next()?, lengths.last().unwrap_or(0)))
}

impl State {
    /// Status and body; the body of an answer to HEAD is the object's length. `None` is lost.
    fn answer(
        &mut self,
        method: &str,
        path: &str,
        length: usize,
        unkindness: Unkindness,
    ) -> Option<(&'static str, String)> {
        let error = |code: &str| format!("<Error><Code>{code}</Code></Error>");
        let (name, query) = path.split_once('?').unwrap_or((path, ""));
        let found = self.objects.iter().find(|object| object.0 == name);
        let answer = match (method, query) {
            ("HEAD", _) if unkindness == Unkindness::TellsNothing => ("403 Forbidden", "0".into()),
            ("HEAD", _) => {
                found.map_or(("404 Not Found", "0".into()), |found| ("200 OK", found.1.to_string()))
            }
            _ if let Unkindness::Refuses(code) = unkindness => ("403 Forbidden", error(code)),
            ("PUT", "") => {
                self.objects.push((name.to_owned(), length));
                self.sent += length;
                ("200 OK", String::new())
            }
            ("POST", "uploads" | "uploads=") => {
                self.upload = Some(0);
                (
                    "200 OK",
                    "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
                        .into(),
                )
            }
            ("PUT", _) => {
                self.sent += length;
                self.upload = self.upload.map(|upload| upload + length);
                self.upload.map_or(("404 Not Found", error("NoSuchUpload")), |_| ("200 OK", String::new()))
            }
            _ => return self.complete(name, unkindness),
        };
        Some(answer)
    }

    fn complete(&mut self, name: &str, unkindness: Unkindness) -> Option<(&'static str, String)> {
        self.completions += 1;
        let Some(length) = self.upload.take() else {
            return Some(("404 Not Found", "<Error><Code>NoSuchUpload</Code></Error>".into()));
        };
        self.objects.push((name.to_owned(), length));
        let done = "<CompleteMultipartUploadResult><ETag>\"tag\"</ETag></CompleteMultipartUploadResult>";
        (unkindness != Unkindness::LosesAnswer).then(|| ("200 OK", done.into()))
    }
}

/// A crash of 9 MiB in two parts, and a note.
struct Host {
    folder: TempDir,
    parcel: Parcel,
    /// How many bytes were told to be there, each time.
    told: RefCell<Vec<u64>>,
}

const BYTES: usize = (9 << 20) + 2;

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("vmcore"), vec![7; 9 << 20]).unwrap();
        fs::write(folder.path().join("holdover.json"), "{}").unwrap();
        let files = vec!["vmcore".into(), "holdover.json".into()];
        let parcel = Parcel { folder: folder.path().to_owned(), name: "web1".into(), files };
        Self { folder, parcel, told: RefCell::default() }
    }

    fn send(&self, store: &Store) -> Result<Delivered, DeliveryError> {
        let settings =
            S3Settings { endpoint: Some(store.endpoint.clone()), region: Some("us-east-1".into()) };
        let keys = builder("crashes", &settings).with_access_key_id("key").with_secret_access_key("key");
        let mut ledger = Ledger::open(&self.folder.path().join("uploads.json"));
        let upload = Upload {
            store: keys.build().unwrap(),
            bucket: "crashes",
            prefix: "",
            target: "s3://crashes".into(),
            parcel: &self.parcel,
            ledger: &mut ledger,
            there: &|bytes| self.told.borrow_mut().push(bytes),
        };
        web::run(Duration::from_secs(60), upload.send())
    }
}

const ALL_THERE: Delivered = Delivered { sent: 0, there: BYTES as u64 };

#[test]
fn what_is_there_is_not_sent_again() {
    let (store, host) = (Store::start(Unkindness::None), Host::new());
    assert_eq!(host.send(&store).unwrap(), Delivered { sent: BYTES as u64, there: 0 });
    let (part, dump, all) = (PART, 9 << 20, BYTES as u64);
    assert_eq!(host.told.take(), [part, dump, dump, all], "it is told how far the delivery is");
    assert_eq!(host.send(&store).unwrap(), ALL_THERE);
    assert_eq!(host.told.take(), [dump, all]);
    assert_eq!(store.sent(), BYTES);
    store.state.lock().unwrap().objects.clear();
    host.send(&store).unwrap();
    assert_eq!(store.sent(), 2 * BYTES, "objects that were deleted are sent again");
}

#[test]
fn keys_that_may_only_write_deliver_once() {
    let (store, host) = (Store::start(Unkindness::TellsNothing), Host::new());
    assert_eq!(host.send(&store).unwrap(), Delivered { sent: BYTES as u64, there: 0 });
    assert_eq!(host.send(&store).unwrap(), ALL_THERE);
    assert_eq!(store.sent(), BYTES);
}

#[test]
fn an_object_the_answer_for_which_was_lost_is_not_sent_again() {
    let (store, host) = (Store::start(Unkindness::LosesAnswer), Host::new());
    // The answer is lost once: whether the request is repeated now or by the next try, the upload is not known any more.
    if host.send(&store).is_err() {
        host.send(&store).unwrap();
    }
    assert_eq!(store.sent(), BYTES);
    assert!(store.state.lock().unwrap().completions > 1);
    assert_eq!(host.send(&store).unwrap(), ALL_THERE);
}

#[test]
fn a_refusal_tells_what_to_do() {
    let told = [
        ("AccessDenied", "s3:PutObject"),
        ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("RequestTimeTooSkewed", "clock is wrong"),
    ];
    for (code, expected) in told {
        let error = Host::new().send(&Store::start(Unkindness::Refuses(code))).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(code), "{error}");
    }
}
