//! Which serial port is the console, as the command line says.

/// The rate at a divisor of 1, in bits per second.
pub const BASE_RATE: u32 = 115_200;

/// A serial port named on the command line: `console=ttyS0[,BAUD]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// I/O port of the first register.
    pub port: u16,
    /// Bits per second; `None` leaves the rate as it is.
    pub baud: Option<u32>,
}

impl Serial {
    /// The port that the value of a `console=` option names; `None` for any other console.
    pub fn named(value: &str) -> Option<Self> {
        let (device, settings) = value.split_once(',').unwrap_or((value, ""));
        let port = match device {
            "ttyS0" => 0x3f8,
            "ttyS1" => 0x2f8,
            "ttyS2" => 0x3e8,
            "ttyS3" => 0x2e8,
            _ => return None,
        };
        let digits = settings.bytes().take_while(u8::is_ascii_digit).count();
        let baud = settings[..digits].parse().ok().filter(|rate| (1..=BASE_RATE).contains(rate));
        Some(Self { port, baud })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_option_names_a_port_and_perhaps_a_rate() {
        assert_eq!(Serial::named("ttyS0"), Some(Serial { port: 0x3f8, baud: None }));
        assert_eq!(Serial::named("ttyS1,9600n8"), Some(Serial { port: 0x2f8, baud: Some(9600) }));
        assert_eq!(Serial::named("ttyS0,0"), Some(Serial { port: 0x3f8, baud: None }));
        assert_eq!(Serial::named("tty0"), None);
    }
}
