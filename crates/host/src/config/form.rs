//! The form of values in the configuration: how each is read, and what is refused.
//!
//! A refusal is an error of the reader's, which knows the line.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Bytes;

/// Dump areas: UUIDs, or absolute paths of devices and files.
pub(super) mod areas {
    use serde::Serializer;

    use super::{AbsolutePath, Deserialize, Deserializer, Error};
    use crate::areas::AreaName;
    use crate::load::MOST_AREAS;

    pub(in super::super) fn serialize<S: Serializer>(areas: &[AreaName], into: S) -> Result<S::Ok, S::Error> {
        into.collect_seq(areas.iter().map(ToString::to_string))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<AreaName>, D::Error> {
        let areas = Vec::<String>::deserialize(from)?;
        let areas = areas.iter().map(|text| area(text)).collect::<Result<Vec<_>, _>>()?;
        if areas.len() > MOST_AREAS {
            return Err(D::Error::custom(format!(
                "there are {} areas, and at most {MOST_AREAS} are tried",
                areas.len()
            )));
        }
        match areas.iter().enumerate().find(|(at, area)| areas[..*at].contains(area)) {
            Some((_, twice)) => Err(D::Error::custom(format!("{twice} is named twice"))),
            None => Ok(areas),
        }
    }

    /// Reads a name; a path must be one from the root.
    fn area<E: Error>(text: &str) -> Result<AreaName, E> {
        let Ok(name) = text.parse();
        if let AreaName::Device(path) = &name {
            AbsolutePath::check::<E>(path)?;
        }
        Ok(name)
    }
}

/// Dump levels, from 0 to 31.
pub(super) mod level {
    use serde::Serializer;
    use vmcore::Level;

    use super::{Deserialize, Deserializer, Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(in super::super) fn serialize<S: Serializer>(level: &Level, into: S) -> Result<S::Ok, S::Error> {
        into.serialize_u8(level.number())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Level, D::Error> {
        let number = i64::deserialize(from)?;
        let level = u8::try_from(number).ok().and_then(Level::new);
        level.ok_or_else(|| D::Error::custom(format!("{number} is no level: they go from 0 to 31")))
    }
}

/// The codecs that the capture kernel knows, by their names.
pub(super) mod codec {
    use kdump::Codec;
    use serde::Serializer;

    use super::{Deserialize, Deserializer, Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(in super::super) fn serialize<S: Serializer>(codec: &Codec, into: S) -> Result<S::Ok, S::Error> {
        into.serialize_str(codec.name())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Codec, D::Error> {
        let name = String::deserialize(from)?;
        Codec::named(&name, Codec::EVERYWHERE).ok_or_else(|| {
            let names: Vec<_> = Codec::EVERYWHERE.iter().map(|codec| codec.name()).collect();
            D::Error::custom(format!("{name:?} is no codec: there are {}", names.join(", ")))
        })
    }
}

/// When the machine is handed over to the fallback kernel.
pub(super) mod hand_over {
    use handoff::HandOver;
    use serde::Serializer;

    use super::{Deserialize, Deserializer, Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(in super::super) fn serialize<S: Serializer>(when: &HandOver, into: S) -> Result<S::Ok, S::Error> {
        into.serialize_str(when.name())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HandOver, D::Error> {
        let name = String::deserialize(from)?;
        HandOver::named(&name)
            .ok_or_else(|| D::Error::custom(format!("{name:?} is neither \"when-needed\" nor \"always\"")))
    }
}

/// A path from the root: services have no folder of their own from which another would begin.
#[derive(Deserialize)]
struct AbsolutePath(PathBuf);

impl AbsolutePath {
    fn check<E: Error>(path: &Path) -> Result<&Path, E> {
        if path.is_absolute() {
            return Ok(path);
        }
        Err(E::custom(format!("{:?} must begin with a slash: it is a path from the root", path.display())))
    }
}

pub(super) fn folder<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let AbsolutePath(path) = AbsolutePath::deserialize(from)?;
    AbsolutePath::check::<D::Error>(&path)?;
    Ok(path)
}

pub(super) fn absolute_path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    folder(from).map(Some)
}

/// A number of at least one.
pub(super) fn some_count<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number = i64::deserialize(from)?;
    let count = u32::try_from(number).ok().filter(|count| *count > 0);
    count.ok_or_else(|| D::Error::custom(format!("{number} is no count: it begins with 1")))
}

pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    some_count(from).map(Some)
}

/// A size: bytes as a number, or a text such as "20 GiB".
pub(super) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
    from.deserialize_any(Size).map(Some)
}

struct Size;

impl Visitor<'_> for Size {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"20 GiB\"")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Bytes, E> {
        u64::try_from(number).map(Bytes).map_err(|_| E::custom(format!("{number} is no size")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        text.parse().map_err(E::custom)
    }
}

/// Where copies go.
pub(super) mod targets {
    use delivery::Target;
    use serde::Serializer;

    use super::{Deserialize, Deserializer, Error};

    pub(in super::super) fn serialize<S: Serializer>(targets: &[Target], into: S) -> Result<S::Ok, S::Error> {
        into.collect_seq(targets.iter().map(ToString::to_string))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Target>, D::Error> {
        let targets = Vec::<String>::deserialize(from)?;
        targets.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// A web address. What goes there is nobody else's business: only what stays on this host may go unencrypted.
pub(super) fn web_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let address = String::deserialize(from)?;
    let Some((scheme @ ("http" | "https"), rest)) = address.split_once("://") else {
        return Err(D::Error::custom(format!("{address:?} is no address: it must begin with https://")));
    };
    // Behind the host there may be secrets.
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if place.is_empty() {
        return Err(D::Error::custom(format!("{address:?} is no address: it names no host")));
    }
    if scheme == "https" || is_loopback(place) {
        return Ok(Some(address));
    }
    let host = place.rsplit('@').next().unwrap_or_default();
    Err(D::Error::custom(format!(
        "\"http://{host}\" is not encrypted: it must begin with https://, unless its host is localhost"
    )))
}

/// Whether a host, with or without a port, is this one.
fn is_loopback(place: &str) -> bool {
    let without_port =
        place.rsplit_once(':').filter(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit()));
    let host = without_port.map_or(place, |(host, _)| host);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
