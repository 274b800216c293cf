//! Scenario files: a machine and its activity when its kernel died, in a dozen lines of TOML.
//!
//! Every mistake in a file gives an [`Error`] with its line.

mod damage;
mod mapping;
mod quantity;
mod source;

use serde::Deserialize;
use toml::Spanned;

pub use damage::{Aim, Damage, Entry};
pub use mapping::{Mapping, Rights};
pub use quantity::{Reservation, Size};
pub use source::Source;

/// A file that is no scenario, or one that describes an impossible machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Error {
    /// The line, counted from one.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// The content of a scenario file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// Its title.
    pub title: String,
    /// What happens in it, in a sentence or two.
    #[serde(default)]
    pub story: String,
    /// The size of the machine's memory, which starts at address zero.
    pub memory: Spanned<Size>,
    /// The capture kernel's memory, as Linux writes it: `16M@128M`.
    pub reservation: Spanned<Reservation>,
    /// The form of the old kernel's tables.
    #[serde(default)]
    pub mode: Mode,
    /// Page frames that the takeover may use; a quarter of the reservation by default.
    pub budget: Option<usize>,
    /// The device that the capture kernel writes its dump to.
    pub disk: Spanned<Source>,
    /// Damage to the old kernel's tables before it died.
    #[serde(default)]
    pub damage: Vec<Spanned<Damage>>,
    /// The remapping unit.
    #[serde(default)]
    pub unit: UnitSection,
    /// The old kernel's domains.
    #[serde(default, rename = "domain")]
    pub domains: Vec<Domain>,
    /// The devices.
    #[serde(default, rename = "device")]
    pub devices: Vec<Device>,
}

/// The form of the old kernel's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Root, context and page tables.
    #[default]
    Legacy,
    /// Root, context, PASID and page tables.
    Scalable,
    /// AMD's IOMMU: a device table and host tables.
    AmdVi,
}

/// How the remapping unit behaves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UnitSection {
    /// What its invalidation queue was doing.
    #[serde(default)]
    pub queue: Queue,
    /// Commands that it never finishes.
    #[serde(default)]
    pub stuck: Vec<Spanned<Chore>>,
}

/// What the invalidation queue was doing when the kernel died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// Nothing: it had executed all descriptors.
    #[default]
    Idle,
    /// There was none: the old kernel invalidated by registers.
    None,
    /// Some descriptors were pending.
    Busy,
    /// It had stopped at a descriptor that it could not execute.
    Stopped,
}

/// Something that a unit does on command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chore {
    /// Take a new root table; no chore of AMD's.
    TakeRoot,
    /// Turn the invalidation queue on or off.
    SwitchQueue,
    /// Fetch a descriptor from the queue.
    FetchDescriptor,
    /// Invalidate the context cache.
    ForgetContexts,
    /// Invalidate cached translations.
    ForgetTranslations,
}

/// An I/O address space.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Domain {
    /// Its domain-id.
    pub id: Spanned<u16>,
    /// How many bits its addresses have.
    #[serde(default = "usual_width")]
    pub width: Spanned<u32>,
    /// What it maps.
    #[serde(default)]
    pub map: Vec<Spanned<Mapping>>,
}

fn usual_width() -> Spanned<u32> {
    Spanned::new(0..0, 39)
}

/// A device that continues its work when the kernel is dead.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Device {
    /// Bus, device and function.
    pub at: Spanned<Source>,
    /// Its name for people.
    pub name: String,
    /// The I/O address space that it uses.
    pub domain: Spanned<Attached>,
    /// I/O addresses at which it continues to read and write.
    #[serde(default)]
    pub dma: Vec<u64>,
    /// Whether it has a device-TLB (ATS), and how it answers an invalidation.
    pub device_tlb: Option<DeviceTlb>,
    /// How often it does DMA, compared with other devices.
    #[serde(default = "once")]
    pub busy: Spanned<usize>,
}

/// How a device with a device-TLB answers an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceTlb {
    /// It invalidates its translations.
    Obeys,
    /// It keeps them and does not answer.
    KeepsSilent,
}

fn once() -> Spanned<usize> {
    Spanned::new(0..0, 1)
}

/// The addresses that a device uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "NumberOrWord")]
pub enum Attached {
    /// The domain with this id.
    To(u16),
    /// Physical addresses.
    PassThrough,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a domain-id or \"pass-through\"")]
enum NumberOrWord {
    Number(u16),
    Word(PassThrough),
}

#[derive(Deserialize)]
enum PassThrough {
    #[serde(rename = "pass-through")]
    PassThrough,
}

impl From<NumberOrWord> for Attached {
    fn from(value: NumberOrWord) -> Self {
        match value {
            NumberOrWord::Number(id) => Self::To(id),
            NumberOrWord::Word(PassThrough::PassThrough) => Self::PassThrough,
        }
    }
}

impl File {
    /// Reads a scenario file.
    pub fn parse(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            Error { line: line_of(text, at), what: error.message().to_owned() }
        })
    }
}

/// The number of the line that contains the byte at `offset`.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
