//! The address of a PCI function, and how people write it.

use core::fmt;
use core::str::FromStr;

/// The address of a PCI function. Written `SSSS:BB:DD.F`, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Function {
    /// Segment group, which firmware gives four digits. What is behind a volume management device is in a domain of its own, from
    /// 0x10000 on, as Linux counts.
    pub segment: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number (bits 7 to 3) and function number (bits 2 to 0).
    pub devfn: u8,
}

impl Function {
    /// Reads the short form `BB:DD.F`, of a function in `segment`.
    ///
    /// Parts may have fewer digits than [`Display`](fmt::Display) writes, but no more.
    pub fn in_segment(segment: u32, text: &str) -> Result<Self, NoFunction> {
        let parse = || {
            let (bus, rest) = text.split_once(':')?;
            let (device, number) = rest.split_once('.')?;
            let (bus, device, number) = (hex(bus, 2)?, hex(device, 2)?, hex(number, 1)?);
            let devfn = (device < 32 && number < 8).then_some(device << 3 | number)?;
            Some(Self { segment, bus: bus as u8, devfn: devfn as u8 })
        };
        parse().ok_or(NoFunction)
    }

    /// Device number, 0 to 31.
    pub const fn device(self) -> u8 {
        self.devfn >> 3
    }

    /// Function number, 0 to 7.
    pub const fn number(self) -> u8 {
        self.devfn & 7
    }

    /// The requester ID of its requests: bus number in the upper byte, device and function number in the lower (2.2.6.2).
    pub const fn requester_id(self) -> u16 {
        u16::from_be_bytes([self.bus, self.devfn])
    }

    /// The function of `segment` that has this requester ID.
    pub const fn from_requester_id(segment: u32, id: u16) -> Self {
        let [bus, devfn] = id.to_be_bytes();
        Self { segment, bus, devfn }
    }
}

/// Reads up to `most` hexadecimal digits, five at most; a sign is not a digit.
fn hex(digits: &str, most: usize) -> Option<u32> {
    let is_number = digits.len() <= most && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| is_number)
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.segment, self.bus, self.device(), self.number())
    }
}

/// The text names no PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a PCI function is written like 0000:00:04.0")]
pub struct NoFunction;

/// Reads the full form. Parts may have fewer digits than [`Display`](fmt::Display) writes, but no more.
impl FromStr for Function {
    type Err = NoFunction;

    fn from_str(text: &str) -> Result<Self, NoFunction> {
        let (segment, rest) = text.split_once(':').ok_or(NoFunction)?;
        Self::in_segment(hex(segment, 5).ok_or(NoFunction)?, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACE: Function = Function { segment: 0, bus: 0, devfn: 0xF8 };

    #[test]
    fn a_function_is_written_as_lspci_writes_it() {
        assert_eq!("0000:00:1f.0".parse(), Ok(PLACE));
        assert_eq!(PLACE.to_string(), "0000:00:1f.0");
        for wrong in ["", "0:0:0", "0000:00:20.0", "0000:00:1f.8", "100000:00:00.0", "0000:100:00.0"] {
            assert_eq!(wrong.parse::<Function>(), Err(NoFunction), "{wrong}");
        }
    }

    #[test]
    fn a_domain_that_linux_made_up_has_five_digits() {
        let behind = Function { segment: 0x10000, bus: 0xE1, devfn: 0 };
        assert_eq!("10000:e1:00.0".parse(), Ok(behind));
        assert_eq!(behind.to_string(), "10000:e1:00.0");
    }

    #[test]
    fn digits_may_be_missing_but_not_parts() {
        assert_eq!("0:0:1f.0".parse(), Ok(PLACE));
        assert_eq!(Function::in_segment(3, "0:1f.0"), Ok(Function { segment: 3, ..PLACE }));
        for wrong in
            ["00:1f.0", ":00:1f.0", "0000::1f.0", "0000:00:.0", "0000:00:1f.", "0000:00:1f", "é:é:é.é"]
        {
            assert_eq!(wrong.parse::<Function>(), Err(NoFunction), "{wrong}");
        }
    }

    /// Parsers of numbers take a sign, which no function has.
    #[test]
    fn signs_spaces_and_what_follows_are_no_part_of_a_function() {
        for wrong in [
            "+0:00:1f.0",
            "0000:+0:1f.0",
            " 0000:00:1f.0",
            "0000:00:1f.0 ",
            "0000:00:1f.00",
            "0000:00:1f.0:0",
        ] {
            assert_eq!(wrong.parse::<Function>(), Err(NoFunction), "{wrong}");
        }
    }

    #[test]
    fn a_full_form_is_no_short_one() {
        assert_eq!(Function::in_segment(0, "0000:00:1f.0"), Err(NoFunction));
    }

    fn any_function() -> impl Strategy<Value = Function> {
        (0..0x10_0000_u32, any::<u8>(), any::<u8>()).prop_map(|(segment, bus, devfn)| Function {
            segment,
            bus,
            devfn,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(function in any_function()) {
            let text = function.to_string();
            prop_assert_eq!(text.parse(), Ok(function));
            prop_assert_eq!(Function::in_segment(function.segment, &text[text.find(':').unwrap() + 1..]), Ok(function));
            prop_assert_eq!(Function::from_requester_id(function.segment, function.requester_id()), function);
        }

        #[test]
        fn what_is_read_is_written_with_all_its_digits(text in "[0-9a-fA-F]{0,6}:[0-9a-f]{0,3}:[0-9a-f]{0,3}[.][0-9]{0,2}") {
            if let Ok(function) = text.parse::<Function>() {
                prop_assert_eq!(function.to_string().parse(), Ok(function));
                prop_assert!(text.len() <= "10000:00:1f.0".len());
            }
        }
    }
}
