//! Scenario files: a machine and what it was doing when its kernel died, in a dozen lines of TOML.
//!
//! Everything that a file can get wrong is an [`Error`] with the line it is in.

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

/// A file that is no scenario, or one that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Error {
    /// Where, counted from one.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// A scenario as its file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// What it is called.
    pub title: String,
    /// What happens in it, in a sentence or two.
    #[serde(default)]
    pub story: String,
    /// How much memory the machine has; it starts at address zero.
    pub memory: Spanned<Size>,
    /// Where in it the capture kernel lives, as Linux writes it: `16M@128M`.
    pub reservation: Spanned<Reservation>,
    /// The form of the old kernel's tables.
    #[serde(default)]
    pub mode: Mode,
    /// Page frames that the takeover may use; a quarter of the reservation if not said.
    pub budget: Option<usize>,
    /// The device that the capture kernel writes its dump to.
    pub disk: Spanned<Source>,
    /// What became of the old kernel's tables before it died.
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
}

/// How the remapping unit behaves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UnitSection {
    /// What its invalidation queue was doing.
    #[serde(default)]
    pub queue: Queue,
    /// What it never does, however long one waits.
    #[serde(default)]
    pub stuck: Vec<Chore>,
}

/// What the invalidation queue was doing when the kernel died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// Nothing: all was done.
    #[default]
    Idle,
    /// There is none: the old kernel used registers.
    None,
    /// Some descriptors were still to be done.
    Busy,
    /// It had stopped at a descriptor that it could not execute.
    Stopped,
}

/// Something that a unit does on command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chore {
    /// Take a new root table.
    TakeRoot,
    /// Turn the invalidation queue on or off.
    SwitchQueue,
    /// Fetch a descriptor from the queue.
    FetchDescriptor,
    /// Forget what is cached of contexts.
    ForgetContexts,
    /// Forget what is cached of translations.
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

/// A device that goes on when the kernel is dead.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Device {
    /// Bus, device and function.
    pub at: Spanned<Source>,
    /// What people call it.
    pub name: String,
    /// Whose I/O address space it uses.
    pub domain: Spanned<Attached>,
    /// Addresses at which it goes on reading and writing, as it knows them.
    #[serde(default)]
    pub dma: Vec<u64>,
    /// Whether it keeps translations itself (ATS), and what it does when it is told to forget them.
    pub device_tlb: Option<DeviceTlb>,
    /// How often it does, compared with others.
    #[serde(default = "once")]
    pub busy: Spanned<usize>,
}

/// A device that keeps translations itself, when it is told to forget them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceTlb {
    /// It forgets them.
    Obeys,
    /// It says nothing, and keeps them.
    KeepsSilent,
}

fn once() -> Spanned<usize> {
    Spanned::new(0..0, 1)
}

/// What a device uses.
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

/// The number of the line that has the byte at `offset`.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
