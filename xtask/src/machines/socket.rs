//! Sockets of QEMU: connects to one that is about to be made, and says what errors of a connection mean for the machine.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};

/// How long QEMU may take to make a socket, and for an answer that does not wait for the guest, on a machine with much other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a socket is looked for.
const POLL: Duration = Duration::from_millis(10);

/// Connects to a socket that QEMU is about to make, unless QEMU has ended.
pub(crate) fn connect(socket: &Path, mut has_ended: impl FnMut() -> bool) -> Result<UnixStream> {
    let start = Instant::now();
    let stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(_) if has_ended() => return Err(ended()),
            Err(_) if start.elapsed() < PATIENCE => thread::sleep(POLL),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot connect to {}", socket.display()));
            }
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What an error of a connection means. QEMU closes its sockets when the machine ends, whatever there is to read in them.
pub(crate) fn in_words(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => ended(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => anyhow!("QEMU does not answer in time"),
        _ => error.into(),
    }
}

/// What a connection says that ended before an answer.
pub(crate) fn ended() -> Error {
    anyhow!("the machine had ended by then")
}
