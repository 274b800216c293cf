//! The output of `holdover inspect --json`, as far as it is compared.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, de};

use super::super::tables::Run;
use crate::machines::scenario::device::source_id_of;

/// All that is said of a dump.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    /// Whether everything could be told.
    pub(super) whole: bool,
    /// Counts of the takeover.
    pub(super) counts: BTreeMap<String, u64>,
    /// The remapping units.
    units: Vec<SaidUnit>,
}

/// A remapping unit.
#[derive(Debug, Deserialize)]
pub(super) struct SaidUnit {
    /// The results for its contexts.
    pub(super) takeover: Option<Takeover>,
    /// What devices reached by the dead kernel's tables.
    pub(super) reach: Option<Reach>,
}

/// The record of a takeover.
#[derive(Debug, Deserialize)]
pub(super) struct Takeover {
    /// The register as it was found.
    #[serde(deserialize_with = "hex")]
    pub(super) old_root: u64,
    /// The register as it was left.
    #[serde(deserialize_with = "hex")]
    pub(super) new_root: u64,
    /// Entries that said how requests are translated.
    pub(super) contexts: Vec<User>,
}

/// What the dead kernel's tables say.
#[derive(Debug, Deserialize)]
pub(super) struct Reach {
    /// The ways of translation.
    routes: Vec<Route>,
}

/// A way of translation.
#[derive(Debug, Deserialize)]
pub(super) struct Route {
    /// The users of the route.
    users: Vec<User>,
    runs: Vec<RunSaid>,
}

/// A source of requests, or several that follow each other.
#[derive(Debug, Deserialize)]
pub(super) struct User {
    /// Bus, device and function.
    pub(super) device: String,
    /// The last of them, if there are several.
    last: Option<String>,
    /// None in requests that carry none.
    pub(super) pasid: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct RunSaid {
    #[serde(deserialize_with = "hex")]
    iova: u64,
    bytes: u64,
    #[serde(deserialize_with = "hex_or_null")]
    physical: Option<u64>,
    rights: Option<String>,
}

impl Said {
    /// Parses the printed text.
    pub(super) fn read(printed: &str) -> Result<Self> {
        serde_json::from_str(printed).context("`holdover inspect` printed no JSON, or another form of it")
    }

    /// The only unit that a machine of the bench has.
    pub(super) fn unit(&self) -> Result<&SaidUnit> {
        self.units.first().context("`holdover inspect` names no remapping unit")
    }
}

impl Reach {
    /// What each function reaches in requests without a PASID.
    pub(super) fn by_function(&self) -> Result<BTreeMap<u16, Vec<Run>>> {
        let mut by_function = BTreeMap::new();
        for route in &self.routes {
            for user in route.users.iter().filter(|user| user.pasid.is_none()) {
                by_function.extend(user.functions()?.map(|function| (function, route.memory())));
            }
        }
        Ok(by_function)
    }
}

impl User {
    fn functions(&self) -> Result<RangeInclusive<u16>> {
        let last = self.last.as_ref().unwrap_or(&self.device);
        let function = |name: &str| source_id_of(name).with_context(|| format!("{name} is no function"));
        Ok(function(&self.device)?..=function(last)?)
    }
}

impl Route {
    /// What leads to memory. What faults, or what nobody knows of, does not.
    fn memory(&self) -> Vec<Run> {
        self.runs.iter().filter_map(RunSaid::memory).collect()
    }
}

impl RunSaid {
    fn memory(&self) -> Option<Run> {
        let writable = self.rights.as_ref()?.contains('w');
        Some(Run { iova: self.iova, address: self.physical?, len: self.bytes, writable })
    }
}

fn hex<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    number(&String::deserialize(from)?).map_err(de::Error::custom)
}

fn hex_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| number(&text).map_err(de::Error::custom)).transpose()
}

fn number(text: &str) -> Result<u64> {
    let digits = text.strip_prefix("0x").with_context(|| format!("`{text}` is no address"))?;
    Ok(u64::from_str_radix(digits, 16)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_read_for_every_function_that_shares_them() {
        let said: Reach = serde_json::from_str(
            r#"{ "routes": [{
                "users": [
                    { "device": "00:14.0", "pasid": null, "domain": 3 },
                    { "device": "00:15.0", "pasid": null, "domain": 3 },
                    { "device": "00:16.0", "pasid": 5, "domain": 3 },
                    { "device": "00:17.0", "last": "00:17.2", "pasid": null, "domain": 0 }
                ],
                "runs": [
                    { "iova": "0x1000", "physical": "0x9000", "bytes": 4096, "rights": "r", "obstacle": null },
                    { "iova": "0x5000", "physical": null, "bytes": 4096, "rights": null, "obstacle": "unknown" }
                ]
            }] }"#,
        )
        .unwrap();
        let run = vec![Run { iova: 0x1000, address: 0x9000, len: 4096, writable: false }];
        let expected = [0xA0, 0xA8, 0xB8, 0xB9, 0xBA].map(|function| (function, run.clone()));
        assert_eq!(said.by_function().unwrap(), BTreeMap::from(expected));
    }

    #[test]
    fn an_address_that_is_not_in_hexadecimal_is_an_error() {
        assert_eq!(number("0x100fa7400").unwrap(), 0x1_00fa_7400);
        assert!(number("4096").is_err());
    }
}
