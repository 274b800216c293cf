//! Which serial port is the capture kernel's console.

use core::fmt;

/// A serial port, as Linux's option `console=ttyS0[,BAUD]` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialConsole {
    port: u8,
    baud: Option<u32>,
}

impl SerialConsole {
    /// How many ports there are; `ttyS0` is the first.
    pub const PORTS: u8 = 4;
    /// The fastest rate, that of a 16550's divisor 1, in bits per second.
    pub const FASTEST: u32 = 115_200;

    /// The port with this number, at this rate in bits per second. Without a rate, the port keeps its rate. `None` if there
    /// is no such port or rate.
    pub fn new(port: u8, baud: Option<u32>) -> Option<Self> {
        let known = port < Self::PORTS && baud.is_none_or(|baud| (1..=Self::FASTEST).contains(&baud));
        known.then_some(Self { port, baud })
    }

    /// Reads the value of `console=`; `None` if the console is not a serial port, or if no port has the rate.
    ///
    /// Anything after the digits of the rate, such as Linux's parity and bits, is ignored: the capture kernel sends eight
    /// bits without parity.
    pub fn parse(value: &str) -> Option<Self> {
        let (device, settings) = value.split_once(',').unwrap_or((value, ""));
        let port = device.strip_prefix("ttyS").filter(|number| number.len() == 1)?.parse().ok()?;
        let digits = settings.bytes().take_while(u8::is_ascii_digit).count();
        let baud = settings[..digits].parse().ok();
        Self::new(port, baud).or_else(|| Self::new(port, None))
    }

    /// The port's number, less than [`PORTS`](Self::PORTS).
    pub fn port(self) -> u8 {
        self.port
    }

    /// Bits per second; `None` leaves the rate as it is.
    pub fn baud(self) -> Option<u32> {
        self.baud
    }
}

impl fmt::Display for SerialConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ttyS{}", self.port)?;
        self.baud.map_or(Ok(()), |baud| write!(f, ",{baud}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_option_names_a_port_and_perhaps_a_rate() {
        assert_eq!(SerialConsole::parse("ttyS0"), SerialConsole::new(0, None));
        assert_eq!(SerialConsole::parse("ttyS1,9600n8"), SerialConsole::new(1, Some(9600)));
        assert_eq!(SerialConsole::parse("ttyS0,0"), SerialConsole::new(0, None));
        assert_eq!(SerialConsole::parse("tty0"), None);
        assert_eq!(SerialConsole::parse("ttyS4"), None);
        assert_eq!(SerialConsole::parse("ttyS+0"), None);
    }
}
