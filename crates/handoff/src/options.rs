//! The capture kernel's command line.

use core::fmt;

use kdump::Codec;
use vmcore::Level;
use watchdog::{KcsPlace, Kinds};

use crate::{Areas, HandOver, SerialConsole, Uncollected};

/// The options of the capture kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `elfcorehdr=ADDRESS`: the dead kernel's core header. kexec's loader adds it, and it marks a crash kernel.
    pub elfcorehdr: Option<u64>,
    /// `acpi_rsdp=ADDRESS`: ACPI's root pointer, always in hexadecimal. `kexec -c` adds it too, from the same place.
    pub acpi_rsdp: Option<u64>,
    /// `holdover.area=UUID[@OFFSET][/FUNCTION],…`: the dump areas, in the order in which they are tried.
    pub areas: Areas,
    /// `holdover.uncollected=keep|discard`: what becomes of a dump in an area that no host has collected.
    pub uncollected: Uncollected,
    /// `holdover.level=0…31`: which pages to leave out.
    pub level: Option<Level>,
    /// `holdover.codec=NAME`: how to compress pages, one of [`Codec::EVERYWHERE`].
    pub codec: Option<Codec>,
    /// `holdover.watchdog=KIND,…`: the watchdogs that were armed when the capture kernel was loaded.
    pub watchdog: Kinds,
    /// `holdover.ipmi=PORT[/SPACING]`: where to ask the baseboard management controller for its watchdog.
    pub ipmi: Option<KcsPlace>,
    /// `holdover.handover=when-needed|always`: when the machine is handed over to the fallback kernel, if there is one.
    pub hand_over: HandOver,
    /// `console=ttyS0[,BAUD]`: the last serial port that is named.
    pub console: Option<SerialConsole>,
}

impl Options {
    /// Reads the options of a command line. If an option occurs twice, the last one counts. Unknown words are ignored,
    /// because Linux's own options may be there.
    pub fn parse(command_line: &str) -> Self {
        let mut options = Self::default();
        for (key, value) in command_line.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            options.set(key, value);
        }
        options
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            // Linux also takes `SIZE@ADDRESS`.
            "elfcorehdr" => self.elfcorehdr = value.rsplit('@').next().and_then(number),
            "acpi_rsdp" => self.acpi_rsdp = hexadecimal(value),
            "holdover.area" => self.areas = Areas::parse(value),
            "holdover.uncollected" => self.uncollected = Uncollected::parse(value),
            "holdover.level" => self.level = value.parse().ok().and_then(Level::new),
            "holdover.codec" => self.codec = Codec::named(value, Codec::EVERYWHERE),
            "holdover.watchdog" => self.watchdog = Kinds::parse(value),
            "holdover.ipmi" => self.ipmi = KcsPlace::parse(value),
            "holdover.handover" => self.hand_over = HandOver::named(value).unwrap_or_default(),
            "console" => self.console = SerialConsole::parse(value).or(self.console),
            _ => {}
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            elfcorehdr,
            acpi_rsdp,
            areas,
            uncollected,
            level,
            codec,
            watchdog,
            ipmi,
            hand_over,
            console,
        } = self;
        let mut words = Words { f, begun: false };
        words.add("elfcorehdr", elfcorehdr.map(Hexadecimal))?;
        words.add("acpi_rsdp", acpi_rsdp.map(Hexadecimal))?;
        words.add("holdover.area", Some(*areas).filter(|areas| !areas.is_empty()))?;
        words.add("holdover.uncollected", Some(*uncollected).filter(|what| *what != Uncollected::Keep))?;
        words.add("holdover.level", level.map(Level::number))?;
        words.add("holdover.codec", codec.map(Codec::name))?;
        words.add("holdover.watchdog", Some(*watchdog).filter(|armed| !armed.is_empty()))?;
        words.add("holdover.ipmi", *ipmi)?;
        words.add("holdover.handover", Some(*hand_over).filter(|when| *when != HandOver::WhenNeeded))?;
        words.add("console", *console)
    }
}

/// An address, written in hexadecimal.
struct Hexadecimal(u64);

impl fmt::Display for Hexadecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Words `key=value`, with a space between each two.
struct Words<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    begun: bool,
}

impl Words<'_, '_> {
    fn add(&mut self, key: &str, value: Option<impl fmt::Display>) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        let space = if core::mem::replace(&mut self.begun, true) { " " } else { "" };
        write!(self.f, "{space}{key}={value}")
    }
}

/// Reads an address that is hexadecimal with or without `0x`.
fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    // The library's function takes a sign as well.
    u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}

