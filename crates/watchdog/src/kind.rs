//! The kinds of watchdogs, and their names.

use core::fmt;

/// A kind of watchdog that this crate keeps quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The one that ACPI's table WDAT describes.
    Wdat,
    /// Intel's TCO timer.
    Tco,
    /// Intel's 6300ESB.
    I6300esb,
    /// A baseboard management controller's.
    Ipmi,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Wdat, Self::Tco, Self::I6300esb, Self::Ipmi];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wdat => "wdat",
            Self::Tco => "itco",
            Self::I6300esb => "i6300esb",
            Self::Ipmi => "ipmi",
        }
    }

    /// The kind that a driver of Linux gives this identity in `/sys/class/watchdog`.
    pub fn of_identity(identity: &str) -> Option<Self> {
        match identity {
            "wdat_wdt" => Some(Self::Wdat),
            "iTCO_wdt" => Some(Self::Tco),
            "i6300ESB timer" => Some(Self::I6300esb),
            "IPMI" => Some(Self::Ipmi),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Some of the kinds, written with commas between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds([bool; Kind::ALL.len()]);

impl Kinds {
    /// Reads names with commas between them; names that are not known are left out.
    pub fn parse(text: &str) -> Self {
        let named = |kind: &Kind| text.split(',').any(|name| name == kind.name());
        Kind::ALL.into_iter().filter(named).fold(Self::default(), Self::with)
    }

    /// These, and `kind`.
    pub fn with(mut self, kind: Kind) -> Self {
        self.0[kind as usize] = true;
        self
    }

    /// Whether this kind is one of them.
    pub fn contains(self, kind: Kind) -> bool {
        self.0[kind as usize]
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Each of them, in the order of [`Kind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, kind) in self.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{kind}")?;
        }
        Ok(())
    }
}
