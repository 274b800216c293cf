//! The command line's options; ARCHITECTURE.md lists them.

use kdump::Codec;

use crate::serial::Serial;
use pci::Function;

/// What the command line asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// `elfcorehdr=`: address of the dead kernel's core header.
    pub elfcorehdr: Option<u64>,
    /// `acpi_rsdp=`: address of ACPI's root pointer.
    pub acpi_rsdp: Option<u64>,
    /// `holdover.area=`: the dump area's UUID.
    pub area: Option<&'a str>,
    /// The offset of its label on the disk, in bytes.
    pub area_offset: u64,
    /// `holdover.disk=`: the disk's PCI function.
    pub disk: Option<Function>,
    /// `holdover.level=`: which pages to leave out.
    pub level: Option<u8>,
    /// `holdover.codec=`: how to compress pages.
    pub codec: Option<Codec>,
    /// `console=`: the last serial port named.
    pub console: Option<Serial>,
}

impl<'a> Options<'a> {
    /// Reads the options; words that are not understood are somebody else's.
    pub fn parse(command_line: &'a str) -> Self {
        let mut options = Self::default();
        for (key, value) in command_line.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            options.set(key, value);
        }
        options
    }

    fn set(&mut self, key: &str, value: &'a str) {
        match key {
            // Linux also takes `SIZE@ADDRESS`.
            "elfcorehdr" => self.elfcorehdr = value.rsplit('@').next().and_then(number),
            "acpi_rsdp" => self.acpi_rsdp = number(value),
            "holdover.area" => self.set_area(value),
            "holdover.disk" => self.disk = value.parse().ok(),
            "holdover.level" => self.level = value.parse().ok().filter(|level| *level <= 31),
            "holdover.codec" => self.codec = Codec::named(value, Codec::EVERYWHERE),
            "console" => self.console = Serial::named(value).or(self.console),
            _ => {}
        }
    }

    fn set_area(&mut self, value: &'a str) {
        let (uuid, offset) = value.split_once('@').unwrap_or((value, "0"));
        // An offset that cannot be read must not fall back to another place on the disk.
        self.area = number(offset).map(|offset| {
            self.area_offset = offset;
            uuid
        });
    }
}

/// Reads a number as Linux does: decimal or `0x…`, with a suffix K, M or G.
fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok()?,
        None => digits.parse().ok()?,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_loaders_ways_to_name_the_core_header_are_read() {
        assert_eq!(Options::parse("elfcorehdr=0x2e000000 quiet").elfcorehdr, Some(0x2e00_0000));
        assert_eq!(Options::parse("acpi_rsdp=0xf58d0 elfcorehdr=1015156K").elfcorehdr, Some(1015156 << 10));
    }

    #[test]
    fn an_area_has_a_place_on_the_disk_or_starts_it() {
        let options = Options::parse("holdover.area=1234@1M");
        assert_eq!((options.area, options.area_offset), (Some("1234"), 1 << 20));
        assert_eq!(Options::parse("holdover.area=1234").area_offset, 0);
        assert_eq!(Options::parse("holdover.area=1234@nowhere").area, None);
    }

    #[test]
    fn a_codec_is_one_that_needs_no_operating_system() {
        assert_eq!(Options::parse("holdover.codec=lzo").codec, Some(Codec::Lzo));
        assert_eq!(Options::parse("holdover.codec=zstd").codec, Some(Codec::Zstd));
        assert_eq!(Options::parse("holdover.codec=snappy").codec, None);
    }

    #[test]
    fn nonsense_is_no_option() {
        let options = Options::parse(
            "elfcorehdr= holdover.level=32 holdover.disk=x holdover.codec= console=tty0 elfcorehdr=0xK",
        );
        assert_eq!(options, Options::default());
        assert_eq!(number("99999999999999999G"), None);
    }
}