/// Reads a number as Linux does: decimal or `0x…`, with a suffix K, M or G.
pub(crate) fn number(text: &str) -> Option<u64> {
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
    use pci::Function;
    use proptest::prelude::*;
    use uuid::Uuid;
    use watchdog::Kind;

    use super::*;
    use crate::AreaAddress;

    const UUID: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    const UUID_TEXT: &str = "01234567-89ab-cdef-0123-456789abcdef";

    /// The form is the one in ARCHITECTURE.md.
    #[test]
    fn the_command_line_has_the_documented_form() {
        let options = Options {
            areas: Areas::from_iter([
                AreaAddress { uuid: UUID, offset: 1 << 20, disk: "0000:00:04.0".parse().ok() },
                AreaAddress { uuid: UUID, offset: 0, disk: None },
            ]),
            uncollected: Uncollected::Discard,
            level: Some(Level::ALL),
            codec: Some(Codec::Lzo),
            watchdog: Kinds::default().with(Kind::Ipmi).with(Kind::Tco),
            ipmi: KcsPlace::new(0xCA2, 1),
            hand_over: HandOver::Always,
            console: SerialConsole::new(0, Some(115_200)),
            ..Options::default()
        };
        let expected = "holdover.area=01234567-89ab-cdef-0123-456789abcdef@1048576/0000:00:04.0,\
             01234567-89ab-cdef-0123-456789abcdef@0 holdover.uncollected=discard \
             holdover.level=31 holdover.codec=lzo holdover.watchdog=itco,ipmi holdover.ipmi=0xca2/1 \
             holdover.handover=always console=ttyS0,115200";
        assert_eq!(options.to_string(), expected);
    }

    #[test]
    fn both_loaders_ways_to_name_the_core_header_are_read() {
        assert_eq!(Options::parse("elfcorehdr=0x2e000000 quiet").elfcorehdr, Some(0x2e00_0000));
        assert_eq!(Options::parse("elfcorehdr=64K@0x2e000000").elfcorehdr, Some(0x2e00_0000));
        assert_eq!(Options::parse("acpi_rsdp=0xf58d0 elfcorehdr=1015156K").elfcorehdr, Some(1015156 << 10));
    }

    /// Linux reads it so (`kstrtoull` with base 16), and so it prints addresses.
    #[test]
    fn the_root_pointer_is_hexadecimal_whatever_it_begins_with() {
        let root = |value: &str| Options::parse(&format!("acpi_rsdp={value}")).acpi_rsdp;
        assert_eq!(
            [root("0x7f77e014"), root("7f77e014"), root("0X12345678")],
            [Some(0x7f77_e014), Some(0x7f77_e014), Some(0x1234_5678)]
        );
        assert_eq!(root("12345678"), Some(0x1234_5678));
        assert_eq!(
            [root(""), root("0x"), root("+1"), root("1K"), root("0x0x1"), root("11112222333344445")],
            [None; 6]
        );
    }

    #[test]
    fn an_area_has_a_place_on_the_disk_or_starts_it() {
        let area =
            |rest: &str| Options::parse(&format!("holdover.area={UUID_TEXT}{rest}")).areas.iter().next();
        assert_eq!(area("@1M"), Some(AreaAddress { uuid: UUID, offset: 1 << 20, disk: None }));
        assert_eq!(area(""), Some(AreaAddress { uuid: UUID, offset: 0, disk: None }));
        let disk = "0000:03:00.1".parse().ok();
        assert_eq!(area("@1M/0000:03:00.1"), Some(AreaAddress { uuid: UUID, offset: 1 << 20, disk }));
        assert_eq!(area("/x"), Some(AreaAddress { uuid: UUID, offset: 0, disk: None }));
        assert_eq!(area("@nowhere"), None);
        assert!(Options::parse("holdover.area=1234@1M").areas.is_empty());
    }

    #[test]
    fn areas_keep_their_order_and_one_that_cannot_be_read_takes_no_other_with_it() {
        let list = |text: &str| Options::parse(&format!("holdover.area={text}")).areas;
        let offsets = |text: &str| list(text).iter().map(|area| area.offset).collect::<Vec<_>>();
        let (one, two) = (format!("{UUID_TEXT}@4096"), format!("{UUID_TEXT}@8192"));
        assert_eq!(offsets(&format!("{two},{one}")), [8192, 4096]);
        assert_eq!(offsets(&format!("{UUID_TEXT}@nowhere,{one}")), [4096]);
        assert_eq!(offsets(&[one.as_str(); Areas::MOST + 1].join(",")), [4096; Areas::MOST]);
    }

    /// `elfcorehdr=` and others have to fit beside them (COMMAND_LINE_SIZE is 2048).
    #[test]
    fn a_command_line_has_room_for_all_areas() {
        let disk = "ffff:ff:1f.7".parse().ok();
        let area = AreaAddress { uuid: UUID, offset: u64::MAX, disk };
        assert!(Areas::from_iter([area; Areas::MOST]).to_string().len() < 300);
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
            "elfcorehdr= holdover.level=32 holdover.area=x,,y holdover.uncollected=x holdover.codec= console=tty0 elfcorehdr=0xK",
        );
        assert_eq!(options, Options::default());
        assert_eq!(number("99999999999999999G"), None);
    }

    fn any_area() -> impl Strategy<Value = AreaAddress> {
        let disk = proptest::option::of(any_disk());
        (any::<u128>(), any::<u64>(), disk).prop_map(|(uuid, offset, disk)| AreaAddress {
            uuid: Uuid::from_u128(uuid),
            offset,
            disk,
        })
    }

    fn any_areas() -> impl Strategy<Value = Areas> {
        proptest::collection::vec(any_area(), 0..=Areas::MOST).prop_map(Areas::from_iter)
    }

    fn any_uncollected() -> impl Strategy<Value = Uncollected> {
        proptest::sample::select([Uncollected::Keep, Uncollected::Discard].as_slice())
    }

    fn any_disk() -> impl Strategy<Value = Function> {
        (0..0x10_0000_u32, any::<u8>(), any::<u8>()).prop_map(|(segment, bus, devfn)| Function {
            segment,
            bus,
            devfn,
        })
    }

    fn any_console() -> impl Strategy<Value = SerialConsole> {
        let baud = proptest::option::of(1..=SerialConsole::FASTEST);
        (0..SerialConsole::PORTS, baud)
            .prop_filter_map("no such port", |(port, baud)| SerialConsole::new(port, baud))
    }

    fn any_watchdogs() -> impl Strategy<Value = Kinds> {
        proptest::sample::subsequence(Kind::ALL.as_slice(), 0..=Kind::ALL.len())
            .prop_map(|kinds| kinds.into_iter().fold(Kinds::default(), Kinds::with))
    }

    fn any_ipmi() -> impl Strategy<Value = KcsPlace> {
        let spacing = proptest::sample::select([1, 4, 16].as_slice());
        (any::<u16>(), spacing)
            .prop_filter_map("no such place", |(port, spacing)| KcsPlace::new(port.into(), spacing))
    }

    fn any_hand_over() -> impl Strategy<Value = HandOver> {
        proptest::sample::select([HandOver::WhenNeeded, HandOver::Always].as_slice())
    }

    fn any_options() -> impl Strategy<Value = Options> {
        use proptest::option::of;
        let level = of((0..=31u8).prop_filter_map("no such level", Level::new));
        let codec = of(proptest::sample::select(Codec::EVERYWHERE));
        let dump = (any_areas(), any_uncollected(), level, codec);
        let machine = (any_watchdogs(), of(any_ipmi()), any_hand_over(), of(any_console()));
        (any::<[Option<u64>; 2]>(), dump, machine).prop_map(
            |(
                [elfcorehdr, acpi_rsdp],
                (areas, uncollected, level, codec),
                (watchdog, ipmi, hand_over, console),
            )| {
                Options {
                    elfcorehdr,
                    acpi_rsdp,
                    areas,
                    uncollected,
                    level,
                    codec,
                    watchdog,
                    ipmi,
                    hand_over,
                    console,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_the_host_composes_the_capture_kernel_reads(options in any_options()) {
            prop_assert_eq!(Options::parse(&options.to_string()), options);
        }

        /// Linux's own options may precede or follow.
        #[test]
        fn other_words_change_nothing(options in any_options(), other in "[a-z.]{0,8}(=[a-z,]{0,8})?( [a-z]{0,8})?") {
            prop_assume!(Options::parse(&other) == Options::default());
            prop_assert_eq!(Options::parse(&format!("{other} {options} quiet")), options);
        }

        /// Whatever is understood of a command line has one form.
        #[test]
        fn any_text_is_read_as_options_that_can_be_written(
            words in proptest::collection::vec(
                ("(elfcorehdr|acpi_rsdp|holdover[.](area|disk|level|codec|watchdog|ipmi)|console|.{0,4})", "=?", "[0-9a-fKMGx@:,./ttyS-]{0,20}|(itco|ipmi|wdat|,){0,4}|.{0,8}"),
                0..6,
            ),
        ) {
            let text: Vec<_> = words.iter().map(|(key, is, value)| format!("{key}{is}{value}")).collect();
            let options = Options::parse(&text.join(" "));
            prop_assert_eq!(Options::parse(&options.to_string()), options);
        }
    }
}
