//! A small client of QEMU's debugger stub: stops the machine at an address and lets it go on.
//!
//! The remote serial protocol: a packet is `$data#checksum`, and the side that receives it answers each with `+` (GDB
//! manual, "Remote Protocol", section "Overview").

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::machines::socket;

/// The number of the register RSI, in GDB's description of x86-64.
pub(crate) const RSI: usize = 4;

/// A connection to the stub. Dropping it lets the machine run on.
pub(crate) struct Gdb<S = UnixStream> {
    stream: S,
}

impl Gdb {
    /// Connects, which stops the machine.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        Ok(Self { stream: socket::connect(socket, || false)? })
    }

    /// Lets the machine run until it reaches the breakpoint.
    pub(crate) fn run_to_breakpoint(&mut self, limit: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        let stopped = self.ask("c").context("the machine did not reach the breakpoint")?;
        ensure!(
            stopped.starts_with("T05"),
            "the machine stopped for another reason than the breakpoint: {stopped}"
        );
        self.wait_for_disks()?;
        Ok(self.stream.set_read_timeout(Some(socket::PATIENCE))?)
    }
}

impl<S: Read + Write> Gdb<S> {
    /// Waits until memory stands still. QEMU says that the machine has stopped, then finishes all requests of its disks, and only
    /// after that listens to the stub again.
    fn wait_for_disks(&mut self) -> Result<()> {
        let again = self.ask("?")?;
        ensure!(
            again.starts_with('T'),
            "the debugger stub does not say why the machine stands still: {again}"
        );
        Ok(())
    }

    /// Sets a breakpoint at a linear address; on QEMU this changes nothing in the guest's memory.
    pub(crate) fn break_at(&mut self, address: u64) -> Result<()> {
        self.expect_ok(&format!("Z0,{address:x},1"))
    }

    /// Reads a general register of the processor that reached the breakpoint, by GDB's number of it.
    pub(crate) fn register(&mut self, number: usize) -> Result<u64> {
        let all = self.ask("g")?;
        let digits =
            all.get(number * 16..(number + 1) * 16).with_context(|| format!("no register in {all}"))?;
        // The bytes are those of memory, the lowest first.
        Ok(u64::from_str_radix(digits, 16)?.swap_bytes())
    }

    /// Removes all breakpoints and lets the machine go on by itself.
    pub(crate) fn detach(mut self) -> Result<()> {
        self.expect_ok("D")
    }

    fn expect_ok(&mut self, command: &str) -> Result<()> {
        let mut answer = self.ask(command)?;
        // The machine stopped when we connected, and the stub says so without having been asked.
        while answer.starts_with('T') {
            answer = self.receive()?;
        }
        ensure!(answer == "OK", "the debugger stub answered `{answer}` to `{command}`");
        Ok(())
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        self.stream.write_all(packet(command).as_bytes()).map_err(socket::in_words)?;
        self.receive()
    }

    /// Reads the next packet, past acknowledgements, and acknowledges it.
    fn receive(&mut self) -> Result<String> {
        while self.byte()? != b'$' {}
        let mut data = String::new();
        loop {
            match self.byte()? {
                b'#' => break,
                byte => data.push(byte.into()),
            }
        }
        let sent = [self.byte()?, self.byte()?];
        if sent != *checksum(&data).as_bytes() {
            bail!("a packet of the debugger stub is damaged: {data}");
        }
        self.stream.write_all(b"+").map_err(socket::in_words)?;
        Ok(data)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).map_err(socket::in_words)?;
        Ok(byte[0])
    }
}

fn packet(data: &str) -> String {
    format!("${data}#{}", checksum(data))
}

/// The sum of the bytes modulo 256, as two hexadecimal digits.
fn checksum(data: &str) -> String {
    format!("{:02x}", data.bytes().fold(0_u8, u8::wrapping_add))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Answers what the script says, and keeps what it was told.
    struct Scripted {
        answers: VecDeque<u8>,
        told: Vec<u8>,
    }

    impl Read for Scripted {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.answers.read(into)
        }
    }

    impl Write for Scripted {
        fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
            self.told.write(from)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn scripted(answers: &str) -> Gdb<Scripted> {
        Gdb { stream: Scripted { answers: answers.bytes().collect(), told: Vec::new() } }
    }

    #[test]
    fn a_breakpoint_is_asked_for_and_confirmed() {
        let mut gdb = scripted("$T02thread:01;#04+$OK#9a");
        gdb.break_at(0x3e00_0200).unwrap();
        assert_eq!(gdb.stream.told, b"$Z0,3e000200,1#cd++");
    }

    #[test]
    fn a_register_is_read_with_its_lowest_byte_first() {
        let (before, after) = ("0".repeat(64), "1".repeat(16));
        let mut gdb = scripted(&packet(&format!("{before}00f0ff3700000000{after}")));
        assert_eq!(gdb.register(RSI).unwrap(), 0x37ff_f000);
    }

    #[test]
    fn a_refusal_is_an_error() {
        let error = scripted("+$E22#a9").break_at(0).unwrap_err().to_string();
        assert!(error.contains("E22"), "{error}");
    }

    #[test]
    fn a_damaged_packet_is_an_error() {
        assert!(scripted("+$OK#00").break_at(0).unwrap_err().to_string().contains("damaged"));
    }
}
