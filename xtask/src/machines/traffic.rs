//! The other end of the guest's network cable: sends frames without end, so that the card has something to store.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use crate::machines::files::Files;
use crate::machines::scenario::capture::Capture;

/// Time between two frames: slow enough that the card's ring, which nobody empties after the panic, lasts for seconds.
const INTERVAL: Duration = Duration::from_millis(20);
/// The same where the kernel that takes the dump is a Linux, which takes some seconds to start.
const LONG_INTERVAL: Duration = Duration::from_millis(100);

/// Time in which a frame gets to the guest's memory, on a machine that is busy with other things.
const ARRIVAL: Duration = Duration::from_secs(1);

/// A cable that is plugged in on the bench's side.
pub(crate) struct Cable {
    socket: UnixDatagram,
    guest: PathBuf,
}

/// Frames on their way; they end when this is dropped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

impl Traffic {
    /// The socket that QEMU reads frames from.
    pub(crate) fn guest_end(files: &Files) -> PathBuf {
        files.scratch("network-guest")
    }

    /// The socket that QEMU sends the guest's frames to.
    pub(crate) fn bench_end(files: &Files) -> PathBuf {
        files.scratch("network-bench")
    }

    /// Makes the bench's end; must exist before QEMU starts.
    pub(crate) fn prepare(files: &Files) -> Result<Cable> {
        let socket = UnixDatagram::bind(Self::bench_end(files))?;
        socket.set_nonblocking(true)?;
        Ok(Cable { socket, guest: Self::guest_end(files) })
    }
}

impl Cable {
    /// Starts sending, so that frames arrive until the kernel that takes the dump has its units translating.
    pub(crate) fn start(self, capture: Capture) -> Traffic {
        let interval = if capture == Capture::Holdover { INTERVAL } else { LONG_INTERVAL };
        let [stop, held] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (stopped, paused) = (Arc::clone(&stop), Arc::clone(&held));
        let sender = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if !paused.load(Ordering::Relaxed) {
                    self.exchange();
                }
                thread::sleep(interval);
            }
        });
        Traffic { stop, held, sender: Some(sender) }
    }

    /// Drops what the guest sent and sends it a frame. A guest that does not listen (yet, or any more) loses it.
    fn exchange(&self) {
        let mut dropped = [0; 2048];
        while self.socket.recv(&mut dropped).is_ok() {}
        let _ = self.socket.send_to(&broadcast(), &self.guest);
    }
}

impl Traffic {
    /// Sends nothing until told to go on, and waits until a running guest has got what was sent.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
        thread::sleep(ARRIVAL);
    }

    /// Goes on sending.
    pub(crate) fn resume(&self) {
        self.held.store(false, Ordering::Relaxed);
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}

/// An Ethernet frame to everyone, of the type reserved for local experiments.
fn broadcast() -> [u8; 512] {
    let mut frame = [0x5a; 512];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
    frame
}
